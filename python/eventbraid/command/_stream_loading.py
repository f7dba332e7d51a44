"""Brings the states of streams up to date, from cached states and newer events.

The events are read and folded page by page, so the memory for them doesn't grow with
the streams, and other tasks of the event loop run in between.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from eventbraid.command._immutable import is_always_immutable, is_immutable
from eventbraid.command._snapshots import find_snapshot, save_snapshots
from eventbraid.command._state_cache import EVENT_BYTES
from eventbraid.command._stream_fold import fold_events
from eventbraid.store._paging import LARGEST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from eventbraid.command._cached_state import CachedState, Kind
    from eventbraid.command._port import Port
    from eventbraid.command._state_cache import StateCache
    from eventbraid.command._stream import Stream
    from eventbraid.event import EventDecoder
    from eventbraid.store import RecordedEvent, StreamsSnapshot

    Wanted: TypeAlias = tuple[Kind, str]

S = TypeVar("S")

TURN_SECONDS = 0.002
"""The time after which a long fold lets other tasks of the event loop run."""

PAGE_EVENTS = 1_024
"""The maximum number of events that are read at once."""

_EVENTS_A_SLICE = 32
"""The number of events that are folded between two looks at the clock."""


class StreamState(msgspec.Struct, Generic[S], frozen=True):
    """The state of a stream at one of its versions.

    Attributes:
        state: The state.
        version: The number of events that it is folded from; 0 if the stream has none.

    Example:
        >>> from eventbraid.command import StreamState
        >>> StreamState(state=9, version=2).version
        2
    """

    state: S
    version: int


async def load_stream(
    stream: Stream[Any, S], port: Port, cache: StateCache, decoder: EventDecoder
) -> StreamState[S]:
    """Return the present state of a stream; see `Executor.load`."""
    wanted = type(stream), stream.id
    loader = StateLoader(port, cache, decoder)
    found = cache.find(*wanted)
    if port.trace is not None:
        port.trace.begin_attempt(1)
        port.trace.note_lookup(stream.id, is_hit=found is not None)
        port.trace.enter("fold")
    if found is None and (cache.progress or wanted[0].snapshots is not None):
        found = await loader.find_older(*wanted)
    _, states = await loader.load({wanted: found})
    await port.checkpoint()
    version, state, *_ = states[wanted]
    return StreamState(cast("S", state), version)


class _Fold:
    """The unfinished fold of one stream as one kind.

    Attributes:
        kind: The kind.
        stream: The id of the stream.
        typed: The stream.
        found: The entry with which the fold began; None for the initial state.
        version: The version up to which the events are folded. A kind without a state
            needs no event, so it counts as folded up to any version.
        state: The state at this version.
        size: The bytes of the events since `found`.
        shared: The last state that was found to be immutable. The parts that a later
            state has of it aren't examined again.
        is_mutable: Whether a state was found to be mutable, so none is shared.
    """

    __slots__ = (
        "found",
        "is_mutable",
        "kind",
        "shared",
        "size",
        "state",
        "stream",
        "typed",
        "version",
    )

    def __init__(self, wanted: Wanted, found: CachedState | None) -> None:
        """Begin with an entry, or with the initial state."""
        kind, stream = self.kind, self.stream = wanted
        # As `stream_of` does, but without its call.
        self.typed = object.__new__(kind)
        self.typed._id = stream  # noqa: SLF001
        self.shared: object = None
        self.is_mutable = False
        self.continue_from(found)

    def continue_from(self, found: CachedState | None) -> None:
        """Continue with another entry, or with the initial state."""
        self.found = found
        self.size = 0
        self.version: int
        self.state: object
        if not self.kind.has_state:
            self.version, self.state = LARGEST_NUMBER, None
        elif found is None:
            self.version, self.state = 0, self.typed.initial()
        else:
            self.version, self.state = found[:2]

    def fold(self, events: Sequence[RecordedEvent], decoder: EventDecoder) -> None:
        """Fold a few of the events that follow."""
        self.state = fold_events(self.kind, self.typed, self.state, events, decoder)
        self.version = events[-1].version
        if self.found is not None and not is_always_immutable(self.state.__class__):
            self.size += sum(EVENT_BYTES + len(one.data) for one in events)

    def shareable(self) -> CachedState | None:
        """Return the state as an entry for other commands; None if it is mutable."""
        if self.is_mutable or not is_immutable(self.state, self.shared):
            self.is_mutable = True
            return None
        self.shared = self.state
        return self.version, self.state, True, 0, 0


class StateLoader:
    """Brings the states of the streams of one read up to date.

    It is built before the first state is looked up in the cache, because it notes the
    generation of the registry to which all of these states belong.
    """

    __slots__ = (
        "_began",
        "_cache",
        "_check_time",
        "_decoder",
        "_port",
        "generation",
        "trace",
    )

    def __init__(
        self,
        port: Port,
        cache: StateCache,
        decoder: EventDecoder,
        check_time: Callable[[], None] | None = None,
    ) -> None:
        """Begin a read.

        Args:
            port: Reads the pages, and lets other tasks run during a long fold.
            cache: The cache.
            decoder: The decoder of the events.
            check_time: Is called now and then. It raises an error if the deadline of
                the command has passed.
        """
        self._port = port
        self._cache = cache
        self._decoder = decoder
        self._check_time = check_time
        self._began = monotonic()
        self.generation = cache.registry.generation
        self.trace = port.trace

    async def let_others_run(self) -> None:
        """Let other tasks run if the last time was too long ago.

        The time counts for all streams of the read. Otherwise the folds of thousands of
        short streams, none of which takes long, would hold the event loop together.
        """
        if monotonic() - self._began > TURN_SECONDS:
            if self._check_time is not None:
                self._check_time()
            await self._port.checkpoint()
            self._began = monotonic()

    async def find_older(self, kind: Kind, stream: str) -> CachedState | None:
        """Return a state with which the fold of a stream can begin.

        It is the newest snapshot, or the state of an unfinished fold. Both may be much
        older than the stream, so a command doesn't decide on them.
        """
        unfinished = self._cache.find_progress(kind, stream, self.generation)
        registry = self._decoder.registry
        recorded = await find_snapshot(self._port, kind, stream, registry)
        if recorded is None or (
            unfinished is not None and recorded[0] <= unfinished[0]
        ):
            return unfinished
        return recorded

    async def load(
        self,
        wanted: Mapping[Wanted, CachedState | None],
        *,
        at: int | None = None,
        is_pinned: bool = False,
    ) -> tuple[int | None, Mapping[Wanted, CachedState]]:
        """Read streams page by page, fold their events, and cache the states.

        Args:
            wanted: The streams, each with the entry from which its fold begins, if any.
            at: The position at which the streams are read; the durable head if not
                given.
            is_pinned: Whether all states have to be those of this position. If not,
                some may be newer: another command may have cached them meanwhile.

        Returns:
            The position of the pages, and the states with their versions.
        """
        folds = [_Fold(one, found) for one, found in wanted.items()]
        loaded: dict[Wanted, CachedState] = {}
        first: StreamsSnapshot | None = None
        position: int | None = at
        while folds:
            after = _read_after(folds)
            page = await self._port.read_streams(
                [*after], at=position, after=after, limit=PAGE_EVENTS
            )
            position = page.position
            # A store may have dropped old events: then an empty page is the last one.
            is_last = first is not None and not page.events
            if first is None:
                first = page
                for fold in folds:
                    if (
                        fold.version > page.versions[fold.stream]
                        and fold.kind.has_state
                    ):
                        # The entry is newer than the position.
                        fold.continue_from(None)
            events = await self._by_stream(page, len(after))
            unfinished: list[_Fold] = []
            for fold in folds:
                version = first.versions[fold.stream]
                until = version if is_pinned else LARGEST_NUMBER
                own = events.get(fold.stream)
                if own and fold.kind.has_state:
                    await self._fold(fold, own, version, until)
                if fold.version < version and not is_last:
                    unfinished.append(fold)
                else:
                    entry = await self._finish(fold, version)
                    loaded[fold.kind, fold.stream] = entry
            folds = unfinished
        return position, loaded

    async def _by_stream(
        self, page: StreamsSnapshot, count: int
    ) -> Mapping[str, Sequence[RecordedEvent]]:
        """Sort the events of a page by stream."""
        events = page.events
        if count == 1:
            return {events[0].stream: events} if events else {}
        sorted_events: dict[str, list[RecordedEvent]] = {}
        for number, recorded in enumerate(events):
            sorted_events.setdefault(recorded.stream, []).append(recorded)
            # A store without a limit returns any number of events.
            if number % PAGE_EVENTS == 0:
                await self.let_others_run()
        return sorted_events

    async def _fold(
        self, fold: _Fold, events: Sequence[RecordedEvent], version: int, until: int
    ) -> None:
        """Fold the events of a page.

        Several commands may fold one stream at the same time. When one of them lets
        others run, each of them continues from the newest state of all, so that no
        event is folded twice. A mutable state isn't exchanged before it is finished.

        Args:
            fold: The fold.
            events: The events of the page.
            version: The version at which the fold is finished.
            until: The highest version at which a state of another command can be used.
        """
        # Two kinds of one stream may have begun at different versions.
        before = events[0].version - 1
        begin = max(0, fold.version - before)
        while begin < len(events):
            end = begin + _EVENTS_A_SLICE
            fold.fold(events[begin:end], self._decoder)
            begin = end
            if monotonic() - self._began > TURN_SECONDS:
                if fold.version < version:
                    self._share(fold)
                await self.let_others_run()
                further = self._cache.find_further(
                    fold.kind, fold.stream, self.generation, fold.version, until
                )
                if further is not None:
                    fold.continue_from(further)
                    begin = fold.version - before

    def _share(self, fold: _Fold) -> None:
        entry = fold.shareable()
        if entry is not None:
            self._cache.note_progress(fold.kind, fold.stream, entry, self.generation)

    async def _finish(self, fold: _Fold, version: int) -> CachedState:
        """Cache the state of a fold, and record a snapshot if it is due."""
        kind, stream, found, state = fold.kind, fold.stream, fold.found, fold.state
        cache = self._cache
        if kind.has_state and fold.version > version:
            # Another command has folded it further.
            version = fold.version
        if cache.progress:
            cache.end_progress(kind, stream)
        begun_at = 0 if found is None else found[0]
        if (
            kind.snapshots is not None
            and version - begun_at >= kind.snapshots.every
            and cache.saves_snapshots
        ):
            due = [(kind, stream, version, state)]
            await save_snapshots(self._port, due, self._decoder.registry)
        if fold.shared is not None:
            # Most of the state was examined before it was shared.
            found = fold.shareable()
        entry = cache.put(
            kind, stream, version, state, self.generation, fold.size, found
        )
        return entry if entry[2] else cache.own_copy(kind, stream, entry) or entry


def _read_after(folds: Iterable[_Fold]) -> dict[str, int]:
    """Return the streams to read, each with the version after which to read it."""
    after: dict[str, int] = {}
    for fold in folds:
        stream = fold.stream
        after[stream] = min(fold.version, after.get(stream, LARGEST_NUMBER))
    return after
