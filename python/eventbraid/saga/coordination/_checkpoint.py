"""Recorded checkpoints of the set of unfinished sagas.

A checkpoint has a position of the log, and the sagas that were unfinished at that
position.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, cast

from eventbraid.errors import EventDecodeError, LimitExceeded, UnknownEventType
from eventbraid.event import decode_event, new_event
from eventbraid.saga.machine._events import CHECKPOINT_STREAM, SagaCheckpoint
from eventbraid.store._system import system_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.store import AsyncStore, RecordedEvent

_log = logging.getLogger("eventbraid.saga")

UNREADABLE = -1
"""The index of a declaration that couldn't be read."""

# The number of checkpoints that may be written without a wait, and the number of
# seconds after which one more is allowed.
_WITHOUT_WAIT = 12
_SECONDS_EACH = 60.0


class CheckpointBudget:
    """Limits the rate of checkpoints of a coordinator, however many sagas end.

    At most 72 checkpoints are written in an hour. Fewer checkpoints do no harm: the
    next start folds the records after the last checkpoint from the log.
    """

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        """Begin with a full budget."""
        self._full_at = -math.inf

    def spend(self, now: float) -> float:
        """Count one checkpoint; return the number of seconds after which to write it.

        Args:
            now: The time of a monotonic clock, in seconds.
        """
        self._full_at = max(self._full_at, now) + _SECONDS_EACH
        return max(self._full_at - now - _WITHOUT_WAIT * _SECONDS_EACH, 0.0)


def checkpoint_of(
    position: int, sagas: Mapping[str, Declaration | None]
) -> SagaCheckpoint:
    """Build a checkpoint; declarations that several sagas share are in it once.

    Args:
        position: The position.
        sagas: The unfinished sagas, each with the declaration that it needs.
    """
    distinct = {needed: None for needed in sagas.values() if needed is not None}
    indexes = {needed: index for index, needed in enumerate(distinct)}
    needs = [UNREADABLE if d is None else indexes[d] for d in sagas.values()]
    return SagaCheckpoint(position, tuple(sagas), tuple(indexes), tuple(needs))


async def write_checkpoint(store: AsyncStore, checkpoint: SagaCheckpoint) -> bool:
    """Append a checkpoint; return whether the store accepted it."""
    event = system_event(new_event(CHECKPOINT_STREAM, checkpoint))
    try:
        await store.append([event])
    except LimitExceeded as error:
        # The sagas' ids are too long together. Without this checkpoint, the next start
        # folds more of the log.
        _log.warning("no checkpoint of %d sagas: %s", len(checkpoint.open), error)
        return False
    return True


async def read_last_checkpoint(store: AsyncStore) -> SagaCheckpoint | None:
    """Return the newest checkpoint that can be read; None if there is none."""
    before: int | None = None
    while True:
        last = store.read_stream(
            CHECKPOINT_STREAM, backward=True, limit=1, before=before
        )
        found = [recorded async for recorded in last]
        if not found:
            return None
        checkpoint = _checkpoint_in(found[0])
        if checkpoint is not None:
            return checkpoint
        before = found[0].version


def _checkpoint_in(recorded: RecordedEvent) -> SagaCheckpoint | None:
    """Return the checkpoint in a record; None if the checkpoint isn't valid."""
    try:
        checkpoint = cast("SagaCheckpoint", decode_event(recorded))
        if _is_plausible(checkpoint, recorded.position):
            return checkpoint
        problem = "its content is inconsistent"
    except (EventDecodeError, UnknownEventType, ValueError, RecursionError) as error:
        problem = str(error)
    _log.warning(
        "skipped version %d of stream %r, an older checkpoint is used: %s",
        recorded.version,
        CHECKPOINT_STREAM,
        problem,
    )
    return None


def _is_plausible(checkpoint: object, position: int) -> bool:
    if not isinstance(checkpoint, SagaCheckpoint):
        return False
    # A valid checkpoint has a position before its own record.
    if not 0 <= checkpoint.position < position:
        return False
    if not checkpoint.needs:
        return not checkpoint.declarations
    indexes = range(UNREADABLE, len(checkpoint.declarations))
    return len(checkpoint.needs) == len(checkpoint.open) and all(
        need in indexes for need in checkpoint.needs
    )
