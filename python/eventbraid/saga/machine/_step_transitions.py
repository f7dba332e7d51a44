"""The transitions of a saga's steps: the changes that each record makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from eventbraid.saga.definition._graph import EACH, WHEN
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
    chose,
    may_have_happened,
    replaced,
    with_items,
    without_items,
)
from eventbraid.saga.machine._progress import Progress, SagaStatus, items_of, with_root
from eventbraid.saga.machine._transition_checks import (
    refuse,
    require_attempt,
    require_known,
    require_next,
    require_undecided,
)

if TYPE_CHECKING:
    from eventbraid.saga.definition._graph import NodeShape
    from eventbraid.saga.machine._events import (
        BranchChosen,
        DefectRecorded,
        ItemsCompleted,
        ItemsListed,
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
    _, branch = require_next(progress, event, event.step)
    attempts = branch.attempts
    if attempts.in_flight:
        if is_no_longer_alone(attempts, event.attempt, alone=event.alone):
            return _with_attempts(
                progress, event.step, branch, replace(attempts, alone=False)
            )
        refuse(progress, event, f"attempt {attempts.number} has no outcome yet")
    require_attempt(progress, event, event.attempt, attempts.number + 1)
    attempts = after_attempt_started(attempts, event.attempt, alone=event.alone)
    return _with_attempts(progress, event.step, branch, attempts)


def after_step_succeeded(progress: Progress, event: StepSucceeded) -> Progress:
    """Settle the step and keep its result."""
    shape, branch = require_next(progress, event, event.step)
    require_attempt(
        progress, event, event.attempt, attempt_to_be_settled(shape, branch)
    )
    return with_root(
        progress,
        replaced(progress.graph, progress.root, event.step, None),
        failure=None,
        done=(*progress.done, event.step),
        results={**progress.results, event.step: event.result},
    )


def after_step_failed(progress: Progress, event: StepFailed) -> Progress:
    """End an attempt that had no effect."""
    shape, branch = require_next(progress, event, event.step)
    require_attempt(
        progress, event, event.attempt, attempt_to_be_settled(shape, branch)
    )
    failed = after_attempt_failed(
        branch.attempts,
        event.attempt,
        event.retry_at,
        is_crash=event.crashed,
        is_charged=branch.attempts.alone,
    )
    failure = failure_text(event.step, event.code, event.message)
    is_final = event.retry_at is None
    return _failed(progress, event.step, branch, failed, failure, is_final=is_final)


def after_step_unknown(progress: Progress, event: StepUnknown) -> Progress:
    """End an attempt that may have had an effect."""
    shape, branch = require_next(progress, event, event.step)
    if not may_have_happened(shape, branch):
        refuse(progress, event, "no attempt is in progress")
    attempts = branch.attempts
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
    is_final = event.retry_at is None
    return _failed(progress, event.step, branch, unknown, failure, is_final=is_final)


def after_step_skipped(progress: Progress, event: StepSkipped) -> Progress:
    """Settle a step that wasn't needed."""
    _, branch = require_next(progress, event, event.step)
    if branch.attempts.number:
        refuse(progress, event, "the step was attempted")
    return _settled(progress, event.step)


def after_branch_chosen(progress: Progress, event: BranchChosen) -> Progress:
    """Continue with the chosen sequence of a choice."""
    require_undecided(progress, event, event.choice, WHEN)
    chosen = 0 if event.condition else 1
    root = chose(progress.graph, progress.root, event.choice, chosen)
    return with_root(progress, root)


def after_items_listed(progress: Progress, event: ItemsListed) -> Progress:
    """Begin the step of the first items."""
    require_undecided(progress, event, event.step, EACH)
    if items_of(progress, event.step) is not None:
        refuse(progress, event, "the items are listed already")
    root = with_items(
        progress.graph, progress.root, event.step, event.keys, event.concurrency
    )
    return with_root(progress, root)


def after_items_completed(progress: Progress, event: ItemsCompleted) -> Progress:
    """Settle a step that is executed for each item."""
    require_undecided(progress, event, event.step, EACH)
    if items_of(progress, event.step) is None:
        refuse(progress, event, "the items aren't listed yet")
    root = without_items(progress.graph, progress.root, event.step)
    return with_root(progress, root)


def after_step_given_up(progress: Progress, event: StepGivenUp) -> Progress:
    """Settle a step that failed for good and was replaced by another command."""
    shape, branch = require_next(progress, event, event.step)
    if branch.failure is None:
        refuse(progress, event, "the step hasn't failed for good")
    if not shape.replaceable:
        refuse(progress, event, "the step declares no command that replaces it")
    settled = _settled(progress, event.step)
    if branch.attempts.doubt is None:
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
    _, branch = require_next(progress, event, event.step)
    require_attempt(progress, event, event.attempt, branch.attempts.number)
    answer = event.answer if event.answered else None
    attempts = after_attempt_ended_by_defect(branch.attempts)
    return _with(progress, event.step, Branch(branch.position, attempts, answer))


def retried_step(progress: Progress, event: RetriedByHand) -> Progress:
    """Reset the attempts of a stuck step, so that it is attempted again.

    Only a doubt is kept, because an earlier attempt may have had an effect.
    """
    branch = progress.branch(event.step)
    attempts = Attempts(doubt=branch.attempts.doubt)
    retried = _with(
        progress, event.step, Branch(branch.position, attempts, branch.answer)
    )
    return replace(
        retried,
        status=SagaStatus.RUNNING,
        stuck_for=None,
        generations={**progress.generations, event.step: event.generation},
    )


def skipped_step(progress: Progress, step: str) -> Progress:
    """Count a stuck step as settled."""
    return replace(_settled(progress, step), status=SagaStatus.RUNNING, stuck_for=None)


def after_saga_completed(progress: Progress, event: SagaCompleted) -> Progress:
    """End the saga after its last step."""
    unsettled = (*progress.steps, *progress.undecided)
    if unsettled:
        refuse(progress, event, f"step {unsettled[0]!r} isn't settled")
    return replace(progress, status=SagaStatus.COMPLETED)


def attempt_to_be_settled(shape: NodeShape, branch: Branch) -> int:
    """Return the number of the attempt whose outcome may be recorded; 0 for none.

    For an external step, this is an attempt whose start is recorded, or an attempt in
    doubt about which the receiver was asked. For a local step, the start of the attempt
    may be missing from the records, because it is recorded only after a takeover or a
    crash.
    """
    attempts = branch.attempts
    if shape.local:
        return attempts.to_be_settled
    return attempts.number if may_have_happened(shape, branch) else 0


def _settled(progress: Progress, step: str) -> Progress:
    """Advance the branch of a step past the step."""
    root = replaced(progress.graph, progress.root, step, None)
    return with_root(progress, root, failure=None)


def _failed(
    progress: Progress,
    step: str,
    branch: Branch,
    attempts: Attempts,
    failure: str,
    *,
    is_final: bool,
) -> Progress:
    failed = Branch(branch.position, attempts, failure=failure if is_final else None)
    root = replaced(progress.graph, progress.root, step, failed)
    return with_root(progress, root, failure=failure)


def _with_attempts(
    progress: Progress, step: str, branch: Branch, attempts: Attempts
) -> Progress:
    """Replace the attempts at a step, and remove a recorded answer."""
    return _with(progress, step, Branch(branch.position, attempts))


def _with(progress: Progress, step: str, branch: Branch) -> Progress:
    return with_root(progress, replaced(progress.graph, progress.root, step, branch))
