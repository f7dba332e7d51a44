"""The transitions of a saga: which record may follow, and what it changes.

Pure: values in, values out. A record that the status graph doesn't have raises
`InvalidTransition` here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar, cast

from msgspec.structs import replace

from eventbraid.errors import InvalidTransition
from eventbraid.saga.machine._events import (
    CompensationAttempted,
    CompensationFailed,
    CompensationStarted,
    DefectRecorded,
    RetriedByHand,
    SagaCompensated,
    SagaCompleted,
    SagaEvent,
    SagaStarted,
    SagaStuck,
    SkippedByHand,
    StepAnsweredLate,
    StepCompensated,
    StepFailed,
    StepGivenUp,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnknown,
)
from eventbraid.saga.machine._progress import Compensation, Progress, Status


def fold(saga_id: str, events: Iterable[SagaEvent]) -> Progress:
    """Fold the events of a saga's stream.

    Args:
        saga_id: The saga's id.
        events: Its events, from the first.

    Raises:
        InvalidTransition: The events don't follow from each other.
    """
    return after(Progress(saga_id), events)


def after(progress: Progress, events: Iterable[SagaEvent]) -> Progress:
    """Give the progress after more events.

    Raises:
        InvalidTransition: The events don't follow from each other.
    """
    for event in events:
        progress = evolve(progress, event)
    return progress


def evolve(progress: Progress, event: SagaEvent) -> Progress:
    """Give the progress after one more event.

    Args:
        progress: The progress before.
        event: What is to be, or was, recorded.

    Raises:
        InvalidTransition: The status graph doesn't have this transition.
    """
    allowed, follow = _TRANSITIONS[type(event)]
    if progress.status not in allowed and not _is_early_decision(progress, event):
        statuses = " or ".join(sorted(status.value for status in allowed))
        _refuse(progress, event, f"it must be {statuses} for that")
    if progress.blocked is not None and _moves_on(progress, event):
        progress = replace(progress, blocked=None)
    return follow(progress, event)


def _is_early_decision(progress: Progress, event: SagaEvent) -> bool:
    """Return whether a stuck compensation is decided on before the others are made."""
    return (
        isinstance(event, RetriedByHand | SkippedByHand)
        and progress.status is Status.COMPENSATING
        and event.step in progress.stuck_steps
    )


def _moves_on(progress: Progress, event: SagaEvent) -> bool:
    """Return whether a record shows that a blocked saga isn't blocked any more."""
    blocked = progress.blocked
    if not progress.compensating or blocked is None:
        return True
    # Whatever is recorded while the saga is compensated, its state was folded before.
    if blocked.where == "then":
        return True
    # The compensations of other steps may go on meanwhile.
    return getattr(event, "step", blocked.step) == blocked.step


def _started(progress: Progress, event: SagaStarted) -> Progress:
    return replace(
        progress,
        status=Status.RUNNING,
        saga=event.saga,
        version=event.version,
        graph_hash=event.graph_hash,
        graph=event.graph,
        input=event.input,
        deadline=event.deadline,
    )


def _step_started(progress: Progress, event: StepStarted) -> Progress:
    _require_at_cursor(progress, event, event.step)
    if progress.in_flight:
        if progress.alone and not event.alone and event.attempt == progress.attempt:
            return replace(progress, alone=False)
        _refuse(progress, event, f"attempt {progress.attempt} has no outcome yet")
    _require_attempt(progress, event, event.attempt, progress.attempt + 1)
    return replace(
        progress,
        attempt=event.attempt,
        in_flight=True,
        alone=event.alone,
        retry_at=None,
        answer=None,
    )


def _step_succeeded(progress: Progress, event: StepSucceeded) -> Progress:
    _require_at_cursor(progress, event, event.step)
    _require_attempt(progress, event, event.attempt, _attempt_under_way(progress))
    settled = _settle(progress)
    return replace(
        settled,
        done=(*progress.done, event.step),
        results={**progress.results, event.step: event.result},
    )


def _step_failed(progress: Progress, event: StepFailed) -> Progress:
    _require_at_cursor(progress, event, event.step)
    _require_attempt(progress, event, event.attempt, _attempt_under_way(progress))
    return replace(
        progress,
        attempt=event.attempt,
        in_flight=False,
        unspent=progress.unspent + event.crashed,
        crashes=progress.crashes + 1 if event.crashed else 0,
        crashes_alone=progress.crashes_alone + progress.alone if event.crashed else 0,
        answer=None,
        retry_at=event.retry_at,
        failure=_failure_text(event.step, event.code, event.message),
    )


def _step_unknown(progress: Progress, event: StepUnknown) -> Progress:
    _require_at_cursor(progress, event, event.step)
    if not progress.may_have_happened:
        _refuse(progress, event, "no attempt is under way")
    _require_attempt(progress, event, event.attempt, progress.attempt)
    is_crash = event.why == "crash"
    is_charged = progress.alone and not event.cancelled
    return replace(
        progress,
        in_flight=False,
        unspent=progress.unspent + is_crash,
        crashes=progress.crashes + 1 if is_crash else 0,
        crashes_alone=progress.crashes_alone + is_charged if is_crash else 0,
        answer=None,
        doubt=event.why,
        retry_at=event.retry_at,
        failure=_failure_text(event.step, event.code or event.why, event.message),
    )


def _step_skipped(progress: Progress, event: StepSkipped) -> Progress:
    _require_at_cursor(progress, event, event.step)
    if progress.attempt:
        _refuse(progress, event, "the step was attempted")
    return _settle(progress)


def _step_given_up(progress: Progress, event: StepGivenUp) -> Progress:
    _require_at_cursor(progress, event, event.step)
    if not progress.attempt or progress.in_flight or progress.retry_at is not None:
        _refuse(progress, event, "the step hasn't failed for good")
    if not progress.graph[progress.cursor].replaceable:
        _refuse(progress, event, "no other command takes the place of the step")
    settled = _settle(progress)
    if progress.doubt is None:
        return settled
    # It may have happened: whatever compensates the saga compensates it too.
    return replace(settled, done=(*progress.done, event.step))


def _step_answered_late(progress: Progress, event: StepAnsweredLate) -> Progress:
    if all(shape.name != event.step for shape in progress.graph):
        _refuse(progress, event, f"it has no step {event.step!r}")
    if event.step in progress.results:
        return progress
    return replace(progress, results={**progress.results, event.step: event.result})


def _compensation_started(progress: Progress, event: CompensationStarted) -> Progress:
    if progress.compensating:
        _refuse(progress, event, "it is being compensated already")
    if event.plan != progress.compensation_plan:
        _refuse(
            progress,
            event,
            f"what is to be compensated is {progress.compensation_plan}",
        )
    if progress.is_past_return:
        _refuse(progress, event, "it has passed its point of no return")
    return replace(
        progress,
        status=Status.COMPENSATING,
        compensating=True,
        doubt=progress.doubt or ("lost" if progress.may_have_happened else None),
        in_flight=False,
        retry_at=None,
        answer=None,
        stuck_for=None,
        plan=event.plan,
        failure=event.detail or progress.failure or event.reason,
    )


def _compensation_attempted(
    progress: Progress, event: CompensationAttempted
) -> Progress:
    _require_open(progress, event, event.step)
    known = progress.compensation(event.step)
    if known.in_flight:
        if known.alone and not event.alone and event.attempt == known.attempt:
            return _with_compensation(progress, event.step, replace(known, alone=False))
        _refuse(progress, event, f"attempt {known.attempt} has no outcome yet")
    _require_attempt(progress, event, event.attempt, known.attempt + 1)
    return _with_compensation(
        progress,
        event.step,
        replace(
            known,
            attempt=event.attempt,
            in_flight=True,
            alone=event.alone,
            retry_at=None,
        ),
    )


def _step_compensated(progress: Progress, event: StepCompensated) -> Progress:
    _require_open(progress, event, event.step)
    _require_compensation_attempt(progress, event, event.step, event.attempt)
    return _with_compensated(progress, event.step)


def _compensation_failed(progress: Progress, event: CompensationFailed) -> Progress:
    _require_open(progress, event, event.step)
    _require_compensation_attempt(progress, event, event.step, event.attempt)
    known = progress.compensation(event.step)
    is_crash = event.doubt == "crash"
    is_final = event.retry_at is None
    failure = _failure_text(event.step, event.code, event.message)
    return _with_compensation(
        progress,
        event.step,
        replace(
            known,
            attempt=event.attempt,
            in_flight=False,
            doubt=known.doubt or event.doubt is not None,
            retry_at=event.retry_at,
            unspent=known.unspent + is_crash,
            crashes=known.crashes + 1 if is_crash else 0,
            crashes_alone=known.crashes_alone + known.alone if is_crash else 0,
            failure=failure if is_final else None,
        ),
    )


def _stuck(progress: Progress, event: SagaStuck) -> Progress:
    if progress.compensating:
        if event.step not in progress.stuck_steps:
            _refuse(progress, event, f"{event.step!r} hasn't failed for good")
    elif event.step != progress.current:
        _refuse(progress, event, f"the step at hand is {progress.current!r}")
    elif progress.in_flight or progress.retry_at is not None:
        _refuse(progress, event, "the step hasn't failed for good")
    return replace(progress, status=Status.STUCK, stuck_for=event.reason)


def _blocked(progress: Progress, event: DefectRecorded) -> Progress:
    if all(shape.name != event.step for shape in progress.graph):
        _refuse(progress, event, f"it has no step {event.step!r}")
    progress = replace(progress, blocked=event)
    if not event.attempt:
        return progress
    if progress.compensating:
        known = progress.compensation(event.step)
        _require_attempt(progress, event, event.attempt, known.attempt)
        return _with_compensation(
            progress,
            event.step,
            replace(known, in_flight=False, doubt=True, unspent=known.unspent + 1),
        )
    _require_at_cursor(progress, event, event.step)
    _require_attempt(progress, event, event.attempt, progress.attempt)
    return replace(
        progress,
        in_flight=False,
        unspent=progress.unspent + 1,
        doubt=progress.doubt or "lost",
        answer=event.answer if event.answered else None,
    )


def _retried_by_hand(progress: Progress, event: RetriedByHand) -> Progress:
    _require_stuck_at(progress, event, event.step)
    if progress.compensating:
        known = progress.compensation(event.step)
        afresh = Compensation(doubt=known.doubt, generation=event.generation)
        return replace(
            _with_compensation(progress, event.step, afresh),
            status=Status.COMPENSATING,
            stuck_for=None,
        )
    generations = {**progress.generations, event.step: event.generation}
    return replace(
        progress,
        status=Status.RUNNING,
        stuck_for=None,
        attempt=0,
        unspent=0,
        crashes=0,
        crashes_alone=0,
        generations=generations,
    )


def _skipped_by_hand(progress: Progress, event: SkippedByHand) -> Progress:
    _require_stuck_at(progress, event, event.step)
    if not progress.compensating:
        return replace(_settle(progress), status=Status.RUNNING, stuck_for=None)
    return replace(
        _with_compensated(progress, event.step),
        status=Status.COMPENSATING,
        stuck_for=None,
    )


def _completed(progress: Progress, event: SagaCompleted) -> Progress:
    if progress.step is not None:
        _refuse(progress, event, f"step {progress.step!r} isn't settled")
    return replace(progress, status=Status.COMPLETED)


def _compensated(progress: Progress, event: SagaCompensated) -> Progress:
    if progress.plan:
        _refuse(progress, event, f"step {progress.plan[0]!r} isn't compensated")
    return replace(progress, status=Status.COMPENSATED)


def _settle(progress: Progress) -> Progress:
    """Move the cursor behind its step."""
    return replace(
        progress,
        cursor=progress.cursor + 1,
        attempt=0,
        in_flight=False,
        alone=False,
        unspent=0,
        crashes=0,
        crashes_alone=0,
        answer=None,
        doubt=None,
        retry_at=None,
        failure=None,
    )


def _with_compensated(progress: Progress, step: str) -> Progress:
    """Take a step off the plan."""
    rest = {name: at for name, at in progress.compensations.items() if name != step}
    plan = tuple(name for name in progress.plan if name != step)
    return replace(progress, plan=plan, compensations=rest)


def _with_compensation(progress: Progress, step: str, at: Compensation) -> Progress:
    return replace(progress, compensations={**progress.compensations, step: at})


def _attempt_under_way(progress: Progress) -> int:
    """Give the attempt whose outcome may be recorded.

    An external step's was started, or is in doubt and the receiver was asked. A local
    step's is recorded before its outcome only after a takeover or a crash.
    """
    if progress.graph[progress.cursor].local:
        return progress.attempt + (not progress.in_flight)
    return progress.attempt if progress.may_have_happened else 0


def _failure_text(step: str, code: str, message: str) -> str:
    return f"{step}: {code}: {message}" if message else f"{step}: {code}"


def _require_at_cursor(progress: Progress, event: SagaEvent, step: str) -> None:
    if step != progress.step:
        _refuse(progress, event, f"the step at hand is {progress.step!r}, not {step!r}")


def _require_open(progress: Progress, event: SagaEvent, step: str) -> None:
    if step not in progress.plan:
        _refuse(progress, event, f"{step!r} isn't next in its plan {progress.plan}")
    if progress.compensation(step).failure is not None:
        _refuse(progress, event, f"the compensation of {step!r} has failed for good")


def _require_stuck_at(progress: Progress, event: SagaEvent, step: str) -> None:
    stuck = progress.stuck_steps if progress.compensating else (progress.current,)
    if step not in stuck:
        at = " and ".join(repr(name) for name in stuck) or "no step"
        _refuse(progress, event, f"it is stuck at {at}, not {step!r}")


def _require_compensation_attempt(
    progress: Progress, event: SagaEvent, step: str, attempt: int
) -> None:
    known = progress.compensation(step)
    under_way = known.attempt if known.in_flight else known.attempt + 1
    _require_attempt(progress, event, attempt, under_way)


def _require_attempt(
    progress: Progress, event: SagaEvent, attempt: int, expected: int
) -> None:
    if attempt != expected or attempt < 1:
        _refuse(progress, event, f"attempt {attempt} isn't the one under way")


def _refuse(progress: Progress, event: SagaEvent, reason: str) -> NoReturn:
    raise InvalidTransition(
        progress.id, progress.status.value, type(event).__name__, reason
    )


E = TypeVar("E", bound=SagaEvent)
_Follow = Callable[[Progress, SagaEvent], Progress]
_Transition = tuple[frozenset[Status], _Follow]


def _transition(
    follow: Callable[[Progress, E], Progress], *allowed: Status
) -> _Transition:
    return frozenset(allowed), cast("_Follow", follow)


_STARTED = (
    Status.RUNNING,
    Status.COMPENSATING,
    Status.STUCK,
    Status.COMPLETED,
    Status.COMPENSATED,
)

_TRANSITIONS: dict[type[SagaEvent], _Transition] = {
    SagaStarted: _transition(_started, Status.NEW),
    StepStarted: _transition(_step_started, Status.RUNNING),
    StepSucceeded: _transition(_step_succeeded, Status.RUNNING),
    StepFailed: _transition(_step_failed, Status.RUNNING),
    StepUnknown: _transition(_step_unknown, Status.RUNNING),
    StepSkipped: _transition(_step_skipped, Status.RUNNING),
    StepGivenUp: _transition(_step_given_up, Status.RUNNING),
    StepAnsweredLate: _transition(_step_answered_late, *_STARTED),
    CompensationStarted: _transition(
        _compensation_started, Status.RUNNING, Status.STUCK
    ),
    CompensationAttempted: _transition(_compensation_attempted, Status.COMPENSATING),
    StepCompensated: _transition(_step_compensated, Status.COMPENSATING),
    CompensationFailed: _transition(_compensation_failed, Status.COMPENSATING),
    SagaStuck: _transition(_stuck, Status.RUNNING, Status.COMPENSATING),
    DefectRecorded: _transition(_blocked, Status.RUNNING, Status.COMPENSATING),
    RetriedByHand: _transition(_retried_by_hand, Status.STUCK),
    SkippedByHand: _transition(_skipped_by_hand, Status.STUCK),
    SagaCompleted: _transition(_completed, Status.RUNNING),
    SagaCompensated: _transition(_compensated, Status.COMPENSATING),
}
