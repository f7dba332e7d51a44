"""Brings the state of a stream up to date, from a cached state and newer events."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from eventbraid.command._snapshots import find_snapshot, save_snapshots
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
    found = cache.find(kind, stream_id) or await find_snapshot(port, kind, stream_id)
    after = {stream_id: 0 if found is None else found[0]}
    snapshot = await port.read_streams([stream_id], after=after)
    loaded = await fold_on(
        port,
        cache,
        decoder,
        (kind, stream_id),
        found,
        snapshot.events,
        snapshot.versions[stream_id],
    )
    await port.checkpoint()
    return StreamState(cast("S", loaded[1]), loaded[0])


async def fold_on(
    port: Port,
    cache: StateCache,
    decoder: EventDecoder,
    wanted: tuple[Kind, str],
    found: CachedState | None,
    events: Sequence[RecordedEvent],
    version: int,
) -> CachedState:
    """Fold events that follow a cached state, and cache the new state.

    Args:
        port: Lets other tasks run during a long fold.
        cache: The cache.
        decoder: The decoder of the events.
        wanted: The kind and the id of the stream.
        found: The cached state; None to begin with the initial state.
        events: The events up to `version`. They may begin before the cached state ends.
        version: The version of the new state, not before that of the cached one.
    """
    kind, stream = wanted
    first, state = (0, initial_state(kind, stream)) if found is None else found[:2]
    begin = max(0, len(events) - (version - first))
    began = monotonic()
    for start in range(begin, len(events), _EVENTS_A_SLICE):
        part = events[start : start + _EVENTS_A_SLICE]
        state = fold_recorded(kind, stream, state, part, decoder)
        if monotonic() - began > TURN_SECONDS:
            await port.checkpoint()
            began = monotonic()
    if (
        kind.snapshots is not None
        and version - first >= kind.snapshots.every
        and cache.saves_snapshots
    ):
        await save_snapshots(port, [(kind, stream, version, state)])
    return cache.put(kind, stream, version, state, version - first if first else 0)
