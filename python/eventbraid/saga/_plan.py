"""What a saga does next: functions from values to values.

None of them touches a store or a clock: the time comes in as ``now``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar

from eventbraid.saga._clock import TOLERANCE
from eventbraid.saga._event import (
    CompensationStarted,
    SagaCompensated,
    SagaCompleted,
    SagaEvent,
    StepSkipped,
    StepStarted,
    UndoReason,
)
from eventbraid.saga._progress import Progress, Status
from eventbraid.saga._step import Local, Step, external, is_external
from eventbraid.saga._text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eventbraid.saga._codec import Encoded
    from eventbraid.saga._definition import Saga
    from eventbraid.saga._node import Node

S = TypeVar("S")

# Two processes don't have quite the same time.
_TOLERANCE = timedelta(seconds=TOLERANCE)
_NOT_NEEDED = "it is not needed"
_DEADLINE_PASSED = "the saga's deadline has passed"


@dataclass(frozen=True, slots=True)
class Commit:
    """Record these, then plan again."""

    events: tuple[SagaEvent, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """Make the attempt whose start is recorded."""

    step: Step[Any, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute the command of a local step together with the record of it."""

    step: Local[Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class UndoCall:
    """Make an attempt to undo an external step."""

    step: Step[Any, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class UndoExecute:
    """Execute the command that undoes a local step, with the record of it."""

    step: Local[Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing more is to be done: the saga has ended or is stuck."""

    status: Status


Move: TypeAlias = Commit | Call | Execute | UndoCall | UndoExecute | Wait | Rest


def next_move(
    saga: Saga[S], progress: Progress, state: Encoded[S], now: datetime
) -> Move:
    """Say what a saga does next.

    Args:
        saga: Its declaration.
        progress: The fold of its stream.
        state: The fold of its results.
        now: The time.
    """
    match progress.status:
        case Status.RUNNING:
            return _forward(saga, progress, state, now)
        case Status.COMPENSATING:
            return _backward(saga, progress, now)
        case _:
            return Rest(progress.status)


def advance(
    saga: Saga[S], progress: Progress, state: Encoded[S], now: datetime
) -> tuple[SagaEvent, ...]:
    """Give the records that can be made before the next command or call.

    Steps that aren't needed are skipped, an external step is started, and behind the
    last step the saga is completed. A local step has no record before its command.

    Args:
        saga: The saga's declaration.
        progress: Its progress, with no attempt made at the step at the cursor.
        state: The fold of its results.
        now: The time.
    """
    if is_overdue(saga, progress, now):
        return start_undo(progress, "deadline", detail=_DEADLINE_PASSED)
    events: list[SagaEvent] = []
    for node in saga.steps[progress.cursor :]:
        reason = _skip_reason(node, state)
        if reason is None:
            if is_external(node):
                events.append(StepStarted(node.name))
            return tuple(events)
        events.append(StepSkipped(node.name, reason))
    return (*events, SagaCompleted())


def advance_if_possible(
    saga: Saga[S], progress: Progress, state: Encoded[S], now: datetime
) -> tuple[SagaEvent, ...]:
    """Return what `advance` does, or nothing if a function of the saga raises.

    For what is recorded together with the end of a step: the end must not be lost by a
    defect in what follows it. The next move meets the defect again and reports it.
    """
    try:
        return advance(saga, progress, state, now)
    except Exception:  # noqa: BLE001 - reported by the next move
        return ()


def _skip_reason(node: Node[S], state: Encoded[S]) -> str | None:
    """Return why a step isn't needed; None if it is."""
    reason: object = None if node.skip_if is None else node.skip_if(state.read())
    match reason:
        case None | False:
            return None
        case True:
            return _NOT_NEEDED
        case str():
            return reason
        case _:
            raise TypeError(
                f"`skip_if` of step {node.name!r} returned {shown(reason)}; expected "
                "the reason as text or True to skip the step, None or False to take it"
            )


def is_overdue(saga: Saga[Any], progress: Progress, now: datetime) -> bool:
    """Tell whether the deadline has passed for a saga that can still be undone."""
    if progress.deadline is None or now < progress.deadline:
        return False
    return not (saga.is_settled_at(progress.cursor) or progress.has_open_pivot)


def _forward(
    saga: Saga[S], progress: Progress, state: Encoded[S], now: datetime
) -> Move:
    if progress.in_flight:
        return Call(external(saga.steps[progress.cursor]), progress.attempt)
    if progress.attempt == 0:
        records = advance(saga, progress, state, now)
        if records:
            return Commit(records)
    elif is_overdue(saga, progress, now):
        return Commit(start_undo(progress, "deadline", detail=_DEADLINE_PASSED))
    elif _is_ahead(progress.retry_at, now, _forward_delay(saga, progress)):
        return Wait(_earliest(saga, progress, progress.retry_at))
    node = saga.steps[progress.cursor]
    if isinstance(node, Local):
        return Execute(node, progress.attempt + 1)
    return Commit((StepStarted(node.name, progress.attempt + 1),))


def _backward(saga: Saga[Any], progress: Progress, now: datetime) -> Move:
    if not progress.plan:
        return Commit((SagaCompensated(),))
    node = saga.by_name[progress.plan[0]]
    delay = node.undo_retry.delay(progress.undo_attempt)
    if _is_ahead(progress.retry_at, now, delay):
        return Wait(progress.retry_at)
    attempt = progress.undo_attempt + 1
    if isinstance(node, Local):
        return UndoExecute(node, attempt)
    return UndoCall(external(node), attempt)


def _forward_delay(saga: Saga[Any], progress: Progress) -> timedelta:
    """Return the longest delay after the last attempt at the step at the cursor."""
    return saga.steps[progress.cursor].retry.delay(progress.attempt)


def _is_ahead(
    due: datetime | None, now: datetime, delay: timedelta
) -> TypeGuard[datetime]:
    """Return whether a recorded time is still to be waited for.

    One that is further ahead than the longest delay that leads to it was recorded by a
    wall clock that has been set back since, so it has come.
    """
    return due is not None and now < due <= now + delay + _TOLERANCE


def _earliest(saga: Saga[Any], progress: Progress, at: datetime) -> datetime:
    """Give the time to wake up: that of the attempt, or of a deadline before it."""
    if progress.deadline is None or progress.deadline >= at:
        return at
    return progress.deadline if is_overdue(saga, progress, at) else at


def start_undo(
    progress: Progress, reason: UndoReason, *, step: str = "", detail: str = ""
) -> tuple[SagaEvent, ...]:
    """Give the records that begin to undo a saga.

    Args:
        progress: The saga's progress.
        reason: Why.
        step: The step whose end caused it, if one did.
        detail: The text for people.
    """
    plan = progress.undo_plan
    record = CompensationStarted(reason, plan, step, detail)
    return (record, *end_of_undo(plan))


def end_of_undo(plan: Sequence[str]) -> tuple[SagaEvent, ...]:
    """Give the record of the end, if nothing is left of a plan."""
    return () if plan else (SagaCompensated(),)
