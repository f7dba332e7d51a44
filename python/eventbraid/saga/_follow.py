"""Which records follow from what came of a move: functions from values to values.

None of them touches a store or a clock: the time comes in as ``now``, the draw of the
jitter as ``chance``, from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.saga._context import StepFailure
from eventbraid.saga._event import (
    NOTHING,
    CompensationFailed,
    RetriedByHand,
    SagaEvent,
    SagaStuck,
    SkippedByHand,
    StepCompensated,
    StepFailed,
    StepGivenUp,
    StepSucceeded,
    StepUnknown,
    UndoReason,
)
from eventbraid.saga._node import Kind, Node
from eventbraid.saga._plan import (
    advance,
    advance_if_possible,
    end_of_undo,
    is_overdue,
    start_undo,
)
from eventbraid.saga._progress import Progress, Status
from eventbraid.saga._step import is_external
from eventbraid.saga._transition import evolve

if TYPE_CHECKING:
    from datetime import datetime

    import msgspec

    from eventbraid.saga._codec import Encoded
    from eventbraid.saga._definition import Saga


S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Verdict:
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
    return (event, *advance(saga, after, state, now))


def failed(
    saga: Saga[Any],
    progress: Progress,
    failure: StepFailure,
    now: datetime,
    *,
    facts: msgspec.Raw = NOTHING,
    chance: float = 1.0,
    replaceable: bool = True,
) -> Verdict:
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
    attempt = progress.attempt + (0 if is_external(node) else 1)
    retry_at = _retry_at(saga, progress, node, failure, attempt, now, chance)
    record = _record(node, failure, attempt, facts, retry_at)
    if retry_at is not None:
        return Verdict((record,))
    after = evolve(progress, record)
    if replaceable and node.otherwise is not None:
        return Verdict((record, StepGivenUp(node.name)), is_replaced=True)
    if _leaves_stuck(saga, after, node):
        return Verdict((record, SagaStuck(node.name, after.failure or str(failure))))
    reason: UndoReason = "unknown" if after.may_have_happened else "failed"
    return Verdict((record, *start_undo(after, reason, step=node.name)))


def interruption(progress: Progress) -> StepFailure | None:
    """Tell what is known of an attempt that was under way when the process died.

    Args:
        progress: The saga's progress as recorded.

    Returns:
        What is known of it, or None if no attempt was under way.
    """
    if progress.status is not Status.RUNNING or not progress.in_flight:
        return None
    return StepFailure("crash", "the process ended during the call", doubt="crash")


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
    undo = start_undo(after, "failed", step=event.step, detail=detail)
    return (event, *undo)


def cancelled(progress: Progress, reason: str) -> tuple[SagaEvent, ...]:
    """Give the records that begin to undo a saga on somebody's request.

    Args:
        progress: Its progress.
        reason: The text for people.
    """
    return start_undo(progress, "cancelled", detail=f"cancelled: {reason}")


def undone(progress: Progress) -> tuple[SagaEvent, ...]:
    """Give the records for the first step of the plan being undone.

    Args:
        progress: The saga's progress before.
    """
    record = StepCompensated(progress.plan[0], progress.undo_attempt + 1)
    return (record, *end_of_undo(progress.plan[1:]))


def undo_failed(
    saga: Saga[Any],
    progress: Progress,
    failure: StepFailure,
    now: datetime,
    *,
    chance: float = 1.0,
) -> tuple[SagaEvent, ...]:
    """Give the records for an attempt to undo that failed.

    Args:
        saga: The saga's declaration.
        progress: Its progress before.
        failure: What is known of the attempt.
        now: The time.
        chance: The draw of the jitter, from 0 to 1.
    """
    node = saga.by_name[progress.plan[0]]
    attempt = progress.undo_attempt + 1
    retry = node.undo_retry
    # A rejected command may be accepted later; a receiver's proven no stays a no.
    final = is_external(node) and failure.doubt is None
    again = retry.allows(attempt) and not final
    record = CompensationFailed(
        node.name,
        failure.code,
        failure.message,
        attempt,
        failure.doubt,
        now + retry.delay(attempt, chance=chance) if again else None,
    )
    if again:
        return (record,)
    return (record, SagaStuck(node.name, f"can't be undone: {node.name}: {failure}"))


def retried_by_hand(progress: Progress, by: str, note: str) -> tuple[SagaEvent, ...]:
    """Give the records by which a person lets the stuck step be tried again.

    A receiver may remember its refusal under the key. So the key gets a new generation,
    unless an attempt under the old one may have had its effect.

    Args:
        progress: The stuck saga's progress.
        by: Who.
        note: Why.
    """
    step = progress.current or ""
    if progress.undoing:
        generation = progress.undo_generation + (not progress.undo_doubt)
    else:
        generation = progress.generations.get(step, 1) + (progress.doubt is None)
    return (RetriedByHand(step, by, note, generation),)


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
    if progress.undoing:
        return (record, *end_of_undo(progress.plan[1:]))
    after = evolve(progress, record)
    return (record, *advance_if_possible(saga, after, state, now))


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
    if not node.retry.allows(attempt) or is_overdue(saga, progress, now):
        return None
    return now + node.retry.delay(attempt, chance=chance)


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
    """Tell whether a step that failed for good can't undo the saga."""
    if node.kind is Kind.RETRIABLE or saga.is_settled_at(after.cursor):
        return True
    return after.has_open_pivot
