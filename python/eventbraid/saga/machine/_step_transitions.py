"""The transitions of a saga's steps: the changes that each record makes."""

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
from eventbraid.saga.machine._progress import Attempts, Branch, Progress, SagaStatus
from eventbraid.saga.machine._transition_checks import (
    refuse,
    require_attempt,
    require_known,
    require_next_step,
)

if TYPE_CHECKING:
    from eventbraid.saga.machine._events import (
        DefectRecorded,
        RetriedByHand,
        SagaCompleted,
        StepAnsweredLate,
        StepFailed,
        StepGivenUp,
        StepSkipped,
        StepStarted,
        StepSucceeded,
        StepUnknown,
    )


def after_step_started(progress: Progress, event: StepStarted) -> Progress:
    """Begin an attempt, or remove the flag ``alone`` of the present attempt."""
    require_next_step(progress, event, event.step)
    attempts = progress.branch.attempts
    if attempts.in_flight:
        if is_no_longer_alone(attempts, event.attempt, alone=event.alone):
            return _with_attempts(progress, replace(attempts, alone=False))
        refuse(progress, event, f"attempt {attempts.number} has no outcome yet")
    require_attempt(progress, event, event.attempt, attempts.number + 1)
    return _with_attempts(
        progress, after_attempt_started(attempts, event.attempt, alone=event.alone)
    )


def after_step_succeeded(progress: Progress, event: StepSucceeded) -> Progress:
    """Settle the step and keep its result."""
    require_next_step(progress, event, event.step)
    require_attempt(progress, event, event.attempt, attempt_to_be_settled(progress))
    return replace(
        progress,
        branch=Branch(progress.branch.position + 1),
        failure=None,
        done=(*progress.done, event.step),
        results={**progress.results, event.step: event.result},
    )


def after_step_failed(progress: Progress, event: StepFailed) -> Progress:
    """End an attempt that had no effect."""
    require_next_step(progress, event, event.step)
    require_attempt(progress, event, event.attempt, attempt_to_be_settled(progress))
    attempts = progress.branch.attempts
    failed = after_attempt_failed(
        attempts,
        event.attempt,
        event.retry_at,
        is_crash=event.crashed,
        is_charged=attempts.alone,
    )
    failure = failure_text(event.step, event.code, event.message)
    return _with_attempts(progress, failed, failure=failure)


def after_step_unknown(progress: Progress, event: StepUnknown) -> Progress:
    """End an attempt that may have had an effect."""
    require_next_step(progress, event, event.step)
    if not progress.may_have_happened:
        refuse(progress, event, "no attempt is in progress")
    attempts = progress.branch.attempts
    require_attempt(progress, event, event.attempt, attempts.number)
    unknown = after_attempt_failed(
        attempts,
        event.attempt,
        event.retry_at,
        doubt=event.why,
        is_crash=event.why == "crash",
        is_charged=attempts.alone and not event.cancelled,
    )
    failure = failure_text(event.step, event.code or event.why, event.message)
    return _with_attempts(progress, unknown, failure=failure)


def after_step_skipped(progress: Progress, event: StepSkipped) -> Progress:
    """Settle a step that wasn't needed."""
    require_next_step(progress, event, event.step)
    if progress.branch.attempts.number:
        refuse(progress, event, "the step was attempted")
    return _settled(progress)


def after_step_given_up(progress: Progress, event: StepGivenUp) -> Progress:
    """Settle a step that failed for good and was replaced by another command."""
    require_next_step(progress, event, event.step)
    attempts = progress.branch.attempts
    if not attempts.number or attempts.in_flight or attempts.retry_at is not None:
        refuse(progress, event, "the step hasn't failed for good")
    if not progress.graph[progress.branch.position].replaceable:
        refuse(progress, event, "the step declares no command that replaces it")
    settled = _settled(progress)
    if attempts.doubt is None:
        return settled
    # The step may have had an effect, so a later compensation of the saga includes it.
    return replace(settled, done=(*progress.done, event.step))


def after_step_answered_late(progress: Progress, event: StepAnsweredLate) -> Progress:
    """Keep the result of a call that was answered after the saga had continued."""
    require_known(progress, event, event.step)
    if event.step in progress.results:
        return progress
    return replace(progress, results={**progress.results, event.step: event.result})


def after_defect_of_step(progress: Progress, event: DefectRecorded) -> Progress:
    """End an attempt because of a defect; keep the receiver's answer, if any."""
    require_next_step(progress, event, event.step)
    branch = progress.branch
    require_attempt(progress, event, event.attempt, branch.attempts.number)
    answer = event.answer if event.answered else None
    attempts = after_attempt_ended_by_defect(branch.attempts)
    return replace(progress, branch=Branch(branch.position, attempts, answer))


def retried_step(progress: Progress, event: RetriedByHand) -> Progress:
    """Reset the attempts of a stuck step, so that it is attempted again.

    Only a doubt is kept, because an earlier attempt may have had an effect.
    """
    branch = progress.branch
    attempts = Attempts(doubt=branch.attempts.doubt)
    return replace(
        progress,
        status=SagaStatus.RUNNING,
        stuck_for=None,
        branch=Branch(branch.position, attempts, branch.answer),
        generations={**progress.generations, event.step: event.generation},
    )


def skipped_step(progress: Progress) -> Progress:
    """Count a stuck step as settled."""
    return replace(_settled(progress), status=SagaStatus.RUNNING, stuck_for=None)


def after_saga_completed(progress: Progress, event: SagaCompleted) -> Progress:
    """End the saga after its last step."""
    if progress.step is not None:
        refuse(progress, event, f"step {progress.step!r} isn't settled")
    return replace(progress, status=SagaStatus.COMPLETED)


def attempt_to_be_settled(progress: Progress) -> int:
    """Return the number of the attempt whose outcome may be recorded; 0 for none.

    For an external step, this is an attempt whose start is recorded, or an attempt in
    doubt about which the receiver was asked. For a local step, the start of the attempt
    may be missing from the records, because it is recorded only after a takeover or a
    crash.
    """
    attempts = progress.branch.attempts
    if progress.graph[progress.branch.position].local:
        return attempts.to_be_settled
    return attempts.number if progress.may_have_happened else 0


def _settled(progress: Progress) -> Progress:
    """Advance the branch past its step."""
    return replace(progress, branch=Branch(progress.branch.position + 1), failure=None)


def _with_attempts(
    progress: Progress, attempts: Attempts, *, failure: str | None = None
) -> Progress:
    """Replace the attempts at the branch's step, and remove a recorded answer."""
    branch = Branch(progress.branch.position, attempts)
    if failure is None:
        return replace(progress, branch=branch)
    return replace(progress, branch=branch, failure=failure)
