"""The streams that a command has read, and the states that were folded from them.

The first read determines the position at which all streams are read. Discovery has
rounds. Each round reads only the streams that were newly requested, at that position,
and folds all events again, from `initial()`.

After a conflict the rounds are repeated. An immutable state is continued with the new
events. Any other state is folded again from all events, which are kept in decoded form.
If `discover` now requests other streams after a round, the later rounds are dropped and
read again.

A state that was passed to `decide` may have been changed there, so it is used again
only if it and all values in it are immutable. To copy each state beforehand would slow
down all commands, although only few of them conflict.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eventbraid._recorded import PARTS, POSITION, expanded, kinds_of
from eventbraid._undecoded import UndecodedEvent
from eventbraid.command._categories import read_category
from eventbraid.command._discovery import (
    discovery_error,
    discovery_limit,
    requests,
)
from eventbraid.command._immutable import is_immutable
from eventbraid.command._provenance import mark_raised_by_command
from eventbraid.command._reading import declared_kinds, joined
from eventbraid.command._shared_state import (
    SharedState,
    folds_without_fields,
    share,
)
from eventbraid.command._stream_loading import StateLoader
from eventbraid.command._stream_states import with_states
from eventbraid.command._typing import is_covered
from eventbraid.domain._annotation import is_defined_again
from eventbraid.errors import EventDecodeError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from eventbraid.command._cached_state import CachedState, Kind, Members, States
    from eventbraid.command._decision import Decision
    from eventbraid.command._discovery import DiscoveryBounds
    from eventbraid.command._memory import CachedEvents, EventMemory
    from eventbraid.command._port import Port
    from eventbraid.command._shared_state import SharedStates, StateKey
    from eventbraid.command._state_cache import StateCache
    from eventbraid.command._stateful_command import StatefulCommand
    from eventbraid.command._stream import Stream
    from eventbraid.command._typing import EventKinds
    from eventbraid.errors import VersionConflict
    from eventbraid.event import EventDecoder, Recorded
    from eventbraid.store import Appended, RecordedEvent, StreamsSnapshot

S = TypeVar("S")

_PAGE_EVENTS = 256
"""The maximum number of events that are read, and decoded without a pause, at once."""

_EVENTS_A_SLICE = 64
"""The number of events that are folded between two looks at the clock."""


@dataclass(slots=True)
class Round(Generic[S]):
    """A state, the streams it was folded from, and the streams requested after it."""

    streams: frozenset[str]
    state: S
    requested: tuple[str, ...] = ()


class FoldReading(Generic[S]):
    """The streams of one execution, their events, and the states of its rounds."""

    __slots__ = (
        "_bounds",
        "_cache",
        "_command",
        "_decoder",
        "_generation",
        "_has_parts",
        "_is_complete",
        "_members",
        "_memory",
        "_recorded",
        "_rounds",
        "_with_state",
        "categories",
        "kinds",
        "owner",
        "position",
        "state",
        "versions",
    )

    def __init__(
        self,
        command: StatefulCommand[S, Any],
        bounds: DiscoveryBounds,
        memory: EventMemory,
        cache: StateCache,
        decoder: EventDecoder,
    ) -> None:
        """Begin without events.

        Args:
            command: The command.
            bounds: The limits of its discovery.
            memory: The cache of decoded events.
            cache: The cache of streams' states.
            decoder: The decoder of the events; that of both caches.
        """
        self._command = command
        self.owner = command
        self._decoder = decoder
        self._memory = memory
        self._bounds = bounds
        self._cache = cache
        self._with_state = {
            (field.kind, stream): None
            for field in command.__shape__.declared
            if field.kind.has_state
            for stream in field.ids_of(command)
        }
        self._reset()

    def _reset(self) -> None:
        self._generation = self._decoder.registry.generation
        self._recorded: list[Recorded[Any]] = []
        self._has_parts = False
        self._is_complete = True
        self._rounds: list[Round[S]] = []
        self.kinds: dict[str, EventKinds] = declared_kinds(self._command)
        self.position: int | None = 0
        self.versions: dict[str, int] = {}
        self._forget_categories()

    def _forget_categories(self) -> None:
        """Drop the streams of categories, which are those of one position."""
        self.categories: dict[str, int] = {}
        self._members: Members = {}

    @property
    def recorded(self) -> Sequence[Recorded[Any]]:
        """The decoded events that the last state was folded from."""
        return self._recorded

    def cold_streams(self) -> Iterable[str]:
        """Return nothing: the events that a command has decoded are no state."""
        return ()

    async def read(
        self,
        port: Port,
        check_time: Callable[[], None],
        states: SharedStates | None,
    ) -> None:
        """Read the new events of all declared and found streams, and fold them.

        Args:
            port: The operations of the store.
            check_time: Raises an error if the deadline has passed. This object doesn't
                store the function. It is a method of the execution, which refers to
                this object: the reference cycle would keep each command in memory until
                the garbage collector runs.
            states: The shared states of the queue in which the command waits.

        Raises:
            DiscoveryLimit: There are too many rounds or streams.
            UnknownEventType: An event's type isn't registered.
            EventDecodeError: An event isn't one that the command applies.
        """
        if self._generation != self._decoder.registry.generation:
            # A class was defined again. The decoded events are instances of its old
            # definition, so they must be decoded again.
            self._reset()
        key = None if states is None else self._shared_key()
        if states and key is not None:
            self._adopt(states.get(key))
        if self._rounds:
            await self._catch_up(port, check_time)
        if not self._rounds:
            await self._begin(port, check_time)
        if self._command.__shape__.discovers:
            await self._discover(port, check_time)
        if self._with_state or self._members:
            await self._read_states(port, check_time)
        state = self._rounds[-1].state
        if states is not None and key is not None and is_immutable(state):
            share(states, key, SharedState(self.versions, state))
        self.state = state

    def decide(self) -> Iterable[object]:
        """Return the writes on which the command decides."""
        return self.owner.decide(self.state)

    async def confirm(self, port: Port) -> bool:
        """Return True, because all streams were read as of one position."""
        del port
        return True

    def note_conflict(self, conflict: VersionConflict) -> None:
        """Ignore the conflict, because the next attempt reads all streams."""

    def require(self, versions: Mapping[str, int]) -> None:
        """Ignore the versions, because each attempt reads all streams."""

    def builds_on(self, port: Port, streams: Iterable[str]) -> Mapping[str, object]:
        """Return nothing: the command reads durable events."""
        del port, streams
        return {}

    def link(
        self,
        port: Port,
        decision: Decision,
        key: str | None,
        awaited: Collection[str],
    ) -> None:
        """Return None: the command reads durable events."""

    async def keep(self, port: Port, decision: Decision, appended: Appended) -> None:
        """Cache no state, because the state depends on the command."""

    def _shared_key(self) -> StateKey | None:
        """Return the key under which commands share a state; None if they can't."""
        kind = type(self._command)
        if kind.__shape__.discovers or not folds_without_fields(kind):
            return None
        return kind, frozenset(self.kinds), self._decoder

    def _adopt(self, shared: SharedState | None) -> None:
        """Continue from another command's state, unless that state is older."""
        if shared is None or any(
            shared.versions[stream] < version
            for stream, version in self.versions.items()
        ):
            return
        self._rounds = [Round(frozenset(self.kinds), shared.state)]
        self._recorded, self._is_complete = [], False
        self.versions = dict(shared.versions)

    def release(self) -> None:
        """Drop the events that the next attempt doesn't need, before a wait.

        Thousands of commands may wait for one stream, and each would keep a list of all
        events of the stream.
        """
        if self._command.__shape__.discovers or not self._rounds:
            return
        if is_immutable(self._rounds[-1].state):
            self._recorded, self._is_complete = [], False
        elif self._memory.has_all(self.versions):
            self._recorded, self._is_complete, self._rounds = [], False, []

    async def _begin(self, port: Port, check_time: Callable[[], None]) -> None:
        if not self._is_complete:
            self._reset()
        snapshot, self._recorded = await self._fetch(
            port, check_time, [*self.kinds], {}
        )
        self.versions = dict(snapshot.versions)
        self.position = snapshot.position
        state = await self._folded(self._recorded, port, check_time)
        self._rounds = [Round(frozenset(self.kinds), state)]

    async def _catch_up(self, port: Port, check_time: Callable[[], None]) -> None:
        snapshot, new = await self._fetch(
            port, check_time, list(self.versions), self.versions
        )
        self._recorded += new
        self.position = snapshot.position
        self._forget_categories()
        self.versions = dict(snapshot.versions)
        for number, one in enumerate(self._rounds):
            if is_immutable(one.state):
                one.state = await self._fold_on(
                    one.state, self._within(new, one), port, check_time
                )
            elif self._is_complete:
                one.state = await self._folded(
                    self._within(self._recorded, one), port, check_time
                )
            else:
                self._rounds = []
                return
            requested = await self._newly_requested(one, port, check_time)
            if requested != one.requested:
                one.requested = ()
                self._drop_rounds_after(number)
                return

    async def _read_states(self, port: Port, check_time: Callable[[], None]) -> None:
        """Hand the states of the streams that were read to the command's handles.

        The states are those of the versions that the command's own state is folded
        from, because the command may compare them.
        """
        loader = StateLoader(port, self._cache, self._decoder, check_time)
        wanted: dict[tuple[Kind, str], CachedState | None] = {}
        for kind, stream in self._with_state:
            # A stream that isn't among them was discovered by an earlier attempt.
            if stream in self.versions:
                found = self._cache.find(kind, stream)
                if found is None and (
                    self._cache.progress or kind.snapshots is not None
                ):
                    found = await loader.find_older(kind, stream)
                wanted[kind, stream] = found
        _, loaded = await loader.load(wanted, at=self.position, is_pinned=True)
        states: States = {}
        for (kind, stream), found in loaded.items():
            states.setdefault(kind, {})[stream] = found
        self.owner = with_states(self._command, states, self._members)

    async def _discover(self, port: Port, check_time: Callable[[], None]) -> None:
        while requested := await self._newly_requested(
            last := self._rounds[-1], port, check_time
        ):
            last.requested = requested
            self._check_bounds()
            await self._read(port, check_time, requested, at=self.position)
            streams = last.streams.union(requested)
            state = await self._folded(self._recorded, port, check_time)
            self._rounds.append(Round(streams, state))

    async def _read(
        self,
        port: Port,
        check_time: Callable[[], None],
        streams: Sequence[str],
        *,
        at: int | None = None,
    ) -> StreamsSnapshot:
        """Read more streams from their beginning."""
        snapshot, events = await self._fetch(port, check_time, streams, {}, at)
        self.versions.update(snapshot.versions)
        if self._recorded:
            self._recorded += events
            self._recorded.sort(key=POSITION)
        else:
            self._recorded = events
        return snapshot

    async def _fetch(
        self,
        port: Port,
        check_time: Callable[[], None],
        streams: Sequence[str],
        after: Mapping[str, int],
        at: int | None = None,
    ) -> tuple[StreamsSnapshot, list[Recorded[Any]]]:
        """Read streams, from the cache as far as possible.

        Args:
            port: The operations of the store.
            check_time: Raises an error if the deadline has passed.
            streams: The streams.
            after: The version after which each stream is read. A stream that is missing
                is read from its first event.
            at: The position at which the streams are read.

        Returns:
            The snapshot of the events that aren't cached, and all events in order, with
            one entry for each typed event of a record.
        """
        cached_streams = self._memory.find(streams)
        if port.trace is not None:
            # The events of a stream in `after` are folded into the state already.
            known = {*after, *cached_streams}
            port.trace.note_lookups(streams, {*streams} - known)
        prefixes: dict[str, tuple[CachedEvents, int]] = {}
        skipped = after
        if cached_streams:
            prefixes = {
                stream: (cached, len(cached.events))
                for stream, cached in cached_streams.items()
            }
            cached_counts = {stream: count for stream, (_, count) in prefixes.items()}
            skipped = {
                stream: max(after.get(stream, 0), cached_counts.get(stream, 0))
                for stream in (*after, *prefixes)
            }
        snapshot = await port.read_streams(
            streams, at=at, after=skipped or None, limit=_PAGE_EVENTS
        )
        new = self._decoded(snapshot)
        self._memory.add(skipped, snapshot.versions, new, self._generation)
        unread = -len(new)
        for stream, version in snapshot.versions.items():
            unread += max(0, version - skipped.get(stream, 0))
        if unread:
            await self._read_rest(port, check_time, snapshot, skipped, new)
        if not prefixes:
            return snapshot, self._flat(new)
        events: list[Recorded[Any]] = []
        for stream, (cached, count) in prefixes.items():
            # The cache may have events beyond the position of this read.
            last = min(count, snapshot.versions[stream])
            recalled = cached.events[after.get(stream, 0) : last]
            self._refuse_inapplicable(recalled, cached.kinds)
            events += recalled if cached.kinds.isdisjoint(PARTS) else expanded(recalled)
        is_sorted = not events or len(streams) == 1
        events += self._flat(new)
        if not is_sorted:
            events.sort(key=POSITION)
        return snapshot, events

    async def _read_rest(
        self,
        port: Port,
        check_time: Callable[[], None],
        first: StreamsSnapshot,
        after: Mapping[str, int],
        decoded: list[Recorded[Any]],
    ) -> None:
        """Read the events that follow a first page, page by page.

        Args:
            port: The operations of the store.
            check_time: Raises an error if the deadline has passed.
            first: The first page.
            after: The version after which each stream was read.
            decoded: The decoded events of the first page; the others are added.
        """
        loader = StateLoader(port, self._cache, self._decoder, check_time)
        versions, has_parts = first.versions, self._has_parts
        page, begins = first.events, {one: after.get(one, 0) for one in versions}
        while page:
            for recorded in page:
                begins[recorded.stream] = recorded.version
            begins = {one: last for one, last in begins.items() if last < versions[one]}
            if not begins:
                break
            await loader.let_others_run()
            rest = await port.read_streams(
                [*begins], at=first.position, after=begins, limit=_PAGE_EVENTS
            )
            page = rest.events
            further = self._decoded(rest)
            has_parts |= self._has_parts
            self._memory.add(begins, versions, further, self._generation)
            decoded += further
        self._has_parts = has_parts
        if len(versions) > 1:
            # The pages have the streams one after the other.
            decoded.sort(key=POSITION)

    async def _newly_requested(
        self, one: Round[S], port: Port, check_time: Callable[[], None]
    ) -> tuple[str, ...]:
        if not self._command.__shape__.discovers:
            return ()
        requested: dict[str, None] = {}
        for found in requests(
            self._command, partial(self._command.discover, one.state)
        ):
            check_time()
            if isinstance(found, type):
                kind, streams = found, await self._members_of(found, port)
            else:
                kind, streams = type(found), (found.id,)
            self._add_kind(kind, streams)
            for stream in streams:
                if stream not in one.streams:
                    requested[stream] = None
            limit, count = self._bounds.streams, len(requested)
            if count > limit:
                raise discovery_limit(self._command, "streams", limit, count)
        return tuple(sorted(requested))

    async def _members_of(
        self, kind: type[Stream[Any, Any]], port: Port
    ) -> tuple[str, ...]:
        """Return the streams of a kind, and expect that there will be no others."""
        if kind in self._members:
            return self._members[kind]
        found, streams = await read_category(
            kind.category,
            self._command,
            port,
            self._cache,
            at=self.position,
            limit=self._bounds.streams,
        )
        self.categories[kind.category] = found.version
        self._members[kind] = streams
        return streams

    def _within(
        self, recorded: list[Recorded[Any]], one: Round[S]
    ) -> Iterable[Recorded[Any]]:
        """Return the events of the streams that a round was folded from."""
        if len(one.streams) == len(self.versions):
            return recorded
        return (event for event in recorded if event.stream in one.streams)

    def _add_kind(self, kind: type[Stream[Any, Any]], streams: tuple[str, ...]) -> None:
        unapplied = self._command.__shape__.unapplied_events(kind)
        if unapplied:
            raise discovery_error(
                self._command,
                kind.__name__,
                f"add {unapplied} to the second type argument of StatefulCommand",
            )
        for stream in streams:
            if kind.has_state:
                self._with_state[kind, stream] = None
            self.kinds[stream] = joined(
                self.kinds.get(stream, frozenset()), kind.events
            )

    def _check_bounds(self) -> None:
        command, bounds, rounds = self._command, self._bounds, len(self._rounds)
        if rounds > bounds.rounds:
            raise discovery_limit(command, "rounds", bounds.rounds, rounds)
        found = sum(len(one.requested) for one in self._rounds)
        if found > bounds.streams:
            raise discovery_limit(command, "streams", bounds.streams, found)

    def _drop_rounds_after(self, number: int) -> None:
        del self._rounds[number + 1 :]
        streams = self._rounds[number].streams
        self.kinds = {s: k for s, k in self.kinds.items() if s in streams}
        self._recorded = [one for one in self._recorded if one.stream in streams]
        self.versions = {s: v for s, v in self.versions.items() if s in streams}

    async def _folded(
        self,
        recorded: Iterable[Recorded[Any]],
        port: Port,
        check_time: Callable[[], None],
    ) -> S:
        try:
            state = self._command.initial()
        except Exception as error:
            mark_raised_by_command(error)
            raise
        if len(self._recorded) <= _EVENTS_A_SLICE:
            return fold(self._command, state, recorded)
        return await self._fold_on(state, recorded, port, check_time)

    async def _fold_on(
        self,
        state: S,
        recorded: Iterable[Recorded[Any]],
        port: Port,
        check_time: Callable[[], None],
    ) -> S:
        """Fold events, and let other tasks run in between if there are many."""
        if isinstance(recorded, list) and len(recorded) <= _EVENTS_A_SLICE:
            return fold(self._command, state, recorded)
        loader = StateLoader(port, self._cache, self._decoder, check_time)
        events = iter(recorded)
        while part := [*islice(events, _EVENTS_A_SLICE)]:
            state = fold(self._command, state, part)
            await loader.let_others_run()
        return state

    def _decoded(self, snapshot: StreamsSnapshot) -> list[Recorded[Any]]:
        events = snapshot.events
        self._has_parts = False
        if not events:
            return []
        # Other commands may have decoded the events while this command read them.
        cached = self._memory.find(snapshot.versions)
        decode = self._decoder.pair
        typed = (
            [self._shared(event, cached) for event in events]
            if cached
            else [decode(event) for event in events]
        )
        kinds = kinds_of(typed)
        self._has_parts = not kinds.isdisjoint(PARTS)
        self._refuse_inapplicable(typed, kinds)
        return typed

    def _flat(self, new: list[Recorded[Any]]) -> list[Recorded[Any]]:
        """Return the events that were just decoded, one entry for each typed event."""
        return expanded(new) if self._has_parts else new

    def _shared(
        self, event: RecordedEvent, streams: Mapping[str, CachedEvents]
    ) -> Recorded[Any]:
        cached = streams.get(event.stream)
        if cached is not None and event.version <= len(cached.events):
            return cached.events[event.version - 1]
        return self._decoder.pair(event)

    def _refuse_inapplicable(
        self, recorded: Iterable[Recorded[Any]], found: AbstractSet[type]
    ) -> None:
        """Raise if the command doesn't apply one of the events."""
        applied = self._command.__shape__.events
        if applied is None or found <= applied or found - PARTS <= applied:
            return
        for one in expanded(recorded):
            event: object = one.event
            kind = type(event)
            if not is_covered(kind, applied):
                if isinstance(event, UndecodedEvent):
                    # The executor hands it over, but this command doesn't expect it.
                    raise event.error
                name = self._command.__shape__.name
                reason = (
                    f"{name} reads the stream but doesn't apply {kind.__name__}; add "
                    "it to the events of the stream's kind and of the command"
                )
                if any(is_defined_again(one, kind) for one in applied):
                    reason = (
                        f"the class {kind.__name__} was defined again after {name}; "
                        "define the stream's kind and the command again, too"
                    )
                raise EventDecodeError(one.type, one.stream, one.position, reason)


def fold(
    command: StatefulCommand[S, Any], state: S, recorded: Iterable[Recorded[Any]]
) -> S:
    """Return the state after more events.

    Raises:
        InvalidArgument: `apply` returned None, which isn't a state of the command.
    """
    apply, state_before, last = command.apply, state, None
    try:
        for last in recorded:
            state = apply(state, last)
    except Exception as error:
        if state is None and _needs_state(command, state_before):
            raise _missing_state(command, last) from error
        mark_raised_by_command(error)
        raise
    if state is None and _needs_state(command, state_before):
        raise _missing_state(command, last)
    return state


def _needs_state(command: StatefulCommand[Any, Any], state: object) -> bool:
    return state is not None and not command.__shape__.may_be_none


def _missing_state(
    command: StatefulCommand[Any, Any], last: Recorded[Any] | None
) -> InvalidArgument:
    name = command.__shape__.name
    event = "an event" if last is None else type(last.event).__name__
    place = "" if last is None else f", version {last.version} of {last.stream!r}"
    return InvalidArgument(
        f"state of {name}",
        "None",
        f"{name}.apply() returned None for {event}{place}, or for an event before it; "
        "return the state for each event, also for one that doesn't change it",
    )
