"""The decisions about a saga's steps: the records after an attempt and before one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from eventbraid.saga._defect_classification import Defect, Outage, trouble_of
from eventbraid.saga._text import shown
from eventbraid.saga.definition._graph import WAIT
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
    BranchChosen,
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
from eventbraid.saga.machine._item_rules import complete_items, list_items, state_for
from eventbraid.saga.machine._progress import SagaStatus, items_of
from eventbraid.saga.machine._step_transitions import attempt_to_be_settled
from eventbraid.saga.machine._wait_rules import proceed_with_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._step_base import SagaStep
    from eventbraid.saga.definition._wait import WaitStep
    from eventbraid.saga.machine._branch import Attempts, Branch
    from eventbraid.saga.machine._draft import Draft
    from eventbraid.saga.machine._events import CompensationReason, SagaEvent
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
    """Record what is due before the next calls and commands.

    The start of an attempt that must be made alone isn't recorded here. The driver
    records it, as soon as the other calls have ended or the maximum wait for them is
    over.

    Raises:
        Defect: A ``skip_if`` raised.
        Outage: A ``skip_if`` raised an `OSError`.
    """
    advance(draft)
    progress = draft.progress
    if progress.status is not SagaStatus.RUNNING:
        return
    for shape, branch in progress.active:
        if not branch.attempts.number or not _is_open(branch):
            continue
        if progress.stuck_steps and ends_in_compensation(draft.saga, progress):
            return
        _retry(draft, shape.name, branch.attempts)
        if draft.progress.status is not SagaStatus.RUNNING:
            return


def _retry(draft: Draft[Any], step: str, attempts: Attempts) -> None:
    """Record the start of a further attempt of a step, if it is due."""
    if compensate_if_overdue(draft, begin=True):
        return
    node = draft.saga.by_name[step]
    if retry_due(attempts, node.attempt_rules, draft.now) is not None:
        return
    # The attempt of a local step is recorded with its command, except after a crash.
    is_recorded = is_external(node) or attempts.crashes > 0
    if is_recorded and attempts.crashes < CRASHES_BEFORE_ALONE:
        draft.record(StepStarted(node.name, attempts.number + 1))


def advance(draft: Draft[Any]) -> None:
    """Record what follows a settled step, up to the next commands and calls.

    Steps that aren't needed are skipped, external steps are started, and the saga is
    completed after the last step. If a step of a group has failed for good, or the
    deadline has passed, nothing is started any more: the calls in flight are awaited,
    and then the saga is compensated.

    Raises:
        Defect: A ``skip_if`` raised; nothing is recorded.
        Outage: A ``skip_if`` raised an `OSError`; nothing is recorded.
    """
    active = draft.progress.active
    has_failed, is_due = False, not active or bool(draft.progress.undecided)
    for _, branch in active:
        if branch.failure is not None:
            has_failed = True
        elif not branch.attempts.number and branch.answer is None:
            is_due = True
    if (has_failed and end_group(draft)) or not is_due:
        return
    if compensate_if_overdue(draft):
        return
    before = (draft.progress, draft.data, draft.before_items, len(draft.events))
    try:
        _record_starts(draft)
    except (Defect, Outage):
        draft.return_to(*before)
        raise


def advance_if_possible(draft: Draft[Any]) -> None:
    """Record what `advance` records, or nothing if a function of the saga raises.

    The end of a step is in the same commit, and a defect in a later step must not
    prevent that commit. The next decision meets the defect again and reports it.
    """
    try:
        advance(draft)
    except (Defect, Outage):
        return


def _record_starts(draft: Draft[Any]) -> None:
    """Record what is due for the nodes that are next, and start the external steps."""
    starts: dict[str, StepStarted | None] = {}
    while _record_settled(draft, starts):
        # A settled step may be followed by others.
        continue
    for _, branch in draft.progress.active:
        # A wait may have failed here, because its time has come.
        if branch.failure is not None and end_group(draft):
            return
    if not draft.progress.active and not draft.progress.undecided:
        draft.record(SagaCompleted())
        return
    for start in starts.values():
        if start is not None:
            draft.record(start)


def _record_settled(draft: Draft[Any], starts: dict[str, StepStarted | None]) -> bool:
    """Record decisions, and the end of a step that is settled without an attempt.

    Args:
        draft: The draft of the decision.
        starts: The records of the steps that have to be started; they are added.

    Returns:
        Whether something was recorded, so that other nodes may be next.
    """
    undecided = draft.progress.undecided
    for name in undecided:
        _record_decision(draft, name)
    if undecided:
        return True
    for shape, branch in draft.progress.active:
        step = shape.name
        is_attempted = branch.attempts.number or branch.answer is not None
        if is_attempted or branch.failure is not None or step in starts:
            continue
        node = draft.saga.by_name[step]
        if node.skip_if is not None and branch.waiting is None:
            reason = _skip_reason(draft, step, node.skip_if)
            if reason is not None:
                draft.record(StepSkipped(step, reason))
                return True
        if shape.kind == WAIT:
            if proceed_with_wait(draft, cast("WaitStep[Any]", node), branch):
                return True
            starts[step] = None
        else:
            starts[step] = StepStarted(step) if is_external(node) else None
    return False


def _record_decision(draft: Draft[Any], name: str) -> None:
    """Record a choice, the items of a step, or that the step is settled for them."""
    if name in draft.saga.conditions:
        draft.record(BranchChosen(name, _condition(draft, name)))
    elif items_of(draft.progress, name) is None:
        list_items(draft, name)
    else:
        complete_items(draft, name)


def _condition(draft: Draft[Any], choice: str) -> bool:
    """Return whether the condition of a choice is true."""
    try:
        condition = draft.saga.conditions[choice]
        found = cast("object", condition(draft.data.read()))
    except BaseException as error:
        raise trouble_of(choice, "condition", error) from error
    if isinstance(found, bool):
        return found
    wrong = TypeError(
        f"the condition of choice {choice!r} returned {shown(found)}; expected True "
        "or False"
    )
    raise Defect(choice, "condition", wrong)


def _is_open(branch: Branch) -> bool:
    """Return whether a further attempt of the branch's step may be made."""
    is_waiting = branch.attempts.in_flight or branch.answer is not None
    return not is_waiting and branch.failure is None


def ends_in_compensation(saga: Saga[Any], progress: Progress) -> bool:
    """Return whether a step has failed for good, so that the saga is compensated.

    The compensation begins as soon as no call of the group is in flight.
    """
    if saga.is_settled_at(progress.root.position) or progress.has_open_pivot:
        return False
    for shape, branch in progress.active:
        # A step whose call ends the process waits for a person.
        is_failure = branch.failure is not None and not branch.attempts.crashes
        if is_failure and saga.by_name[shape.name].kind is not StepKind.RETRIABLE:
            return True
    return False


def end_group(draft: Draft[Any]) -> bool:
    """Record what follows if steps have failed for good and no call is in flight.

    Returns:
        Whether no further step may be started.
    """
    progress = draft.progress
    failed = progress.stuck_steps
    if not failed:
        return False
    active = progress.active
    if ends_in_compensation(draft.saga, draft.progress):
        if not any(branch.attempts.in_flight for _, branch in active):
            is_in_doubt = failed[0] in progress.doubtful
            reason: CompensationReason = "unknown" if is_in_doubt else "failed"
            start_compensation(draft, reason, step=failed[0], begin=True)
        return True
    if all(branch.failure is not None for _, branch in active):
        draft.record(SagaStuck(failed[0], _stuck_reason(progress, failed[0])))
        return True
    return False


def _stuck_reason(progress: Progress, step: str) -> str:
    branch = progress.branch(step)
    if branch.attempts.crashes:
        return killed(step, branch.attempts.crashes_alone)
    return branch.failure or ""


def _skip_reason(
    draft: Draft[Any], step: str, skip_if: Callable[[Any], object]
) -> str | None:
    """Return the reason why a step isn't needed; None if it is needed."""
    try:
        return _as_reason(step, skip_if(state_for(draft.saga, draft, step)))
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
    name = refused.success.step
    _record_success(draft, refused.success)
    detail = f"{name}: {refused.failure}"
    start_compensation(draft, "failed", step=name, detail=detail, begin=True)


def _record_success(draft: Draft[Any], success: Success) -> None:
    name, doubted = success.step, success.doubted
    branch = draft.progress.branch(name)
    if doubted is not None and doubted.doubt is not None and branch.attempts.in_flight:
        # With this record, the timeline shows why the receiver was asked.
        why, code, message = doubted.doubt, doubted.code, doubted.message
        draft.record(StepUnknown(name, why, code, message, branch.attempts.number))
    shape, branch = draft.progress.at(name)
    attempt = attempt_to_be_settled(shape, branch)
    draft.record(StepSucceeded(name, attempt, success.result, asked=success.asked))
    if success.data is not None:
        draft.take_data(success.data)


def fail(draft: Draft[Any], outcome: Failure) -> None:
    """Record a failed attempt, and what it leads to.

    It leads to another attempt, if the step's policy allows one. Otherwise another
    command replaces the step, or the saga is compensated. If the saga can't be
    compensated any more, it waits for a person.
    """
    node = draft.saga.by_name[outcome.step]
    attempts = draft.progress.branch(outcome.step).attempts
    attempt = attempts.number if is_external(node) else attempts.to_be_settled
    is_ending = ends_in_compensation(draft.saga, draft.progress)
    retry_at = None if is_ending else _retry_at(draft, node, outcome, attempt)
    draft.record(_failure_record(node, outcome, attempt, retry_at))
    if retry_at is not None:
        return
    if outcome.is_replaceable and node.otherwise is not None and not is_ending:
        draft.record(StepGivenUp(node.name))
        advance_if_possible(draft)
    else:
        end_group(draft)


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
    counted = attempt - draft.progress.branch(node.name).attempts.unspent
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


def record_late_answer(draft: Draft[Any], answer: LateAnswer) -> None:
    """Record an answer that came too late for the saga; a compensation may use it."""
    attempt = max(draft.progress.branch(answer.step).attempts.number, 1)
    draft.record(StepAnsweredLate(answer.step, attempt, answer.result))


# --- an attempt has ended with its process --------------------------------------------


def end_crashed_step(draft: Draft[Any], step: str, chance: float) -> None:
    """Record an attempt that ended with its process.

    Such an attempt doesn't count against the step's limit of attempts, because the
    call may not be the cause. If the process made no other call, the call was the
    cause. After ``maximum_crashes`` such crashes the saga is stuck.
    """
    attempts = draft.progress.branch(step).attempts
    node = draft.saga.by_name[step]
    crashes_alone = attempts.crashes_alone + attempts.alone
    is_final = crashes_alone >= node.attempt_rules.maximum_crashes
    retry_at = draft.now + crash_delay(attempts.crashes + 1, chance=chance)
    draft.record(_crash_record(node, attempts.number, None if is_final else retry_at))


def _crash_record(
    node: SagaStep[Any], attempt: int, retry_at: datetime | None
) -> StepFailed | StepUnknown:
    name, code, message = node.name, CRASH.code, CRASH.message
    if is_external(node):
        return StepUnknown(name, "crash", code, message, attempt, retry_at)
    # A local step that wasn't committed certainly had no effect.
    return StepFailed(name, code, message, attempt, retry_at=retry_at, crashed=True)


def cut_off(draft: Draft[Any], step: str) -> None:
    """Record that the coordinator was ended during the call, which isn't the cause.

    The next coordinator makes the call again without a pause.
    """
    attempt = draft.progress.branch(step).attempts.number
    message = "the coordinator was ended during the call"
    draft.record(
        StepUnknown(
            step,
            "crash",
            "CancelledError",
            message,
            attempt,
            draft.now,
            cancelled=True,
        )
    )
