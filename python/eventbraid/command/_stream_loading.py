"""Brings the state of a stream up to date, from a cached state and newer events."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from eventbraid.command._snapshots import find_snapshot, save_snapshots
from eventbraid.command._state_cache import EVENT_BYTES
from eventbraid.command._stream_fold import fold_recorded, initial_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbraid.command._port import Port
    from eventbraid.command._state_cache import CachedState, Kind, StateCache
    from eventbraid.command._stream import Stream
    from eventbraid.event import EventDecoder
    from eventbraid.store import RecordedEvent

S = TypeVar("S")

TURN_SECONDS = 0.003
"""The time after which a long fold lets other tasks of the event loop run."""

_EVENTS_A_SLICE = 64
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
    kind, stream_id = type(stream), stream.id
    loader = StateLoader(port, cache, decoder)
    found = cache.find(kind, stream_id)
    if found is None:
        found = await find_snapshot(port, kind, stream_id, decoder.registry)
    after = {stream_id: 0 if found is None else found[0]}
    snapshot = await port.read_streams([stream_id], after=after)
    version = snapshot.versions[stream_id]
    loaded = await loader.fold_on((kind, stream_id), found, snapshot.events, version)
    await port.checkpoint()
    return StreamState(cast("S", loaded[1]), loaded[0])


class StateLoader:
    """Brings the states of the streams of one read up to date.

    It is built before the first state is looked up in the cache, because it notes the
    generation of the registry to which all of these states belong.
    """

    __slots__ = ("_began", "_cache", "_decoder", "_port", "generation")

    def __init__(self, port: Port, cache: StateCache, decoder: EventDecoder) -> None:
        """Begin a read.

        Args:
            port: Lets other tasks run during a long fold.
            cache: The cache.
            decoder: The decoder of the events.
        """
        self._port = port
        self._cache = cache
        self._decoder = decoder
        self._began = monotonic()
        self.generation = cache.registry.generation

    async def let_others_run(self) -> None:
        """Let other tasks run if the last time was too long ago.

        The time counts for all streams of the read. Otherwise the folds of thousands of
        short streams, none of which takes long, would hold the event loop together.
        """
        if monotonic() - self._began > TURN_SECONDS:
            await self._port.checkpoint()
            self._began = monotonic()

    async def fold_on(
        self,
        wanted: tuple[Kind, str],
        found: CachedState | None,
        events: Sequence[RecordedEvent],
        version: int,
    ) -> CachedState:
        """Fold events that follow a cached state, and cache the new state.

        Args:
            wanted: The kind and the id of the stream.
            found: The cached state; None to begin with the initial state.
            events: The events up to `version`. They may begin before the cached state
                ends.
            version: The version of the new state, not before that of the cached one.
        """
        kind, stream = wanted
        first, state = (0, initial_state(kind, stream)) if found is None else found[:2]
        begin = max(0, len(events) - (version - first))
        for start in range(begin, len(events), _EVENTS_A_SLICE):
            part = events[start : start + _EVENTS_A_SLICE]
            state = fold_recorded(kind, stream, state, part, self._decoder)
            await self.let_others_run()
        if (
            kind.snapshots is not None
            and version - first >= kind.snapshots.every
            and self._cache.saves_snapshots
        ):
            due = [(kind, stream, version, state)]
            await save_snapshots(self._port, due, self._decoder.registry)
        added = 0
        if first:
            added = sum(EVENT_BYTES + len(one.data) for one in events[begin:])
        return self._cache.put(kind, stream, version, state, self.generation, added)
