"""Compares recorded times with the present: deadlines, and delays of attempts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from eventbraid.saga.definition._retry import crash_delay

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga.definition._retry import Retry
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._progress import Attempts, Progress

# The clocks of two processes always differ a little.
CLOCK_TOLERANCE_SECONDS = 1.0
"""The maximum difference in seconds of two clocks that both count as right."""

TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_SECONDS)


def is_overdue(saga: Saga[Any], progress: Progress, now: datetime) -> bool:
    """Return whether the deadline has passed for a saga that can still be compensated.

    A blocked saga isn't overdue before its step was tried again. Its code may be
    corrected only after the deadline, and to continue is then better than to compensate
    all steps that have happened.
    """
    if progress.deadline is None or now < progress.deadline:
        return False
    if progress.blocked is not None:
        return False
    is_settled = saga.is_settled_at(progress.branch.position)
    return not (is_settled or progress.has_open_pivot)


def retry_due(attempts: Attempts, retry: Retry, now: datetime) -> datetime | None:
    """Return the time at which the next attempt is due; None if it is due now.

    A recorded time can't be right if it is further ahead than the longest delay before
    this attempt: it was recorded by a wall clock that has been set back since. Such a
    time counts as past.
    """
    due = attempts.retry_at
    if due is None or due <= now:
        return None
    return due if due <= now + _longest_delay(attempts, retry) + TOLERANCE else None


def wake_time(saga: Saga[Any], progress: Progress, retry_at: datetime) -> datetime:
    """Return the time of a waiting step's next decision: the deadline, if earlier."""
    deadline = progress.deadline
    if deadline is None or deadline >= retry_at:
        return retry_at
    return deadline if is_overdue(saga, progress, retry_at) else retry_at


def _longest_delay(attempts: Attempts, retry: Retry) -> timedelta:
    if attempts.crashes:
        return crash_delay(attempts.crashes)
    return retry.delay(max(attempts.counted, 1))
