"""The next action of a saga's driver, as a function of the saga's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from eventbraid.saga.definition._step import (
    LocalStep,
    Step,
    external,
    is_external,
    local,
)
from eventbraid.saga.machine._compensation_rules import next_compensation
from eventbraid.saga.machine._deadline_rules import wake_time
from eventbraid.saga.machine._decider import decide
from eventbraid.saga.machine._due_times import retry_due
from eventbraid.saga.machine._outcomes import Proceed
from eventbraid.saga.machine._progress import SagaStatus

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._step_base import SagaStep
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Branch, Progress
    from eventbraid.saga.machine._state import SagaState

S = TypeVar("S")


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
class Wait:
    """Do nothing before this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Terminal:
    """Do nothing more: the saga has ended or is stuck."""

    status: SagaStatus


@dataclass(frozen=True, slots=True)
class Blocked:
    """Do nothing more in this program: each remaining compensation has a defect."""


Action: TypeAlias = (
    Commit | Call | Record | Execute | Compensate | Wait | Terminal | Blocked
)


def next_action(
    saga: Saga[S],
    state: SagaState[S],
    now: datetime,
    defective: Container[str] = (),
) -> Action:
    """Return the next action of a saga's driver.

    Args:
        saga: The saga's declaration.
        state: Its state.
        now: The time.
        defective: The steps whose compensation has a defect in this program.

    Raises:
        Defect: A ``skip_if`` raised.
        Outage: A ``skip_if`` raised an `OSError`.
    """
    progress = state.progress
    match progress.status:
        case SagaStatus.RUNNING:
            return _due_records(saga, state, now, ()) or _next_attempt(
                saga, progress, now
            )
        case SagaStatus.COMPENSATING:
            return _due_records(saga, state, now, defective) or _next_compensation(
                saga, progress, now, defective
            )
        case _:
            return Terminal(progress.status)


def _due_records(
    saga: Saga[S], state: SagaState[S], now: datetime, defective: Container[str]
) -> Commit | None:
    events, after = decide(saga, state, Proceed(defective), now)
    return Commit(events, after) if events else None


def _next_attempt(saga: Saga[Any], progress: Progress, now: datetime) -> Action:
    """Return the action for the steps that are next, when no record is due before it.

    That is the first action that may be taken now; otherwise the wait that ends first.
    """
    waits: list[Wait] = []
    for shape, branch in progress.active:
        if branch.failure is not None:
            continue
        action = _attempt_of(saga, progress, saga.by_name[shape.name], branch, now)
        if not isinstance(action, Wait):
            return action
        waits.append(action)
    return min(waits, key=lambda wait: wait.until)


def _attempt_of(
    saga: Saga[Any],
    progress: Progress,
    node: SagaStep[Any],
    branch: Branch,
    now: datetime,
) -> Action:
    """Return the action for one step that is next."""
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


def _next_compensation(
    saga: Saga[Any], progress: Progress, now: datetime, defective: Container[str]
) -> Action:
    """Return the action for the next compensation, when no record is due before it."""
    step = next_compensation(saga, progress, defective)
    if step is None:
        return Blocked()
    node, attempts = saga.by_name[step], progress.compensation(step).attempts
    if attempts.in_flight:
        return Compensate(node, attempts.number, attempts.alone)
    retry_at = retry_due(attempts, node.compensation_rules, now)
    if retry_at is not None:
        return Wait(retry_at)
    return Compensate(node, attempts.number + 1, alone=True, is_recorded=False)
