"""Which records follow from what came of a move: functions from values to values.

None of them touches a store or a clock: the time comes in as ``now``, the draw of the
jitter as ``chance``, from 0 to 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.saga._text import shortened, text_of
from eventbraid.saga.definition._context import StepFailure
from eventbraid.saga.definition._retry import crash_delay
from eventbraid.saga.definition._step import is_external
from eventbraid.saga.definition._step_base import Kind, Node
from eventbraid.saga.machine._defect import traceback_of
from eventbraid.saga.machine._events import (
    NOTHING,
    CompensationFailed,
    CompensationReason,
    DefectRecorded,
    RetriedByHand,
    SagaCompensated,
    SagaEvent,
    SagaStuck,
    SkippedByHand,
    StepCompensated,
    StepFailed,
    StepGivenUp,
    StepSucceeded,
    StepUnknown,
)
from eventbraid.saga.machine._next_action import (
    advance_compensation,
    advance_if_possible,
    is_overdue,
    start_compensation,
    stuck_compensation,
)
from eventbraid.saga.machine._progress import Progress, Status
from eventbraid.saga.machine._transitions import evolve

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime

    import msgspec

    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._defect import Defect


S = TypeVar("S")

# Below the maximum of a text in a record, which would shorten only one of the two.
_MAXIMUM_COMPARED = 3_000


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from an attempt that didn't succeed.

    Attributes:
        events: What is to be recorded.
        is_replaced: Whether another command takes the step's place, committed together
            with these.
    """

    events: tuple[SagaEvent, ...]
    is_replaced: bool = False


def succeeded(
    saga: Saga[S],
    progress: Progress,
    state: Encoded[S],
    event: StepSucceeded,
    now: datetime,
) -> tuple[SagaEvent, ...]:
    """Give the records that follow from a step's success, its own first.

    Args:
        saga: The saga's declaration.
        progress: Its progress before.
        state: The fold of its results, this one included.
        event: The record of the success.
        now: The time.
    """
    after = evolve(progress, event)
    return (event, *advance_if_possible(saga, after, state, now))


def failed(
    saga: Saga[Any],
    progress: Progress,
    failure: StepFailure,
    now: datetime,
    *,
    facts: msgspec.Raw = NOTHING,
    chance: float = 1.0,
    replaceable: bool = True,
) -> Consequence:
    """Give what follows from an attempt of the step at the cursor that didn't succeed.

    Args:
        saga: The saga's declaration.
        progress: Its progress before.
        failure: What is known of the attempt.
        now: The time.
        facts: What a rejected command's rule looked at, as JSON.
        chance: The draw of the jitter, from 0 to 1.
        replaceable: Whether another command may take the step's place.
    """
    node = saga.steps[progress.cursor]
    attempt = progress.attempt + (0 if progress.in_flight or is_external(node) else 1)
    retry_at = _retry_at(saga, progress, node, failure, attempt, now, chance)
    record = _record(node, failure, attempt, facts, retry_at)
    if retry_at is not None:
        return Consequence((record,))
    after = evolve(progress, record)
    if replaceable and node.otherwise is not None:
        return Consequence((record, StepGivenUp(node.name)), is_replaced=True)
    if _leaves_stuck(saga, after, node):
        return Consequence(
            (record, SagaStuck(node.name, after.failure or str(failure)))
        )
    reason: CompensationReason = "unknown" if after.may_have_happened else "failed"
    compensation = start_compensation(after, reason, step=node.name, begin=True)
    return Consequence((record, *compensation))


def interrupted(
    saga: Saga[Any], progress: Progress, now: datetime, *, chance: float = 1.0
) -> tuple[SagaEvent, ...]:
    """Return the records for attempts that were under way when their process ended.

    Such an attempt doesn't count as one of the step's `Retry`: other causes than the
    call may have ended the process. If no other call was under way, the cause was the
    call, and after a number of those the saga is stuck.

    Args:
        saga: The saga's declaration.
        progress: The saga's progress as recorded.
        now: The time.
        chance: The draw of the jitter, from 0 to 1.

    Returns:
        The records; none if no attempt was under way.
    """
    if progress.status is Status.RUNNING and progress.in_flight:
        return _interrupted_step(saga, progress, now, chance)
    if progress.status is not Status.COMPENSATING:
        return ()
    return tuple(
        _interrupted_compensation(saga, progress, step, now, chance)
        for step in progress.plan
        if progress.compensation(step).in_flight
    )


def defect_record(progress: Progress, defect: Defect) -> DefectRecorded | None:
    """Return the record of a defect; None if it is the last one that was recorded.

    Args:
        progress: The saga's progress.
        defect: The defect.
    """
    attempt = 0
    if defect.is_outage and defect.answer is None:
        pass  # The attempt isn't over: nothing of it has happened.
    elif progress.compensating:
        known = progress.compensation(defect.step)
        attempt = known.attempt if known.in_flight else 0
    elif progress.in_flight and progress.step == defect.step:
        attempt = progress.attempt
    record = _record_of(defect, attempt)
    is_repeated = not attempt and _is_repeated(progress.blocked, record)
    return None if is_repeated else record


def unfoldable(progress: Progress, defect: Defect) -> DefectRecorded | None:
    """Return the record of a defect in ``then`` that is met when a saga is read back.

    Args:
        progress: The saga's progress.
        defect: The defect.

    Returns:
        The record; None if it is the last one that was recorded, or if the saga isn't
        driven as it is.
    """
    if progress.status not in {Status.RUNNING, Status.COMPENSATING}:
        return None
    record = _record_of(defect, attempt=0)
    return None if _is_repeated(progress.blocked, record) else record


def _record_of(defect: Defect, attempt: int) -> DefectRecorded:
    error, answer = defect.error, defect.answer
    return DefectRecorded(
        defect.step,
        defect.where,
        type(error).__name__,
        text_of(error),
        traceback_of(error),
        attempt,
        NOTHING if answer is None else answer,
        answered=answer is not None,
    )


def _is_repeated(last: DefectRecorded | None, record: DefectRecorded) -> bool:
    """Return whether a record says again what the last one says.

    Messages may hold addresses and times, which differ each time.
    """
    return last is not None and _names(last) == _names(record)


_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


def _names(record: DefectRecorded) -> tuple[str, str, str, str]:
    message = _NUMBERS.sub("#", shortened(record.message, _MAXIMUM_COMPARED))
    return record.step, record.where, record.code, message


_CRASH = StepFailure("crash", "the process ended during the call", doubt="crash")


def _interrupted_step(
    saga: Saga[Any], progress: Progress, now: datetime, chance: float
) -> tuple[SagaEvent, ...]:
    node = saga.steps[progress.cursor]
    crashes_alone = progress.crashes_alone + progress.alone
    is_final = crashes_alone >= node.retry.crashes
    retry_at = now + crash_delay(progress.crashes + 1, chance=chance)
    name, code, message = node.name, _CRASH.code, _CRASH.message
    attempt, due = progress.attempt, None if is_final else retry_at
    record = (
        StepUnknown(name, "crash", code, message, attempt, due)
        if is_external(node)
        else StepFailed(name, code, message, attempt, retry_at=due, crashed=True)
    )
    if not is_final:
        return (record,)
    return (record, SagaStuck(node.name, _killed(node.name, crashes_alone)))


def _interrupted_compensation(
    saga: Saga[Any], progress: Progress, step: str, now: datetime, chance: float
) -> CompensationFailed:
    known = progress.compensation(step)
    crashes_alone = known.crashes_alone + known.alone
    is_final = crashes_alone >= saga.by_name[step].undo_retry.crashes
    retry_at = now + crash_delay(known.crashes + 1, chance=chance)
    return CompensationFailed(
        step,
        _CRASH.code,
        _killed(step, crashes_alone) if is_final else _CRASH.message,
        known.attempt,
        _CRASH.doubt,
        None if is_final else retry_at,
    )


def _killed(step: str, times: int) -> str:
    return (
        f"the process ended {times} times during the call of step {step!r}, while it "
        "made no other call"
    )


def refused_after_success(
    progress: Progress, event: StepSucceeded, failure: StepFailure
) -> tuple[SagaEvent, ...]:
    """Give the records for a step that happened, but whose command was rejected.

    Args:
        progress: Its progress before; the step is compensatable.
        event: The record of the success.
        failure: The rejection.
    """
    after = evolve(progress, event)
    detail = f"{event.step}: {failure}"
    compensation = start_compensation(
        after, "failed", step=event.step, detail=detail, begin=True
    )
    return (event, *compensation)


def cancelled(progress: Progress, reason: str) -> tuple[SagaEvent, ...]:
    """Give the records that begin to compensate a saga on somebody's request.

    Args:
        progress: Its progress.
        reason: The text for people.
    """
    return start_compensation(progress, "cancelled", detail=f"cancelled: {reason}")


def compensated(
    saga: Saga[Any],
    progress: Progress,
    step: str,
    now: datetime,
    *,
    defective: Container[str] = (),
) -> tuple[SagaEvent, ...]:
    """Return the records for a step being compensated, and what follows at once.

    Args:
        saga: The saga's declaration.
        progress: The saga's progress before.
        step: The step.
        now: The time.
        defective: The steps whose compensation has a defect in this program.
    """
    record = StepCompensated(step, _attempt_under_way(progress, step))
    after = evolve(progress, record)
    return (record, *advance_compensation(saga, after, now, defective))


def compensation_failed(
    saga: Saga[Any],
    progress: Progress,
    step: str,
    failure: StepFailure,
    now: datetime,
    *,
    chance: float = 1.0,
    defective: Container[str] = (),
) -> tuple[SagaEvent, ...]:
    """Return the records for an attempt to compensate that failed.

    Args:
        saga: The saga's declaration.
        progress: Its progress before.
        step: The step.
        failure: What is known of the attempt.
        now: The time.
        chance: The draw of the jitter, from 0 to 1.
        defective: The steps whose compensation has a defect in this program.
    """
    node = saga.by_name[step]
    attempt = _attempt_under_way(progress, step)
    counted = attempt - progress.compensation(step).unspent
    retry = node.undo_retry
    # A rejected command may be accepted later; a receiver's proven no stays a no.
    final = is_external(node) and failure.doubt is None
    again = retry.allows(counted) and not final
    record = CompensationFailed(
        node.name,
        failure.code,
        failure.message,
        attempt,
        failure.doubt,
        now + retry.delay(counted, chance=chance) if again else None,
    )
    if again:
        return (record,)
    after = evolve(progress, record)
    return (record, *advance_compensation(saga, after, now, defective))


def _attempt_under_way(progress: Progress, step: str) -> int:
    known = progress.compensation(step)
    return known.attempt if known.in_flight else known.attempt + 1


def retried_by_hand(progress: Progress, by: str, note: str) -> tuple[SagaEvent, ...]:
    """Give the records by which a person lets each stuck step be tried again.

    A receiver may remember its refusal under the key. So the key gets a new generation,
    unless an attempt under the old one may have had its effect.

    Args:
        progress: The stuck saga's progress.
        by: Who.
        note: Why.
    """
    if not progress.compensating:
        step = progress.current or ""
        generation = progress.generations.get(step, 1) + (progress.doubt is None)
        return (RetriedByHand(step, by, note, generation),)
    # Without a stuck step the record is refused, with the status as the reason.
    steps = progress.stuck_steps or (progress.current or "",)
    known = [(step, progress.compensation(step)) for step in steps]
    return tuple(
        RetriedByHand(step, by, note, at.generation + (not at.doubt))
        for step, at in known
    )


def skipped_by_hand(
    saga: Saga[S],
    progress: Progress,
    state: Encoded[S],
    step: str,
    by: str,
    note: str,
    now: datetime,
) -> tuple[SagaEvent, ...]:
    """Give the records by which a person takes the stuck step as settled.

    Args:
        saga: The saga's declaration.
        progress: The stuck saga's progress.
        state: The fold of its results.
        step: The step, as the person named it.
        by: Who.
        note: Why.
        now: The time.
    """
    record = SkippedByHand(step, by, note)
    after = evolve(progress, record)
    if progress.compensating:
        return (record, *_rest_of_compensation(after))
    return (record, *advance_if_possible(saga, after, state, now))


def _rest_of_compensation(progress: Progress) -> tuple[SagaEvent, ...]:
    """Return how the saga comes to rest, if no compensation is left to be attempted."""
    if progress.open_steps:
        return ()
    if not progress.plan:
        return (SagaCompensated(),)
    return (stuck_compensation(progress),)


def _retry_at(
    saga: Saga[Any],
    progress: Progress,
    node: Node[Any],
    failure: StepFailure,
    attempt: int,
    now: datetime,
    chance: float,
) -> datetime | None:
    """Give the time of the next attempt, or None if there is none."""
    proven = failure.doubt is None
    if proven and (is_external(node) or node.kind is not Kind.RETRIABLE):
        return None
    counted = attempt - progress.unspent
    if not node.retry.allows(counted) or is_overdue(saga, progress, now):
        return None
    return now + node.retry.delay(counted, chance=chance)


def _record(
    node: Node[Any],
    failure: StepFailure,
    attempt: int,
    facts: msgspec.Raw,
    retry_at: datetime | None,
) -> StepFailed | StepUnknown:
    name, code, message = node.name, failure.code, failure.message
    if failure.doubt is None:
        return StepFailed(name, code, message, attempt, facts, retry_at)
    return StepUnknown(name, failure.doubt, code, message, attempt, retry_at)


def _leaves_stuck(saga: Saga[Any], after: Progress, node: Node[Any]) -> bool:
    """Tell whether a step that failed for good can't compensate the saga."""
    if node.kind is Kind.RETRIABLE or saga.is_settled_at(after.cursor):
        return True
    return after.has_open_pivot
