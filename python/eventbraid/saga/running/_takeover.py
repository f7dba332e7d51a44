"""The first action of a coordinator for a saga that another process has driven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._next_action import Action, Commit, Execute, Wait
from eventbraid.saga.machine._outcomes import AttemptBegun

if TYPE_CHECKING:
    from eventbraid.saga.running._run import Run


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
    if run.state.progress.branch.attempts.in_flight or not action.is_recorded:
        return action
    return Commit(*run.decide(AttemptBegun(action.step.name)))


def _is_blocked_in_order(run: Run[Any]) -> bool:
    """Return whether a saga is blocked, and its holder before gave it back alive."""
    lease = run.shard_lease
    is_blocked = run.state.progress.blocked is not None
    return is_blocked and lease is not None and lease.was_released
