"""The decider: the records that follow from an outcome or a request.

Each decision about a saga is made here, by a pure function. It reads no clock, draws no
random number and uses no store. So the same outcome in the same state leads to the same
records in each process, and a test needs only values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.saga.machine import _compensation_rules as compensation
from eventbraid.saga.machine import _step_rules as steps
from eventbraid.saga.machine._defect_rules import record_defect, record_unfoldable
from eventbraid.saga.machine._draft import Draft, RecordDraft
from eventbraid.saga.machine._events import CompensationAttempted, StepStarted
from eventbraid.saga.machine._outcomes import (
    ActionOutcome,
    AttemptBegun,
    CancelRequest,
    CompensationFailure,
    CompensationSuccess,
    Crash,
    CutOff,
    DefectFound,
    Failure,
    LateAnswer,
    NoLongerAlone,
    Proceed,
    RefusedSuccess,
    Request,
    RetryRequest,
    SignalRequest,
    SkipRequest,
    Start,
    Success,
    Unfoldable,
    WithoutDeclaration,
)
from eventbraid.saga.machine._progress import Progress, SagaStatus
from eventbraid.saga.machine._request_rules import cancel, retry, skip, start
from eventbraid.saga.machine._state import SagaState
from eventbraid.saga.machine._wait_rules import receive_signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._events import SagaEvent

S = TypeVar("S")


def decide(
    saga: Saga[S], state: SagaState[S], outcome: ActionOutcome | Request, now: datetime
) -> tuple[tuple[SagaEvent, ...], SagaState[S]]:
    """Return the records that follow from an outcome, and the state after them.

    Args:
        saga: The saga's declaration.
        state: Its state before.
        outcome: The outcome of the last action, or a request.
        now: The time.

    Returns:
        The records, in order, and the state. If there are no records, nothing needs to
        be committed, and the state is unchanged.

    Raises:
        InvalidTransition: The outcome isn't possible in this state.
        Defect: A ``skip_if`` raised, and the outcome was `Proceed`.
        Outage: A ``skip_if`` raised an `OSError`, and the outcome was `Proceed`.
    """
    draft = Draft(saga, state, now)
    _RULES[type(outcome)](draft, outcome)
    after = SagaState(draft.progress, draft.data, draft.before_items)
    return tuple(draft.events), after


def decide_without_declaration(
    progress: Progress, outcome: WithoutDeclaration
) -> tuple[tuple[SagaEvent, ...], Progress]:
    """Return the records that follow from an outcome, without the declaration.

    This is for a program that lacks the saga's declaration, or can't fold its results.

    Args:
        progress: The fold of the saga's stream.
        outcome: The outcome or the request.

    Returns:
        The records, in order, and the progress after them.

    Raises:
        InvalidTransition: The outcome isn't possible in this state.
    """
    draft = RecordDraft(progress)
    _RULES_OF_RECORDS[type(outcome)](draft, outcome)
    return tuple(draft.events), draft.progress


def _proceed(draft: Draft[Any], outcome: Proceed) -> None:
    match draft.progress.status:
        case SagaStatus.RUNNING:
            steps.proceed(draft)
        case SagaStatus.COMPENSATING:
            compensation.proceed(draft, outcome.defective)
        case _:
            return


def _begin_attempt(draft: Draft[Any], outcome: AttemptBegun) -> None:
    step, alone, progress = outcome.step, outcome.alone, draft.progress
    if progress.compensating:
        attempt = progress.compensation(step).attempts.number + 1
        draft.record(CompensationAttempted(step, attempt, alone=alone))
    else:
        attempt = progress.branch(step).attempts.number + 1
        draft.record(StepStarted(step, attempt, alone=alone))


def _end_being_alone(draft: Draft[Any], _: NoLongerAlone) -> None:
    """Record the start of the present attempt again, without the flag ``alone``."""
    progress = draft.progress
    if progress.status is SagaStatus.RUNNING:
        for shape, branch in progress.active:
            if branch.attempts.in_flight and branch.attempts.alone:
                draft.record(StepStarted(shape.name, branch.attempts.number))
                return
        return
    for step in progress.plan:
        attempts = progress.compensation(step).attempts
        if attempts.in_flight and attempts.alone:
            draft.record(CompensationAttempted(step, attempts.number))
            return


def _end_crashed_attempts(draft: Draft[Any], crash: Crash) -> None:
    progress = draft.progress
    if progress.status is SagaStatus.COMPENSATING:
        compensation.end_crashed_attempts(draft, crash.chance)
    elif progress.status is SagaStatus.RUNNING:
        crashed = [s.name for s, b in progress.active if b.attempts.in_flight]
        for step in crashed:
            steps.end_crashed_step(draft, step, crash.chance)
        if crashed:
            steps.end_group(draft)


def _cut_off(draft: Draft[Any], outcome: CutOff) -> None:
    steps.cut_off(draft, outcome.step)


def _succeed_at_compensation(draft: Draft[Any], outcome: CompensationSuccess) -> None:
    compensation.succeed(draft, outcome.step, outcome.defective)


_RULES_OF_RECORDS: dict[
    type[ActionOutcome | Request], Callable[[RecordDraft, Any], None]
] = {
    CancelRequest: cancel,
    RetryRequest: retry,
    SignalRequest: receive_signal,
    Unfoldable: record_unfoldable,
}

_RULES: dict[type[ActionOutcome | Request], Callable[[Draft[Any], Any], None]] = {
    **_RULES_OF_RECORDS,
    Start: start,
    Proceed: _proceed,
    AttemptBegun: _begin_attempt,
    NoLongerAlone: _end_being_alone,
    Success: steps.succeed,
    RefusedSuccess: steps.compensate_success,
    Failure: steps.fail,
    LateAnswer: steps.record_late_answer,
    CutOff: _cut_off,
    Crash: _end_crashed_attempts,
    DefectFound: record_defect,
    CompensationSuccess: _succeed_at_compensation,
    CompensationFailure: compensation.fail,
    SkipRequest: skip,
}
