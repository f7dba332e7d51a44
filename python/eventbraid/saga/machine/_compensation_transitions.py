"""The transitions of a saga's compensation: the changes that each record makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from eventbraid.saga.machine._attempt_transitions import (
    after_attempt_ended_by_defect,
    after_attempt_failed,
    after_attempt_started,
    failure_text,
    is_no_longer_alone,
)
from eventbraid.saga.machine._branch import (
    Attempts,
    Branch,
    may_have_happened,
    replaced,
)
from eventbraid.saga.machine._compensation_plan import compensation_plan
from eventbraid.saga.machine._progress import (
    Compensation,
    Progress,
    SagaStatus,
    with_root,
)
from eventbraid.saga.machine._transition_checks import (
    refuse,
    require_attempt,
    require_open,
)

if TYPE_CHECKING:
    from eventbraid.saga.machine._events import (
        CompensationAttempted,
        CompensationFailed,
        CompensationStarted,
        DefectRecorded,
        RetriedByHand,
        SagaCompensated,
        SkippedByHand,
        StepCompensated,
    )


def after_compensation_started(
    progress: Progress, event: CompensationStarted
) -> Progress:
    """Begin the compensation: adopt the plan, and end the attempts of the steps."""
    if progress.compensating:
        refuse(progress, event, "it is being compensated already")
    if event.plan != compensation_plan(progress):
        plan = compensation_plan(progress)
        refuse(progress, event, f"the plan must be {plan}")
    if progress.is_past_return:
        refuse(progress, event, "it has passed its point of no return")
    return with_root(
        progress,
        _abandoned(progress),
        status=SagaStatus.COMPENSATING,
        compensating=True,
        stuck_for=None,
        plan=event.plan,
        failure=event.detail or progress.failure or event.reason,
    )


def _abandoned(progress: Progress) -> Branch:
    """Return the root without calls in flight; the effects of these are in doubt."""
    root = progress.root
    for shape, branch in progress.active:
        is_doubtful = may_have_happened(shape, branch)
        attempts = replace(
            branch.attempts,
            in_flight=False,
            retry_at=None,
            doubt=branch.attempts.doubt or ("lost" if is_doubtful else None),
        )
        abandoned = Branch(branch.position, attempts)
        root = replaced(progress.graph, root, shape.name, abandoned)
    return root


def after_compensation_attempted(
    progress: Progress, event: CompensationAttempted
) -> Progress:
    """Begin an attempt, or remove the flag ``alone`` of the present attempt."""
    require_open(progress, event, event.step)
    attempts = progress.compensation(event.step).attempts
    if attempts.in_flight:
        if is_no_longer_alone(attempts, event.attempt, alone=event.alone):
            return _with_attempts(progress, event.step, replace(attempts, alone=False))
        refuse(progress, event, f"attempt {attempts.number} has no outcome yet")
    require_attempt(progress, event, event.attempt, attempts.number + 1)
    attempts = after_attempt_started(attempts, event.attempt, alone=event.alone)
    return _with_attempts(progress, event.step, attempts)


def after_step_compensated(progress: Progress, event: StepCompensated) -> Progress:
    """Remove a compensated step from the plan."""
    require_open(progress, event, event.step)
    attempts = progress.compensation(event.step).attempts
    require_attempt(progress, event, event.attempt, attempts.to_be_settled)
    return _without(progress, event.step)


def after_compensation_failed(
    progress: Progress, event: CompensationFailed
) -> Progress:
    """End a failed attempt to compensate; it is final if there is no next attempt."""
    require_open(progress, event, event.step)
    compensation = progress.compensation(event.step)
    require_attempt(progress, event, event.attempt, compensation.attempts.to_be_settled)
    attempts = after_attempt_failed(
        compensation.attempts,
        event.attempt,
        event.retry_at,
        doubt=event.doubt,
        is_crash=event.doubt == "crash",
        is_charged=compensation.attempts.alone,
    )
    is_final = event.retry_at is None
    failure = failure_text(event.step, event.code, event.message) if is_final else None
    return _with(
        progress, event.step, Compensation(attempts, compensation.generation, failure)
    )


def after_defect_of_compensation(progress: Progress, event: DefectRecorded) -> Progress:
    """End an attempt to compensate because of a defect."""
    attempts = progress.compensation(event.step).attempts
    require_attempt(progress, event, event.attempt, attempts.number)
    return _with_attempts(progress, event.step, after_attempt_ended_by_defect(attempts))


def retried_compensation(progress: Progress, event: RetriedByHand) -> Progress:
    """Reset the attempts of a failed compensation, so that it is attempted again.

    Only a doubt is kept, because an earlier attempt may have had an effect.
    """
    doubt = progress.compensation(event.step).attempts.doubt
    retried = Compensation(Attempts(doubt=doubt), event.generation)
    return replace(
        _with(progress, event.step, retried),
        status=SagaStatus.COMPENSATING,
        stuck_for=None,
    )


def skipped_compensation(progress: Progress, event: SkippedByHand) -> Progress:
    """Remove a failed compensation from the plan, as if it had been made."""
    return replace(
        _without(progress, event.step), status=SagaStatus.COMPENSATING, stuck_for=None
    )


def after_saga_compensated(progress: Progress, event: SagaCompensated) -> Progress:
    """End the saga after the last compensation of its plan."""
    if progress.plan:
        refuse(progress, event, f"step {progress.plan[0]!r} isn't compensated")
    return replace(progress, status=SagaStatus.COMPENSATED)


def _without(progress: Progress, step: str) -> Progress:
    rest = {name: at for name, at in progress.compensations.items() if name != step}
    index = progress.plan.index(step)
    plan = (*progress.plan[:index], *progress.plan[index + 1 :])
    return replace(progress, plan=plan, compensations=rest)


def _with_attempts(progress: Progress, step: str, attempts: Attempts) -> Progress:
    compensation = progress.compensation(step)
    return _with(
        progress,
        step,
        Compensation(attempts, compensation.generation, compensation.failure),
    )


def _with(progress: Progress, step: str, at: Compensation) -> Progress:
    return replace(progress, compensations={**progress.compensations, step: at})
