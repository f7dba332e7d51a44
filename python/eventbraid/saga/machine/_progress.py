"""The progress of a saga: what the fold of its stream gives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

import msgspec

from eventbraid.saga.definition._context import Doubt
from eventbraid.saga.definition._declaration import Declaration
from eventbraid.saga.definition._graph import Graph
from eventbraid.saga.machine._events import (
    NOTHING,
    DefectRecorded,
)


class Status(Enum):
    """Where a saga stands.

    Example:
        >>> import eventbraid as eb
        >>> eb.Status.STUCK.ended
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
        """Tell whether nothing more will happen."""
        return self is Status.COMPLETED or self is Status.COMPENSATED


class Compensation(msgspec.Struct, frozen=True, gc=False):
    """How far the compensation of one step has come.

    Attributes:
        attempt: The number of the last attempt; 0: none.
        in_flight: Whether that attempt was started and has no outcome.
        alone: Whether it was made while its process made no other call.
        doubt: Whether an attempt may have had its effect.
        retry_at: When the next attempt is due.
        generation: The generation of the key.
        unspent: The number of attempts that don't count: they ended with their process
            or by a defect.
        crashes: The number of attempts since the last outcome that ended with their
            process.
        crashes_alone: The number of those that were made alone.
        failure: Why it failed for good; None if it didn't.
    """

    attempt: int = 0
    in_flight: bool = False
    alone: bool = False
    doubt: bool = False
    retry_at: datetime | None = None
    generation: int = 1
    unspent: int = 0
    crashes: int = 0
    crashes_alone: int = 0
    failure: str | None = None


_UNTRIED = Compensation()


class Progress(msgspec.Struct, frozen=True, gc=False):
    """How far a saga has come: everything that planning needs.

    Attributes:
        id: The saga's id.
        status: Where it stands.
        saga: The name of its declaration.
        version: The version of its graph.
        graph_hash: The hash of its graph.
        graph: The graph itself.
        input: The initial state, as JSON.
        deadline: When it is to be compensated if it isn't through.
        cursor: How many steps are settled; the next one stands there in the graph.
        attempt: The number of the last attempt at that step; 0: none.
        in_flight: Whether that attempt was started and has no outcome.
        alone: Whether it was made while its process made no other call.
        unspent: The number of attempts at that step that don't count: they ended with
            their process or by a defect.
        crashes: The number of attempts at that step since the last outcome that ended
            with their process.
        crashes_alone: The number of those that were made alone.
        blocked: The last record, if it says that the code of a step has a bug.
        answer: What the step at the cursor has returned, as JSON, if a defect kept its
            success from being recorded.
        doubt: Why it isn't known whether the step at the cursor happened, if so.
        retry_at: When the next attempt of the step is due.
        generations: The generation of a step's key, where it isn't 1.
        done: The steps that succeeded, in the order in which they did.
        results: What they returned, as JSON; also results that came late.
        failure: What failed or undid the saga, for people.
        stuck_for: Why it is stuck, for people.
        compensating: Whether it has begun to be compensated.
        plan: The steps that are still to be compensated, in this order.
        compensations: How far the compensations of these have come, where they were
            attempted.
    """

    id: str
    status: Status = Status.NEW
    saga: str = ""
    version: int = 0
    graph_hash: str = ""
    graph: Graph = ()
    input: msgspec.Raw = NOTHING
    deadline: datetime | None = None
    cursor: int = 0
    attempt: int = 0
    in_flight: bool = False
    alone: bool = False
    unspent: int = 0
    crashes: int = 0
    crashes_alone: int = 0
    blocked: DefectRecorded | None = None
    answer: msgspec.Raw | None = None
    doubt: Doubt | None = None
    retry_at: datetime | None = None
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
    def step(self) -> str | None:
        """The name of the step at the cursor, or None behind the last one."""
        return self.graph[self.cursor].name if self.cursor < len(self.graph) else None

    @property
    def current(self) -> str | None:
        """The name of the step that is being done or compensated."""
        if not self.compensating:
            return self.step
        if self.status is Status.STUCK:
            return next(iter(self.stuck_steps), None)
        return next(iter((*self.open_steps, *self.stuck_steps)), None)

    def compensation(self, step: str) -> Compensation:
        """Return how far the compensation of a step has come."""
        return self.compensations.get(step, _UNTRIED)

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
        """Tell whether the step at the cursor may have had an effect.

        The attempt of a local step has none before it is committed.
        """
        if self.doubt is not None:
            return True
        return self.in_flight and not self.graph[self.cursor].local

    @property
    def compensation_plan(self) -> tuple[str, ...]:
        """The steps that would have to be compensated now, in this order.

        First the one at the cursor, if it may have happened; then those that did, the
        last to be done first.
        """
        compensatable = {shape.name for shape in self.graph if shape.has_compensation}
        happened = [*self.done]
        if self.may_have_happened and self.step is not None:
            happened.append(self.step)
        return tuple(step for step in reversed(happened) if step in compensatable)

    @property
    def has_open_pivot(self) -> bool:
        """Tell whether a pivot may have happened and nothing could compensate it."""
        if not self.may_have_happened:
            return False
        shape = self.graph[self.cursor]
        return shape.kind == "pivot" and not shape.has_compensation

    @property
    def is_past_return(self) -> bool:
        """Tell whether the saga can't be compensated any more."""
        settled, at_hand = self.graph[: self.cursor], self.graph[self.cursor :][:1]
        return (
            any(shape.kind != "compensatable" for shape in settled)
            or any(shape.kind == "retriable" for shape in at_hand)
            or self.has_open_pivot
        )

    @property
    def trouble(self) -> str | None:
        """What is wrong with the saga, for people; None if it is well."""
        return self.stuck_for or self.failure

    def awaits(self, step: str) -> bool:
        """Tell whether an answer of this step still moves the saga forward."""
        running = self.status is Status.RUNNING
        return running and self.step == step and self.may_have_happened
