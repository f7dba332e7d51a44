"""The waits of a saga, measured by its clock, and the limit of its deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._deadline_rules import is_overdue
from eventbraid.saga.machine._progress import SagaStatus

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga.running._run import Run


def seconds_to_confirm(run: Run[Any]) -> float:
    """Return the seconds to wait until the saga's time is confirmed; 0 for no wait.

    If this process started with a wrong wall clock, a deadline may seem to have passed
    although it hasn't. A compensation can't be reversed, so the time must be confirmed
    first.
    """
    progress = run.state.progress
    if progress.deadline is None or progress.status is not SagaStatus.RUNNING:
        return 0.0
    seconds = run.clock.seconds_to_confirm()
    if not seconds or not is_overdue(run.saga, progress, run.clock.now()):
        return 0.0
    return seconds


def seconds_until(run: Run[Any], until: datetime) -> float:
    """Return the seconds until a time, or until the clock is confirmed, if earlier."""
    is_confirmed = run.clock.is_confirmed
    seconds = (until - run.clock.now()).total_seconds()
    if is_confirmed or run.state.progress.deadline is None:
        return seconds
    return min(seconds, run.clock.seconds_to_confirm())


def bound_deadline(run: Run[Any]) -> None:
    """Limit a deadline that is later than the saga's declaration allows.

    Such a deadline was recorded while a wall clock was ahead. Without this limit, the
    deadline might not pass for years.
    """
    deadline, longest = run.state.progress.deadline, run.saga.deadline
    if deadline is None or longest is None:
        return
    if not run.clock.is_confirmed:
        run.clock.now()
    bounded = run.clock.bounded(deadline, longest)
    if bounded != deadline:
        run.bound_deadline(bounded)
