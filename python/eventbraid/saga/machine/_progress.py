"""The progress of a saga: the result of the fold of its stream."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

import msgspec

from eventbraid.saga.definition._context import Doubt
from eventbraid.saga.definition._declaration import Declaration
from eventbraid.saga.definition._graph import Graph, StepShape
from eventbraid.saga.machine._events import NOTHING, DefectRecorded


class SagaStatus(Enum):
    """The status of a saga.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.SagaStatus.STUCK.ended
        False
    """

    NEW = "new"
    RUNNING = "running"
    COMPENSATING = "compensating"
    STUCK = "stuck"
    COMPLETED = "completed"
    COMPENSATED = "compensated"

    @property
    def ended(self) -> bool:
        """Whether the saga is completed or compensated.

        A stuck saga has not ended: it is at rest, because it waits for a person.
        """
        return self is _COMPLETED or self is _COMPENSATED

    @property
    def is_at_rest(self) -> bool:
        """Whether the saga does nothing by itself: it has ended, or it is stuck."""
        return self.ended or self is _STUCK


# The members are looked up only once. An access to a member through its class calls
# slow code of `enum` and takes 90 ns, and each commit of a saga checks whether the saga
# has ended.
_STUCK = SagaStatus.STUCK
_COMPLETED, _COMPENSATED = SagaStatus.COMPLETED, SagaStatus.COMPENSATED


class Attempts(msgspec.Struct, frozen=True, gc=False):
    """The attempts at one call: the action of a step, or its compensation.

    Attributes:
        number: The number of the last attempt; 0 before the first one.
        in_flight: Whether the last attempt was started and has no outcome yet.
        alone: Whether the process makes no other call during the last attempt.
        doubt: The reason why a failed attempt may have had an effect; None if certainly
            no attempt had an effect.
        retry_at: The time at which the next attempt is due; None if it is due at once,
            or if no further attempt is due.
        unspent: The number of attempts that don't count against the step's limit of
            attempts, because a crash or a defect ended them.
        crashes: The number of crashes in a row: attempts that ended with their process.
        crashes_alone: The number of these attempts that were made alone, so that the
            call is the only possible cause.
    """

    number: int = 0
    in_flight: bool = False
    alone: bool = False
    doubt: Doubt | None = None
    retry_at: datetime | None = None
    unspent: int = 0
    crashes: int = 0
    crashes_alone: int = 0

    @property
    def counted(self) -> int:
        """The number of attempts that count against the limit of a step."""
        return self.number - self.unspent

    @property
    def to_be_settled(self) -> int:
        """The number of the attempt whose outcome is recorded next.

        The start of that attempt may be missing from the records, if the attempt is a
        command that is committed together with its record.
        """
        return self.number if self.in_flight else self.number + 1


UNTRIED = Attempts()


class Branch(msgspec.Struct, frozen=True, gc=False):
    """A branch of a saga's graph: the step that is next, and the attempts at it.

    A saga has one branch, because its steps form one sequence. In a graph with parallel
    steps, a saga would have one branch for each of them.

    Attributes:
        position: The number of settled steps, and so the index of the next one.
        attempts: The attempts at that step.
        answer: The result of that step, as JSON, if the receiver has answered but a
            defect prevented the record of the success.
    """

    position: int = 0
    attempts: Attempts = UNTRIED
    answer: msgspec.Raw | None = None


class Compensation(msgspec.Struct, frozen=True, gc=False):
    """The state of the compensation of one step.

    Attributes:
        attempts: The attempts at the compensation.
        generation: The generation of its idempotency key.
        failure: The reason why the compensation failed for good; None if it hasn't
            failed for good.
    """

    attempts: Attempts = UNTRIED
    generation: int = 1
    failure: str | None = None


_UNTRIED_COMPENSATION = Compensation()


class Progress(msgspec.Struct, frozen=True, gc=False):
    """The progress of a saga, as its stream records it.

    Attributes:
        id: The saga's id.
        status: Its status.
        saga: The name of its declaration.
        version: The version of its graph.
        graph_hash: The hash of its graph.
        graph: The graph itself.
        input: The initial state, as JSON.
        deadline: The time after which it is compensated if it has not ended; None: no
            deadline.
        branch: The branch that is executed.
        blocked: The record of the defect that blocks the saga; None if there is none.
        generations: The generations of the steps' idempotency keys, without those that
            are 1.
        done: The steps that succeeded, in the order of their success.
        results: The results of steps, as JSON; also of answers that arrived late.
        failure: What failed, or why the saga is compensated, for people.
        stuck_for: The reason why it is stuck, for people.
        compensating: Whether its compensation has begun.
        plan: The steps that are still to be compensated, in this order.
        compensations: The state of each compensation of the plan that was attempted.
    """

    id: str
    status: SagaStatus = SagaStatus.NEW
    saga: str = ""
    version: int = 0
    graph_hash: str = ""
    graph: Graph = ()
    input: msgspec.Raw = NOTHING
    deadline: datetime | None = None
    branch: Branch = Branch()
    blocked: DefectRecorded | None = None
    generations: Mapping[str, int] = {}
    done: tuple[str, ...] = ()
    results: Mapping[str, msgspec.Raw] = {}
    failure: str | None = None
    stuck_for: str | None = None
    compensating: bool = False
    plan: tuple[str, ...] = ()
    compensations: Mapping[str, Compensation] = {}

    @property
    def declaration(self) -> Declaration:
        """The declaration that the saga was started with."""
        return Declaration(self.saga, self.version, self.graph_hash)

    @property
    def shape(self) -> StepShape | None:
        """The shape of the step at the branch's position; None after the last step."""
        position = self.branch.position
        return self.graph[position] if position < len(self.graph) else None

    @property
    def step(self) -> str | None:
        """The name of the step at the branch's position; None after the last step."""
        position = self.branch.position
        return self.graph[position].name if position < len(self.graph) else None

    @property
    def current(self) -> str | None:
        """The name of the step that is executed or compensated."""
        if not self.compensating:
            return self.step
        if self.status is SagaStatus.STUCK:
            return next(iter(self.stuck_steps), None)
        return next(iter((*self.open_steps, *self.stuck_steps)), None)

    def compensation(self, step: str) -> Compensation:
        """Return the compensation of a step."""
        return self.compensations.get(step, _UNTRIED_COMPENSATION)

    @property
    def stuck_steps(self) -> tuple[str, ...]:
        """The steps of the plan whose compensation failed for good."""
        return tuple(
            step for step in self.plan if self.compensation(step).failure is not None
        )

    @property
    def open_steps(self) -> tuple[str, ...]:
        """The steps of the plan whose compensation may be attempted."""
        return tuple(
            step for step in self.plan if self.compensation(step).failure is None
        )

    @property
    def may_have_happened(self) -> bool:
        """Whether the step at the branch's position may have had an effect.

        A local step has no effect before its commit.
        """
        attempts = self.branch.attempts
        if attempts.doubt is not None:
            return True
        return attempts.in_flight and not self.graph[self.branch.position].local

    @property
    def has_open_pivot(self) -> bool:
        """Whether a pivot that has no compensation may have had an effect."""
        if not self.may_have_happened:
            return False
        shape = self.graph[self.branch.position]
        return shape.kind == "pivot" and not shape.has_compensation

    @property
    def is_past_return(self) -> bool:
        """Whether the saga can't be compensated any more."""
        position = self.branch.position
        settled, next_step = self.graph[:position], self.graph[position:][:1]
        return (
            any(shape.kind != "compensatable" for shape in settled)
            or any(shape.kind == "retriable" for shape in next_step)
            or self.has_open_pivot
        )

    @property
    def trouble(self) -> str | None:
        """The reason why the saga is stuck, compensated, or retries a step; or None."""
        return self.stuck_for or self.failure

    def awaits(self, step: str) -> bool:
        """Return whether the saga still waits for the answer to a step's call."""
        running = self.status is SagaStatus.RUNNING
        return running and self.step == step and self.may_have_happened
