"""The decisions about a saga's deadline: whether it has passed, and what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._compensation_rules import start_compensation

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._draft import Draft
    from eventbraid.saga.machine._progress import Progress

_DEADLINE_PASSED = "the saga's deadline has passed"


def compensate_if_overdue(draft: Draft[Any], *, begin: bool = False) -> bool:
    """Record that the compensation starts, if the deadline has passed.

    Args:
        draft: The draft of the decision.
        begin: Whether the first attempt of the compensation is recorded, too.

    Returns:
        Whether the deadline has passed. The compensation starts only when no call of a
        group is in flight.
    """
    if not is_overdue(draft.saga, draft.progress, draft.now):
        return False
    if any(branch.attempts.in_flight for _, branch in draft.progress.active):
        return True
    start_compensation(draft, "deadline", detail=_DEADLINE_PASSED, begin=begin)
    return True


def is_overdue(saga: Saga[Any], progress: Progress, now: datetime) -> bool:
    """Return whether the deadline has passed for a saga that can still be compensated.

    A blocked saga isn't overdue before its step was tried again. Its code may be
    corrected only after the deadline. Then it is better to continue the saga than to
    compensate all of its steps.
    """
    if progress.deadline is None or now < progress.deadline:
        return False
    if progress.blocked is not None:
        return False
    is_settled = saga.is_settled_at(progress.root.position)
    return not (is_settled or progress.has_open_pivot)


def wake_time(saga: Saga[Any], progress: Progress, retry_at: datetime) -> datetime:
    """Return the end of a wait for a retry: the deadline, if that is earlier."""
    deadline = progress.deadline
    if deadline is None or deadline >= retry_at:
        return retry_at
    return deadline if is_overdue(saga, progress, retry_at) else retry_at
