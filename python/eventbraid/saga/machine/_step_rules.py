"""The decisions about a saga's steps: the records after an attempt and before one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga._defect_classification import Defect, Outage, trouble_of
from eventbraid.saga._text import shown
from eventbraid.saga.definition._step import is_external
from eventbraid.saga.definition._step_base import StepKind
from eventbraid.saga.machine._compensation_rules import start_compensation
from eventbraid.saga.machine._crashes import (
    CRASH,
    CRASHES_BEFORE_ALONE,
    crash_delay,
    killed,
)
from eventbraid.saga.machine._deadline_rules import compensate_if_overdue, is_overdue
from eventbraid.saga.machine._due_times import retry_due
from eventbraid.saga.machine._events import (
    SagaCompleted,
    SagaStuck,
    StepAnsweredLate,
    StepFailed,
    StepGivenUp,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnknown,
)
from eventbraid.saga.machine._step_transitions import attempt_to_be_settled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eventbraid.saga.definition._step_base import SagaStep
    from eventbraid.saga.machine._draft import Draft
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._outcomes import (
        Failure,
        LateAnswer,
        RefusedSuccess,
        Success,
    )
    from eventbraid.saga.machine._progress import Progress

_NOT_NEEDED = "it is not needed"


# --- the next records -----------------------------------------------------------------


def proceed(draft: Draft[Any]) -> None:
    """Record what is due before the next call or command.

    The start of an attempt that must be made alone isn't recorded here. The driver
    records it, as soon as the other calls have ended or the maximum wait for them is
    over.

    Raises:
        Defect: A ``skip_if`` raised.
        Outage: A ``skip_if`` raised an `OSError`.
    """
    branch = draft.progress.branch
    attempts = branch.attempts
    if attempts.in_flight or branch.answer is not None:
        return
    if not attempts.number:
        advance(draft)
        return
    if compensate_if_overdue(draft, begin=True):
        return
    node = draft.saga.steps[branch.position]
    if retry_due(attempts, node.attempt_rules, draft.now) is not None:
        return
    # The attempt of a local step is recorded with its command, except after a crash.
    is_recorded = is_external(node) or attempts.crashes > 0
    if is_recorded and attempts.crashes < CRASHES_BEFORE_ALONE:
        draft.record(StepStarted(node.name, attempts.number + 1))


def advance(draft: Draft[Any]) -> None:
    """Record what follows a settled step, up to the next command or call.

    Steps that aren't needed are skipped, an external step is started, and the saga is
    completed after the last step.

    Raises:
        Defect: A ``skip_if`` raised; nothing is recorded.
        Outage: A ``skip_if`` raised an `OSError`; nothing is recorded.
    """
    if compensate_if_overdue(draft):
        return
    steps, position = draft.saga.steps, draft.progress.branch.position
    if position < len(steps) and steps[position].skip_if is not None:
        # All reasons are computed before the first record is added, so that nothing is
        # recorded if a `skip_if` raises.
        for record in _skipped_steps(draft):
            draft.record(record)
        position = draft.progress.branch.position
    if position == len(steps):
        draft.record(SagaCompleted())
    elif is_external(steps[position]):
        draft.record(StepStarted(steps[position].name))


def advance_if_possible(draft: Draft[Any]) -> None:
    """Record what `advance` records, or nothing if a function of the saga raises.

    The end of a step is in the same commit, and a defect in a later step must not
    prevent that commit. The next decision meets the defect again and reports it.
    """
    try:
        advance(draft)
    except (Defect, Outage):
        return


def _skipped_steps(draft: Draft[Any]) -> list[StepSkipped]:
    """Return the records for the steps to skip, up to the next step that is needed."""
    skipped: list[StepSkipped] = []
    for node in draft.saga.steps[draft.progress.branch.position :]:
        if node.skip_if is None:
            break
        reason = _skip_reason(draft, node.name, node.skip_if)
        if reason is None:
            break
        skipped.append(StepSkipped(node.name, reason))
    return skipped


def _skip_reason(
    draft: Draft[Any], step: str, skip_if: Callable[[Any], object]
) -> str | None:
    """Return the reason why a step isn't needed; None if it is needed."""
    try:
        return _as_reason(step, skip_if(draft.data.read()))
    except BaseException as error:
        raise trouble_of(step, "skip_if", error) from error


def _as_reason(step: str, reason: object) -> str | None:
    match reason:
        case None | False:
            return None
        case True:
            return _NOT_NEEDED
        case str():
            return reason
        case _:
            raise TypeError(
                f"`skip_if` of step {step!r} returned {shown(reason)}; expected "
                "the reason as text or True to skip the step, None or False to take it"
            )


# --- an attempt has ended -------------------------------------------------------------


def succeed(draft: Draft[Any], success: Success) -> None:
    """Record the success of a step, and the start of the next step if requested."""
    _record_success(draft, success)
    if success.proceeds:
        advance_if_possible(draft)


def compensate_success(draft: Draft[Any], refused: RefusedSuccess) -> None:
    """Record the success of a step, and start compensating: its command was refused."""
    name = draft.progress.step or ""
    _record_success(draft, refused.success)
    detail = f"{name}: {refused.failure}"
    start_compensation(draft, "failed", step=name, detail=detail, begin=True)


def _record_success(draft: Draft[Any], success: Success) -> None:
    doubted, attempts = success.doubted, draft.progress.branch.attempts
    name = draft.progress.step or ""
    if doubted is not None and doubted.doubt is not None and attempts.in_flight:
        # With this record, the timeline shows why the receiver was asked.
        why, code, message = doubted.doubt, doubted.code, doubted.message
        draft.record(StepUnknown(name, why, code, message, attempts.number))
    attempt = attempt_to_be_settled(draft.progress)
    draft.record(StepSucceeded(name, attempt, success.result, asked=success.asked))
    if success.data is not None:
        draft.take_data(success.data)


def fail(draft: Draft[Any], outcome: Failure) -> None:
    """Record a failed attempt, and what it leads to.

    It leads to another attempt, if the step's policy allows one. Otherwise another
    command replaces the step, or the saga is compensated. If the saga can't be
    compensated any more, it waits for a person.
    """
    node = draft.saga.steps[draft.progress.branch.position]
    attempt = draft.progress.branch.attempts.number
    if not is_external(node):
        attempt = draft.progress.branch.attempts.to_be_settled
    retry_at = _retry_at(draft, node, outcome, attempt)
    draft.record(_failure_record(node, outcome, attempt, retry_at))
    if retry_at is not None:
        return
    if outcome.is_replaceable and node.otherwise is not None:
        draft.record(StepGivenUp(node.name))
        advance_if_possible(draft)
    elif _leaves_stuck(draft, node):
        reason = draft.progress.failure or str(outcome.failure)
        draft.record(SagaStuck(node.name, reason))
    else:
        is_in_doubt = draft.progress.may_have_happened
        start_compensation(
            draft, "unknown" if is_in_doubt else "failed", step=node.name, begin=True
        )


def gives_up(events: Sequence[SagaEvent]) -> bool:
    """Return whether, by these records, another command replaces a failed step.

    If so, the records must be committed together with the events of that command.
    """
    return any(isinstance(event, StepGivenUp) for event in events)


def _retry_at(
    draft: Draft[Any], node: SagaStep[Any], outcome: Failure, attempt: int
) -> datetime | None:
    """Return the time at which the next attempt is due; None if there is none."""
    is_proven = outcome.failure.doubt is None
    if is_proven and (is_external(node) or node.kind is not StepKind.RETRIABLE):
        return None
    counted = attempt - draft.progress.branch.attempts.unspent
    if not node.attempt_rules.allows_another(counted):
        return None
    if is_overdue(draft.saga, draft.progress, draft.now):
        return None
    return draft.now + node.attempt_rules.delay(counted, chance=outcome.chance)


def _failure_record(
    node: SagaStep[Any], outcome: Failure, attempt: int, retry_at: datetime | None
) -> StepFailed | StepUnknown:
    failure = outcome.failure
    name, code, message = node.name, failure.code, failure.message
    if failure.doubt is None:
        return StepFailed(name, code, message, attempt, outcome.facts, retry_at)
    return StepUnknown(name, failure.doubt, code, message, attempt, retry_at)


def _leaves_stuck(draft: Draft[Any], node: SagaStep[Any]) -> bool:
    """Return whether the final failure of a step leaves the saga stuck."""
    progress = draft.progress
    if node.kind is StepKind.RETRIABLE:
        return True
    return draft.saga.is_settled_at(progress.branch.position) or progress.has_open_pivot


def record_late_answer(draft: Draft[Any], answer: LateAnswer) -> None:
    """Record an answer that came too late for the saga; a compensation may use it."""
    attempt = max(draft.progress.branch.attempts.number, 1)
    draft.record(StepAnsweredLate(answer.step, attempt, answer.result))


# --- an attempt has ended with its process --------------------------------------------


def end_crashed_step(draft: Draft[Any], chance: float) -> None:
    """Record an attempt that ended with its process.

    Such an attempt doesn't count against the step's limit of attempts, because the
    call may not be the cause. If the process made no other call, the call was the
    cause. After ``maximum_crashes`` such crashes the saga is stuck.
    """
    attempts = draft.progress.branch.attempts
    node = draft.saga.steps[draft.progress.branch.position]
    crashes_alone = attempts.crashes_alone + attempts.alone
    is_final = crashes_alone >= node.attempt_rules.maximum_crashes
    retry_at = draft.now + crash_delay(attempts.crashes + 1, chance=chance)
    draft.record(_crash_record(node, draft.progress, None if is_final else retry_at))
    if is_final:
        draft.record(SagaStuck(node.name, killed(node.name, crashes_alone)))


def _crash_record(
    node: SagaStep[Any], progress: Progress, retry_at: datetime | None
) -> StepFailed | StepUnknown:
    name, code, message = node.name, CRASH.code, CRASH.message
    attempt = progress.branch.attempts.number
    if is_external(node):
        return StepUnknown(name, "crash", code, message, attempt, retry_at)
    # A local step that wasn't committed certainly had no effect.
    return StepFailed(name, code, message, attempt, retry_at=retry_at, crashed=True)


def cut_off(draft: Draft[Any]) -> None:
    """Record that the coordinator was ended during the call, which isn't the cause.

    The next coordinator makes the call again without a pause.
    """
    name, attempt = draft.progress.step or "", draft.progress.branch.attempts.number
    message = "the coordinator was ended during the call"
    draft.record(
        StepUnknown(
            name,
            "crash",
            "CancelledError",
            message,
            attempt,
            draft.now,
            cancelled=True,
        )
    )
