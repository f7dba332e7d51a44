"""The streams that one execution of a command reads, with their states.

The first attempt takes the states from the cache, and reads only streams that aren't
cached. These states may be of different moments, and some may be older than the stream.
If the command then decides on events, the append proves that they were right: it
expects the version of each stream. If the command raises an exception, nothing proves
that. So `confirm` reads all streams as of one position. If there are new events, the
command decides again, on states of this position.

After a conflict, only the streams that have changed are read, from their last version.
"""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from eventbraid.command._categories import read_category
from eventbraid.command._discovery import discovery_limit, requests
from eventbraid.command._linked_append import LinkedAppend
from eventbraid.command._reading import declared_kinds, joined
from eventbraid.command._snapshots import save_snapshots
from eventbraid.command._stream_loading import StateLoader
from eventbraid.command._stream_states import fold_decision, keep_states, with_states

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from eventbraid._native import PendingAppend
    from eventbraid.command._cached_state import (
        CachedState,
        FoldedState,
        Kind,
        Members,
        States,
    )
    from eventbraid.command._command import Command
    from eventbraid.command._decision import Decision
    from eventbraid.command._discovery import DiscoveryBounds
    from eventbraid.command._port import Port
    from eventbraid.command._shared_state import SharedStates
    from eventbraid.command._state_cache import StateCache
    from eventbraid.command._typing import EventKinds
    from eventbraid.errors import VersionConflict
    from eventbraid.event import EventDecoder
    from eventbraid.store import Appended

    Wanted: TypeAlias = tuple[Kind, str]

_stream_id = itemgetter(1)

_STREAMS_A_LOOK = 64
"""The number of cached states that are looked up between two looks at the clock."""


class StateReading:
    """The streams of one execution, and their versions and states.

    Attributes:
        kinds: The streams that the command may write to, with the classes of their
            events.
        versions: The versions that the append expects.
        categories: The versions of categories that the append expects.
        position: The position of the log at which the streams were read; None if no
            stream was read.
        owner: The command whose handles may write: a copy that has the states.
    """

    __slots__ = (
        "_bounds",
        "_builds_on",
        "_cache",
        "_command",
        "_decoder",
        "_discovered",
        "_folded",
        "_generation",
        "_is_begun",
        "_is_snapshot",
        "_is_torn",
        "_link",
        "_links",
        "_members",
        "_required",
        "_states",
        "categories",
        "kinds",
        "owner",
        "position",
        "versions",
    )

    def __init__(
        self,
        command: Command,
        bounds: DiscoveryBounds,
        cache: StateCache,
        decoder: EventDecoder,
    ) -> None:
        """Begin without states.

        Args:
            command: The command.
            bounds: The limits of its discovery.
            cache: The states of streams that commands used before.
            decoder: The decoder of the events; that of the cache.
        """
        self._command = command
        self._bounds = bounds
        self._cache = cache
        self._decoder = decoder
        self._is_snapshot = False
        self._links = False
        self._required: dict[str, int] = {}
        # The kinds of the streams that earlier attempts have read, if there may be
        # other ones than the declared ones.
        self._discovered: dict[str, Kind] = {}
        self._generation = cache.registry.generation
        self._begin()

    def _begin(self) -> None:
        """Drop what was read; `_is_begun` is true until the next read."""
        self._states: States = {}
        self.kinds: dict[str, EventKinds] = declared_kinds(self._command)
        self.versions: dict[str, int] = {}
        self.categories: dict[str, int] = {}
        self._members: Members = {}
        # Whether a stream was read as two kinds, at two versions.
        self._is_torn = False
        # The appends of which states were used that aren't durable yet, by stream.
        self._builds_on: dict[str, PendingAppend] = {}
        self._folded: Sequence[FoldedState] = ()
        self._link: LinkedAppend | None = None
        self.position: int | None = None
        self.owner: Command = with_states(self._command, self._states, self._members)
        self._is_begun = True

    def cold_streams(self) -> Iterable[str]:
        """Return the declared streams whose states are not in the cache.

        Without a cache there are none: a command that waited for another one would not
        find the state afterwards, so all would only wait for each other's commits.
        """
        if not self._cache.limit:
            return
        for field in self._command.__shape__.declared:
            if field.kind.has_state:
                for stream in field.ids_of(self._command):
                    if not self._cache.has(field.kind, stream):
                        yield stream

    async def read(
        self,
        port: Port,
        check_time: Callable[[], None],
        states: SharedStates | None,
    ) -> None:
        """Read the declared streams, and those that the command discovers.

        Args:
            port: The operations of the store.
            check_time: Raises an error if the deadline has passed.
            states: The states that the commands of a queue share. They aren't needed:
                the cache has the states of streams.

        Raises:
            DiscoveryLimit: There are too many rounds or streams.
            UnknownEventType: An event's type isn't registered.
            EventDecodeError: An event isn't one that the stream's kind applies.
            FoldError: The kind's `apply` raised an exception.
        """
        del states
        if not self._is_begun:
            self._begin()
        self._links = port.links_appends
        await self._read_all(port, check_time)
        if self._is_torn:
            self._is_snapshot = True
            self._begin()
            await self._read_all(port, check_time)

    async def _read_all(self, port: Port, check_time: Callable[[], None]) -> None:
        self._is_begun = False
        declared = {
            (field.kind, stream): None
            for field in self._command.__shape__.declared
            for stream in field.ids_of(self._command)
        }
        loader = StateLoader(port, self._cache, self._decoder, check_time)
        self._generation = loader.generation
        await self._load(loader, list(declared))
        if not self._command.__shape__.discovers:
            return
        rounds = found = 0
        command, bounds = self._command, self._bounds
        while requested := await self._newly_requested(port, check_time):
            rounds += 1
            found += len(requested)
            if rounds > bounds.rounds:
                raise discovery_limit(command, "rounds", bounds.rounds, rounds)
            if found > bounds.streams:
                raise discovery_limit(command, "streams", bounds.streams, found)
            await self._load(loader, requested)

    def decide(self) -> Iterable[object]:
        """Return the writes on which the command decides."""
        return self.owner.decide()

    async def confirm(self, port: Port) -> bool:
        """Determine whether an exception of the command was raised on true states.

        Returns:
            Whether the states were those of one moment. If not, the next `read` reads
            such states, and the command has to decide again.
        """
        if self._is_snapshot or not (self.versions or self.categories):
            return True
        if not all(one.is_durable for one in self._builds_on.values()):
            # The versions alone prove nothing: other events may take the place of
            # those that aren't durable yet.
            self._is_snapshot = True
            return False
        if await self._are_current(port):
            return True
        self._is_snapshot = True
        return False

    async def _are_current(self, port: Port) -> bool:
        """Return whether all versions are those of one position."""
        position: int | None = None
        if self.versions:
            # Only the versions are needed.
            snapshot = await port.read_streams(
                [*self.versions], after=self.versions, limit=0
            )
            if snapshot.versions != self.versions:
                return False
            position = snapshot.position
        for category, version in self.categories.items():
            found = await port.category_streams(category, at=position, limit=0)
            if found.version != version:
                return False
            position = found.position
        return True

    def note_conflict(self, conflict: VersionConflict) -> None:
        """Note the versions that the next attempt has to read at least."""
        self._is_snapshot = False
        self._required = {
            one.stream: one.actual
            for one in conflict.failures
            if one.stream in self.versions or not self.versions
        }
        pending = self._cache.pending
        pending.note_contention(self._required)
        for stream, builds_on in self._builds_on.items():
            if not builds_on.is_accepted:
                # The append was not begun yet, or it never will be: Ctrl-C may end a
                # command between the publication of its states and its append. If its
                # state remained, all further commands would have this conflict.
                for kind, states in self._states.items():
                    if stream in states:
                        pending.drop(kind, stream, builds_on)

    def release(self) -> None:
        """Drop what the next attempt doesn't need, before a wait."""
        if self._command.__shape__.discovers and self._links:
            self._discovered = {
                stream: kind
                for kind, streams in self._states.items()
                for stream in streams
            }
        self._begin()

    def require(self, versions: Mapping[str, int]) -> None:
        """Note the versions that the states of the next attempt must have at least."""
        required = self._required
        for stream, version in versions.items():
            if required.get(stream, 0) < version:
                required[stream] = version

    def builds_on(self, port: Port, streams: Iterable[str]) -> Mapping[str, object]:
        """Return the pending states on which the command can decide; see `Reading`."""
        kinds: dict[str, Kind | None] = dict(self._discovered)
        for field in self._command.__shape__.declared if port.links_appends else ():
            kind: Kind | None = field.kind
            for stream in field.ids_of(self._command):
                # The states of a stream that is read as two kinds have to be of one
                # version, so they are read from the store.
                is_single = kinds.get(stream, kind) is kind
                kinds[stream] = kind if is_single else None
        pending = self._cache.pending
        return {
            stream: (pending, found)
            for stream in streams
            if (found := kinds.get(stream)) is not None
        }

    def link(
        self,
        port: Port,
        decision: Decision,
        key: str | None,
        awaited: Collection[str],
    ) -> LinkedAppend | None:
        """Link the append to those on which the command has built, if there are any."""
        pending = self._cache.pending
        if awaited:
            pending.note_contention(awaited)
        is_contended = port.links_appends and pending.is_contended(self.versions)
        if not self._builds_on and (key is not None or not is_contended):
            return None
        if port.trace is not None:
            port.trace.enter("fold")
        folded = fold_decision(self._cache, self._states, decision)
        if port.trace is not None:
            # The append that follows is that of the decision.
            port.trace.enter("decide")
        published = folded if key is None else ()
        self._folded = folded
        self._link = LinkedAppend(
            self._cache,
            self._generation,
            published,
            [*self._builds_on.values()],
            decision.encoded,
        )
        return self._link

    async def keep(self, port: Port, decision: Decision, appended: Appended) -> None:
        """Cache the states after the command's own events."""
        link = self._link
        folded = self._folded
        if link is None:
            folded = fold_decision(self._cache, self._states, decision)
        due = keep_states(self._cache, self._generation, folded, appended)
        if link is not None:
            link.end()
        if due:
            await save_snapshots(port, due, self._decoder.registry)

    async def _load(  # noqa: C901, PLR0912 - a helper would be a call for each stream
        self, loader: StateLoader, wanted: list[Wanted]
    ) -> None:
        """Find the states of streams in the cache, and read what is missing there."""
        missing: dict[Wanted, CachedState | None] = {}
        cold: set[Wanted] = set()
        kind_counts = Counter(map(_stream_id, wanted))
        has_pending = self._links and bool(self._cache.pending.entries)
        cache, trace = self._cache, loader.trace
        for number, one in enumerate(wanted):
            kind, stream = one
            if has_pending and kind_counts[stream] == 1 and self._put_newest(one):
                if trace is not None:
                    trace.note_lookup(stream, is_hit=True)
                continue
            found = cache.find(kind, stream)
            if trace is not None:
                trace.note_lookup(stream, is_hit=found is not None)
            if found is None:
                cold.add(one)
                missing[one] = None
                if cache.progress or kind.snapshots is not None:
                    missing[one] = await loader.find_older(kind, stream)
            elif (
                self._is_snapshot
                or found[0] < self._required.get(stream, 0)
                # States of one stream, as two kinds, have to be of the same version.
                or kind_counts[stream] > 1
                or stream in self.versions
            ):
                missing[one] = found
            else:
                self._put(kind, stream, found)
            # A mutable state was copied, which may take long.
            is_slow = found is not None and not found[2]
            if is_slow or number % _STREAMS_A_LOOK == 0:
                await loader.let_others_run()
        if not missing:
            return
        cache.loading |= cold
        try:
            at = self.position if self._is_snapshot else None
            position, states = await loader.load(
                missing, at=at, is_pinned=self._is_snapshot
            )
        finally:
            cache.loading -= cold
        if self.position is None:
            self.position = position
        for (kind, stream), found in states.items():
            self._put(kind, stream, found)

    def _put_newest(self, wanted: Wanted) -> bool:
        """Use the state after an append that isn't durable yet, if there is one."""
        stream = _stream_id(wanted)
        if self._is_snapshot or stream in self.versions:
            return False
        newest = self._cache.pending.find(
            *wanted, self._generation, self._cache.peek(*wanted)
        )
        if newest is None or newest[0][0] < self._required.get(stream, 0):
            return False
        self._builds_on[stream] = newest[1]
        self._put(*wanted, newest[0])
        return True

    def _put(self, kind: Kind, stream: str, found: CachedState) -> None:
        version = found[0]
        self._is_torn |= self.versions.setdefault(stream, version) != version
        self._states.setdefault(kind, {})[stream] = found

    async def _newly_requested(
        self, port: Port, check_time: Callable[[], None]
    ) -> list[Wanted]:
        requested: dict[Wanted, None] = {}
        for found in requests(self._command, self.owner.discover):
            check_time()
            if isinstance(found, type):
                kind, streams = found, await self._members_of(found, port)
            else:
                kind, streams = type(found), (found.id,)
            known = self._states.get(kind, {})
            for stream in streams:
                self.kinds[stream] = joined(
                    self.kinds.get(stream, frozenset()), kind.events
                )
                if stream not in known:
                    requested[kind, stream] = None
            limit, count = self._bounds.streams, len(requested)
            if count > limit:
                raise discovery_limit(self._command, "streams", limit, count)
        return list(requested)

    async def _members_of(self, kind: Kind, port: Port) -> tuple[str, ...]:
        """Return the streams of a kind, and expect that there will be no others.

        They may be newer than the states that were read before. The append proves that
        they are right, or `confirm` does.
        """
        if kind in self._members:
            return self._members[kind]
        found, streams = await read_category(
            kind.category,
            self._command,
            port,
            self._cache,
            at=self.position if self._is_snapshot else None,
            limit=self._bounds.streams,
        )
        if self.position is None:
            self.position = found.position
        # Two kinds of one category may have been read at two moments.
        version = self.categories.setdefault(kind.category, found.version)
        self._is_torn |= version != found.version
        self._members[kind] = streams
        return streams
