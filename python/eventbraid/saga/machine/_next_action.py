"""What a saga does next: functions from values to values.

None of them touches a store or a clock: the time comes in as ``now``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar

from eventbraid.saga._text import shown
from eventbraid.saga.definition._retry import crash_delay
from eventbraid.saga.definition._step import Local, Step, external, is_external
from eventbraid.saga.machine._defect import Defect, Outage, trouble_of
from eventbraid.saga.machine._events import (
    CompensationAttempted,
    CompensationReason,
    CompensationStarted,
    SagaCompensated,
    SagaCompleted,
    SagaEvent,
    SagaStuck,
    StepSkipped,
    StepStarted,
)
from eventbraid.saga.machine._progress import Progress, Status

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime

    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._step_base import Node

S = TypeVar("S")

# Two processes don't have quite the same time.
CLOCK_TOLERANCE_SECONDS = 1.0
"""Seconds by which two clocks may differ without one of them being wrong."""

TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_SECONDS)
_NOT_NEEDED = "it is not needed"
_DEADLINE_PASSED = "the saga's deadline has passed"

# From this number of crashes in a row a call is made alone, so that the next crash has
# one possible cause. A single crash, as of a deployment, makes no call wait for others.
_CRASHES_BEFORE_ALONE = 2


@dataclass(frozen=True, slots=True)
class Commit:
    """Record these, then plan again."""

    events: tuple[SagaEvent, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """Make an attempt of an external step.

    Attributes:
        step: The step.
        attempt: The number of the attempt.
        alone: Whether no other call may be made meanwhile.
        start: What is to be recorded before; None if the start is recorded.
    """

    step: Step[Any, Any]
    attempt: int
    alone: bool = False
    start: StepStarted | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Record the success of a step whose answer was kept by an earlier record."""

    step: Step[Any, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute the command of a local step together with the record of it.

    Attributes:
        step: The step.
        attempt: The number of the attempt.
        alone: Whether no other call may be made meanwhile.
        start: What is to be recorded before; None if nothing is, or if it is recorded.
    """

    step: Local[Any]
    attempt: int
    alone: bool = False
    start: StepStarted | None = None


@dataclass(frozen=True, slots=True)
class Compensate:
    """Make an attempt to compensate a step: a call or a command.

    Attributes:
        step: The step.
        attempt: The number of the attempt.
        alone: Whether no other call may be made meanwhile.
        start: What is to be recorded before; None if the start is recorded.
    """

    step: Node[Any]
    attempt: int
    alone: bool = False
    start: CompensationAttempted | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Terminal:
    """Nothing more is to be done: the saga has ended or is stuck."""

    status: Status


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing more can be done by this program: what is left has a defect."""


Action: TypeAlias = (
    Commit | Call | Record | Execute | Compensate | Wait | Terminal | Blocked
)


def next_action(
    saga: Saga[S],
    progress: Progress,
    state: Encoded[S],
    now: datetime,
    defective: Container[str] = (),
) -> Action:
    """Return what a saga does next.

    Args:
        saga: Its declaration.
        progress: The fold of its stream.
        state: The fold of its results.
        now: The time.
        defective: The steps whose compensation has a defect in this program.

    Raises:
        Defect: A ``skip_if`` raised.
        Outage: A ``skip_if`` was refused something by the system.
    """
    match progress.status:
        case Status.RUNNING:
            return _execution(saga, progress, state, now)
        case Status.COMPENSATING:
            return _compensation(saga, progress, now, defective)
        case _:
            return Terminal(progress.status)


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

    Raises:
        Defect: A ``skip_if`` raised.
        Outage: A ``skip_if`` was refused something by the system.
    """
    if is_overdue(saga, progress, now):
        return start_compensation(progress, "deadline", detail=_DEADLINE_PASSED)
    events: list[SagaEvent] = []
    for node in saga.steps[progress.cursor :]:
        reason = None if node.skip_if is None else _skip_reason(node, state)
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
    except (Defect, Outage):
        return ()


def _skip_reason(node: Node[S], state: Encoded[S]) -> str | None:
    """Return why a step isn't needed; None if it is."""
    if node.skip_if is None:
        return None
    try:
        return _as_reason(node, node.skip_if(state.read()))
    except BaseException as error:
        raise trouble_of(node.name, "skip_if", error) from error


def _as_reason(node: Node[S], reason: object) -> str | None:
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
    """Return whether the deadline has passed for a saga that can still be compensated.

    The deadline of a blocked saga doesn't count before its step was tried again.
    """
    if progress.deadline is None or now < progress.deadline:
        return False
    if progress.blocked is not None:
        return False
    return not (saga.is_settled_at(progress.cursor) or progress.has_open_pivot)


def _execution(
    saga: Saga[S], progress: Progress, state: Encoded[S], now: datetime
) -> Action:
    if progress.in_flight:
        return _attempt_under_way(saga.steps[progress.cursor], progress)
    if progress.answer is not None:
        return Record(external(saga.steps[progress.cursor]), progress.attempt)
    if progress.attempt == 0:
        records = advance(saga, progress, state, now)
        if records:
            return Commit(records)
    elif is_overdue(saga, progress, now):
        return Commit(
            start_compensation(
                progress, "deadline", detail=_DEADLINE_PASSED, begin=True
            )
        )
    elif _is_ahead(progress.retry_at, now, _forward_delay(saga, progress)):
        return Wait(_earliest(saga, progress, progress.retry_at))
    return _next_attempt(saga.steps[progress.cursor], progress)


def _attempt_under_way(node: Node[Any], progress: Progress) -> Action:
    if isinstance(node, Local):
        return Execute(node, progress.attempt, progress.alone)
    return Call(external(node), progress.attempt, progress.alone)


def _next_attempt(node: Node[Any], progress: Progress) -> Action:
    attempt = progress.attempt + 1
    if isinstance(node, Local) and not progress.crashes:
        return Execute(node, attempt)
    if progress.crashes < _CRASHES_BEFORE_ALONE:
        return Commit((StepStarted(node.name, attempt),))
    start = StepStarted(node.name, attempt, alone=True)
    if isinstance(node, Local):
        return Execute(node, attempt, alone=True, start=start)
    return Call(external(node), attempt, alone=True, start=start)


def _compensation(
    saga: Saga[Any], progress: Progress, now: datetime, defective: Container[str]
) -> Action:
    records = advance_compensation(saga, progress, now, defective)
    if records:
        return Commit(records)
    name = _next_compensation(saga, progress, defective)
    if name is None:
        return Blocked()
    known = progress.compensation(name)
    node = saga.by_name[name]
    if known.in_flight:
        return Compensate(node, known.attempt, known.alone)
    if _is_ahead(known.retry_at, now, _compensation_delay(saga, progress, name)):
        return Wait(known.retry_at)
    attempt = known.attempt + 1
    start = CompensationAttempted(name, attempt, alone=True)
    return Compensate(node, attempt, alone=True, start=start)


def advance_compensation(
    saga: Saga[Any],
    progress: Progress,
    now: datetime,
    defective: Container[str] = (),
) -> tuple[SagaEvent, ...]:
    """Return the records that can be made before the next attempt to compensate.

    That is the start of the attempt, or how the saga comes to rest.

    Args:
        saga: The saga's declaration.
        progress: Its progress.
        now: The time.
        defective: The steps whose compensation has a defect in this program.
    """
    if progress.status is not Status.COMPENSATING:
        return ()
    if not progress.plan:
        return (SagaCompensated(),)
    name = _next_compensation(saga, progress, defective)
    if name is None:
        stuck = progress.stuck_steps
        has_defect = any(step in defective for step in progress.open_steps)
        if not stuck or (has_defect and not saga.is_strict):
            return ()
        return (stuck_compensation(progress),)
    known = progress.compensation(name)
    is_ahead = _is_ahead(known.retry_at, now, _compensation_delay(saga, progress, name))
    if known.in_flight or is_ahead or known.crashes >= _CRASHES_BEFORE_ALONE:
        return ()
    return (CompensationAttempted(name, known.attempt + 1),)


def stuck_compensation(progress: Progress) -> SagaStuck:
    """Return the record that a saga waits for a person because of a compensation."""
    step = progress.stuck_steps[0]
    failure = progress.compensation(step).failure
    return SagaStuck(step, f"can't be compensated: {failure}")


def _next_compensation(
    saga: Saga[Any], progress: Progress, defective: Container[str]
) -> str | None:
    """Return the step to be compensated next; None if each one left is held up."""
    for step in progress.plan:
        is_held_up = progress.compensation(step).failure is not None or (
            step in defective
        )
        if not is_held_up:
            return step
        if saga.is_strict:
            return None
    return None


def _forward_delay(saga: Saga[Any], progress: Progress) -> timedelta:
    """Return the longest delay after the last attempt at the step at the cursor."""
    if progress.crashes:
        return crash_delay(progress.crashes)
    counted = max(progress.attempt - progress.unspent, 1)
    return saga.steps[progress.cursor].retry.delay(counted)


def _compensation_delay(saga: Saga[Any], progress: Progress, step: str) -> timedelta:
    """Return the longest delay after the last attempt to compensate a step."""
    known = progress.compensation(step)
    if known.crashes:
        return crash_delay(known.crashes)
    counted = max(known.attempt - known.unspent, 1)
    return saga.by_name[step].undo_retry.delay(counted)


def _is_ahead(
    due: datetime | None, now: datetime, delay: timedelta
) -> TypeGuard[datetime]:
    """Return whether a recorded time is still to be waited for.

    One that is further ahead than the longest delay that leads to it was recorded by a
    wall clock that has been set back since, so it has come.
    """
    return due is not None and now < due <= now + delay + TOLERANCE


def _earliest(saga: Saga[Any], progress: Progress, at: datetime) -> datetime:
    """Give the time to wake up: that of the attempt, or of a deadline before it."""
    if progress.deadline is None or progress.deadline >= at:
        return at
    return progress.deadline if is_overdue(saga, progress, at) else at


def start_compensation(
    progress: Progress,
    reason: CompensationReason,
    *,
    step: str = "",
    detail: str = "",
    begin: bool = False,
) -> tuple[SagaEvent, ...]:
    """Give the records that begin to compensate a saga.

    Args:
        progress: The saga's progress.
        reason: Why.
        step: The step whose end caused it, if one did.
        detail: The text for people.
        begin: Whether the first attempt to compensate is made at once.
    """
    plan = progress.compensation_plan
    record = CompensationStarted(reason, plan, step, detail)
    if not plan:
        return (record, SagaCompensated())
    if begin:
        return (record, CompensationAttempted(plan[0]))
    return (record,)
