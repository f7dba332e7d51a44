"""The first action of a coordinator for a saga that another process has driven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._next_action import Action, Commit, Execute, Wait
from eventbraid.saga.machine._outcomes import AttemptBegun

if TYPE_CHECKING:
    from eventbraid.saga.running._run import Run


def first_action_after_takeover(run: Run[Any], action: Action) -> Action:
    """Return the first action after a takeover, with a record for a local step.

    The previous process may have ended during this step, and this process may end
    during it, too. Without a record of the attempt, such crashes couldn't be counted.
    In all other cases the attempt of a local step isn't recorded, because a commit
    before each local step would cost too much. It isn't recorded either if the step is
    blocked and no process has ended during it: otherwise the saga's stream would grow
    with each coordinator that meets the defect again.
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
    """Return whether a saga is blocked and its previous holder released the lease."""
    lease = run.shard_lease
    is_blocked = run.state.progress.blocked is not None
    return is_blocked and lease is not None and lease.was_released
