"""The first action of a coordinator for a saga that another process drove before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._next_action import Action, Commit, Execute, Wait
from eventbraid.saga.machine._outcomes import AttemptBegun

if TYPE_CHECKING:
    from eventbraid.saga.running._run import Run


def first_action_after_takeover(run: Run[Any], action: Action) -> Action:
    """Return the first action after a takeover, or the commit that must precede it.

    If the action is a local step that would begin without a record, the commit records
    the start of the attempt. The previous process may have ended during this step, and
    this process may end during it, too. Without a record of the attempt's start, such
    crashes couldn't be counted.

    Without a takeover, the start of a local step is recorded only after a crash,
    because a commit before each local step would cost too much.

    After a takeover, the start isn't recorded if the saga is blocked and the previous
    holder released the lease. That holder didn't crash. If the start were recorded, the
    saga's stream would grow with each coordinator that finds the same defect.
    """
    if isinstance(action, Wait):
        return action
    run.end_takeover()
    if _is_blocked_in_order(run):
        return action
    if not isinstance(action, Execute):
        return action
    branch = run.state.progress.branch(action.step.name)
    if branch.attempts.in_flight or not action.is_recorded:
        return action
    return Commit(*run.decide(AttemptBegun(action.step.name)))


def _is_blocked_in_order(run: Run[Any]) -> bool:
    """Return whether a saga is blocked and its previous holder released the lease."""
    lease = run.shard_lease
    is_blocked = run.state.progress.blocked is not None
    return is_blocked and lease is not None and lease.was_released
