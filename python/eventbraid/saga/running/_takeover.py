"""What a coordinator records first of a saga that another process has driven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._consequences import interrupted
from eventbraid.saga.machine._events import StepStarted
from eventbraid.saga.machine._next_action import Action, Commit, Execute, Wait

if TYPE_CHECKING:
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.running._run import Run


def interruption_records(run: Run[Any], chance: float) -> tuple[SagaEvent, ...]:
    """Return the records of attempts that ended with their process.

    Args:
        run: The saga, driven by a process that has ended.
        chance: The draw of the jitter, from 0 to 1.
    """
    return interrupted(run.saga, run.progress, run.clock.now(), chance=chance)


def watched_action(run: Run[Any], action: Action) -> Action:
    """Have the attempt of a local step recorded before it, after a takeover.

    The process that had the saga before may have ended in this step, and this one may
    end in it, too: without a record nobody could count that. Otherwise the attempt
    isn't recorded, because a commit for each local step would cost too much. Nor is it
    if the step is blocked and no process has ended in it: its stream would grow with
    each coordinator that meets the defect again.
    """
    if isinstance(action, Wait):
        return action
    run.end_takeover()
    if _is_blocked_in_order(run):
        return action
    if not isinstance(action, Execute):
        return action
    if run.progress.in_flight or action.start is not None:
        return action
    return Commit((StepStarted(action.step.name, action.attempt),))


def _is_blocked_in_order(run: Run[Any]) -> bool:
    """Return whether a saga is blocked, and its holder before gave it back alive."""
    lease = run.shard_lease
    is_blocked = run.progress.blocked is not None
    return is_blocked and lease is not None and lease.was_released
