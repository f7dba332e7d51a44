"""The next action of a saga's driver, as a function of the saga's state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from eventbraid.saga.definition._step import (
    LocalStep,
    Step,
    external,
    is_external,
    local,
)
from eventbraid.saga.machine._compensation_rules import ready_compensations
from eventbraid.saga.machine._deadline_rules import wake_time
from eventbraid.saga.machine._decider import decide
from eventbraid.saga.machine._due_times import retry_due
from eventbraid.saga.machine._outcomes import Proceed
from eventbraid.saga.machine._progress import SagaStatus
from eventbraid.saga.machine._step_rules import ends_in_compensation

if TYPE_CHECKING:
    from collections.abc import Collection, Container

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._step_base import SagaStep
    from eventbraid.saga.machine._branch import Branch
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.saga.machine._state import SagaState

S = TypeVar("S")

_NEVER = datetime.max.replace(tzinfo=UTC)
"""The end of a wait that has no end."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit records that are due before any other action.

    Attributes:
        events: The records.
        state: The state after them.
    """

    events: tuple[SagaEvent, ...]
    state: SagaState[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """Make an attempt of an external step.

    Attributes:
        step: The step.
        attempt: The number of the attempt.
        alone: Whether no other call may run during the attempt.
        is_recorded: Whether the start of the attempt is recorded already.
    """

    step: Step[Any, Any]
    attempt: int
    alone: bool = False
    is_recorded: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """Record the success of a step whose answer was recorded with a defect.

    Attributes:
        step: The step.
        attempt: The number of the attempt.
    """

    step: Step[Any, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute the command of a local step, and record the step in the same commit.

    Attributes:
        step: The step.
        attempt: The number of the attempt.
        alone: Whether no other call may run during the attempt.
        is_recorded: Whether the start of the attempt is recorded already, or needs no
            record. The start of a local step needs a record only after a crash.
    """

    step: LocalStep[Any]
    attempt: int
    alone: bool = False
    is_recorded: bool = True


@dataclass(frozen=True, slots=True)
class Compensate:
    """Make an attempt to compensate a step: a call or a command.

    Attributes:
        step: The step.
        attempt: The number of the attempt.
        alone: Whether no other call may run during the attempt.
        is_recorded: Whether the start of the attempt is recorded already.
    """

    step: SagaStep[Any]
    attempt: int
    alone: bool = False
    is_recorded: bool = True


@dataclass(frozen=True, slots=True)
class Together:
    """Make several attempts at the same time.

    Attributes:
        attempts: The attempts, each of another step.
    """

    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class AwaitAttempts:
    """Do nothing before one of the running attempts has ended."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """Do nothing more: the saga has ended or is stuck."""

    status: SagaStatus


@dataclass(frozen=True, slots=True)
class Blocked:
    """Do nothing more in this program: it can attempt no remaining compensation.

    Each remaining compensation has a defect, or must wait for one that has.
    """


Attempt: TypeAlias = Call | Record | Execute | Compensate

Action: TypeAlias = (
    Commit | Attempt | Together | Wait | AwaitAttempts | Terminal | Blocked
)


def next_action(
    saga: Saga[S],
    state: SagaState[S],
    now: datetime,
    defective: Container[str] = (),
    running: Collection[str] = (),
) -> Action:
    """Return the next action of a saga's driver.

    Args:
        saga: The saga's declaration.
        state: Its state.
        now: The time.
        defective: The steps whose compensation has a defect in this program.
        running: The steps of which the driver makes an attempt at the moment.

    Raises:
        Defect: A ``skip_if`` raised.
        Outage: A ``skip_if`` raised an `OSError`.
    """
    progress = state.progress
    match progress.status:
        case SagaStatus.RUNNING:
            due = None
            if not _is_in_flight(progress):
                due = _due_records(saga, state, now, ())
            return due or _next_attempts(saga, progress, now, running)
        case SagaStatus.COMPENSATING:
            return _due_records(saga, state, now, defective) or _next_compensations(
                saga, progress, now, defective, running
            )
        case _:
            return Terminal(progress.status)


def _is_in_flight(progress: Progress) -> bool:
    """Return whether the only next step is attempted already, so no record is due."""
    active = progress.active
    return len(active) == 1 and active[0][1].attempts.in_flight


def _due_records(
    saga: Saga[S], state: SagaState[S], now: datetime, defective: Container[str]
) -> Commit | None:
    events, after = decide(saga, state, Proceed(defective), now)
    return Commit(events, after) if events else None


def _next_attempts(
    saga: Saga[Any], progress: Progress, now: datetime, running: Collection[str]
) -> Action:
    """Return the action for the next steps, when no record is due before it."""
    is_ending = bool(progress.stuck_steps) and ends_in_compensation(saga, progress)
    found: list[Attempt | Wait] = []
    for shape, branch in progress.active:
        may_continue = branch.attempts.in_flight or not is_ending
        if may_continue and branch.failure is None and shape.name not in running:
            node = saga.by_name[shape.name]
            found.append(_attempt_of(saga, progress, node, branch, now))
    return _first_of(found)


def _first_of(found: list[Attempt | Wait]) -> Action:
    """Return the attempts that may be made now, or else the wait that ends first."""
    if len(found) == 1:
        return found[0]
    attempts = tuple([one for one in found if not isinstance(one, Wait)])
    if attempts:
        # Also a single attempt, if other branches wait: the end of a wait may be due
        # during the attempt.
        return Together(attempts)
    waits = [one for one in found if isinstance(one, Wait)]
    return min(waits, key=_end_of, default=AwaitAttempts())


def _end_of(wait: Wait) -> datetime:
    return wait.until


def _attempt_of(
    saga: Saga[Any],
    progress: Progress,
    node: SagaStep[Any],
    branch: Branch,
    now: datetime,
) -> Attempt | Wait:
    """Return the action for one step that is next."""
    if branch.waiting is not None:
        return Wait(wake_time(saga, progress, branch.waiting.until or _NEVER))
    attempts = branch.attempts
    if attempts.in_flight:
        if is_external(node):
            return Call(node, attempts.number, attempts.alone)
        return Execute(local(node), attempts.number, attempts.alone)
    if branch.answer is not None:
        return Record(external(node), attempts.number)
    retry_at = retry_due(attempts, node.attempt_rules, now)
    if retry_at is not None:
        return Wait(wake_time(saga, progress, retry_at))
    attempt, alone = attempts.number + 1, attempts.crashes > 0
    if is_external(node):
        return Call(node, attempt, alone, is_recorded=not alone)
    return Execute(local(node), attempt, alone, is_recorded=not alone)


def _next_compensations(
    saga: Saga[Any],
    progress: Progress,
    now: datetime,
    defective: Container[str],
    running: Collection[str],
) -> Action:
    """Return the action for the next compensations, when no record is due before it."""
    ready = ready_compensations(saga, progress, defective)
    if not ready and not running:
        return Blocked()
    if any(step not in progress.plan for step in running):
        # A call of the saga began before its compensation, and must end first.
        return AwaitAttempts()
    found = [
        _compensation_of(saga, progress, step, now)
        for step in ready
        if step not in running
    ]
    return _first_of(found)


def _compensation_of(
    saga: Saga[Any], progress: Progress, step: str, now: datetime
) -> Attempt | Wait:
    node, attempts = saga.by_name[step], progress.compensation(step).attempts
    if attempts.in_flight:
        return Compensate(node, attempts.number, attempts.alone)
    retry_at = retry_due(attempts, node.compensation_rules, now)
    if retry_at is not None:
        return Wait(retry_at)
    return Compensate(node, attempts.number + 1, alone=True, is_recorded=False)
