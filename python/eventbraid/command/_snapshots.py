"""Reads and writes the snapshots of streams' states.

A kind of streams sets the interval: ``snapshot_every`` of `Stream` (`_stream`). Two
modules decide when a snapshot is written: `_stream_states` after a commit, and
`_stream_loading` after the fold of a long stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid._logging import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.command._cached_state import CachedState, Kind
    from eventbraid.command._port import Port
    from eventbraid.command._stream_states import DueSnapshot
    from eventbraid.event import EventRegistry


async def find_snapshot(
    port: Port, kind: Kind, stream: str, registry: EventRegistry
) -> CachedState | None:
    """Return the newest recorded state of a stream, in the form of a cached one.

    It may be newer than the position at which the caller reads the stream. The caller
    compares its version with that of the stream, as for a cached state.

    Raises:
        InvalidArgument: The codec of the snapshots can't be determined.
    """
    snapshots = kind.snapshots
    if snapshots is None:
        return None
    recorded = await port.read_last(snapshots.stream_of(stream, registry))
    if recorded is None:
        return None
    return snapshots.decoded(stream, recorded, registry)


async def save_snapshots(
    port: Port, due: Iterable[DueSnapshot], registry: EventRegistry
) -> None:
    """Append snapshots of states, each with its kind, its stream and its version.

    A snapshot saves time and nothing else, so a failure is only logged.
    """
    for kind, stream, version, state in due:
        snapshots = kind.snapshots
        if snapshots is None:
            continue
        try:
            event = snapshots.encoded(stream, version, state, registry)
            if event is not None:
                await port.append([event])
        except Exception as error:  # noqa: BLE001 - a codec may raise anything
            COMMAND.warning(
                "the snapshot of %s at version %d was not written: %s",
                stream,
                version,
                error,
            )
