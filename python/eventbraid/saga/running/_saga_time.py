"""The waits of a saga by its clock, and the limits of its deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._due_times import is_overdue
from eventbraid.saga.machine._progress import Status

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga.running._run import Run


def seconds_to_confirm(run: Run[Any]) -> float:
    """Return the seconds until the saga's time is confirmed, if that must be awaited.

    If the saga's deadline seems to have passed, this process may have started while the
    wall clock was wrong. To compensate the saga for that can't be taken back.
    """
    progress = run.state.progress
    if progress.deadline is None or progress.status is not Status.RUNNING:
        return 0.0
    seconds = run.clock.seconds_to_confirm()
    if not seconds or not is_overdue(run.saga, progress, run.clock.now()):
        return 0.0
    return seconds


def seconds_until(run: Run[Any], until: datetime) -> float:
    """Return the seconds until a time, or until the clock is confirmed before it."""
    is_confirmed = run.clock.is_confirmed
    seconds = (until - run.clock.now()).total_seconds()
    if is_confirmed or run.state.progress.deadline is None:
        return seconds
    return min(seconds, run.clock.seconds_to_confirm())


def bound_deadline(run: Run[Any]) -> None:
    """Bound a deadline that lies further ahead than the saga's declaration allows.

    Such a deadline was recorded by a wall clock that was ahead; obeyed, it might not
    pass for years.
    """
    deadline, longest = run.state.progress.deadline, run.saga.deadline
    if deadline is None or longest is None:
        return
    if not run.clock.is_confirmed:
        run.clock.now()
    bounded = run.clock.bounded(deadline, longest)
    if bounded != deadline:
        run.bound_deadline(bounded)
