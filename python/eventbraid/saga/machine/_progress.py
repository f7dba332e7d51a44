"""The progress of a saga: the result of the fold of its stream."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import msgspec
from msgspec.structs import replace

from eventbraid.saga.definition._declaration import Declaration
from eventbraid.saga.definition._graph import Graph, NodeShape, steps_of
from eventbraid.saga.machine._branch import (
    NO_BRANCH,
    UNTRIED,
    Attempts,
    Branch,
    Items,
    active_in,
    may_have_happened,
    undecided_in,
    undecided_node,
)
from eventbraid.saga.machine._events import NOTHING, DefectRecorded, SignalReceived


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
_RUNNING = SagaStatus.RUNNING
_STUCK = SagaStatus.STUCK
_COMPLETED, _COMPENSATED = SagaStatus.COMPLETED, SagaStatus.COMPENSATED


# The kinds of steps after which a saga can't be compensated any more.
_FINAL_KINDS = ("pivot", "retriable")


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
        root: The branch of the whole graph.
        active: The steps that are next, each with its branch; none after the last step.
            They follow from the root, and are kept because each decision needs them.
        undecided: The nodes that are next, and about which a record is due: choices,
            and steps that are executed for each item, before their items are listed and
            when they are settled for all items.
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
        signals: The signals that no wait has used yet, each with its number, in the
            order in which they were received.
        signal_count: The number of all signals that were received.
    """

    id: str
    status: SagaStatus = SagaStatus.NEW
    saga: str = ""
    version: int = 0
    graph_hash: str = ""
    graph: Graph = ()
    input: msgspec.Raw = NOTHING
    deadline: datetime | None = None
    root: Branch = Branch()
    active: tuple[tuple[NodeShape, Branch], ...] = ()
    undecided: tuple[str, ...] = ()
    blocked: DefectRecorded | None = None
    generations: Mapping[str, int] = {}
    done: tuple[str, ...] = ()
    results: Mapping[str, msgspec.Raw] = {}
    failure: str | None = None
    stuck_for: str | None = None
    compensating: bool = False
    plan: tuple[str, ...] = ()
    compensations: Mapping[str, Compensation] = {}
    signals: tuple[tuple[int, SignalReceived], ...] = ()
    signal_count: int = 0

    @property
    def declaration(self) -> Declaration:
        """The declaration that the saga was started with."""
        return Declaration(self.saga, self.version, self.graph_hash)

    @property
    def step(self) -> str | None:
        """The name of the first step that is next; None after the last step."""
        return self.active[0][0].name if self.active else None

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps that are next."""
        return tuple([shape.name for shape, _ in self.active])

    def at(self, step: str) -> tuple[NodeShape, Branch]:
        """Return a step that is next, and its branch."""
        for one in self.active:
            if one[0].name == step:
                return one
        raise AssertionError(step)

    def branch(self, step: str) -> Branch:
        """Return the branch in which a step is next; `NO_BRANCH` if it isn't next."""
        for shape, branch in self.active:
            if shape.name == step:
                return branch
        return NO_BRANCH

    @property
    def current(self) -> str | None:
        """The name of the step that is executed or compensated."""
        if not self.compensating:
            is_stuck = self.status is SagaStatus.STUCK
            return next(iter(self.stuck_steps), None) if is_stuck else self.step
        if self.status is SagaStatus.STUCK:
            return next(iter(self.stuck_steps), None)
        return next(iter((*self.open_steps, *self.stuck_steps)), None)

    def compensation(self, step: str) -> Compensation:
        """Return the compensation of a step."""
        return self.compensations.get(step, _UNTRIED_COMPENSATION)

    @property
    def stuck_steps(self) -> tuple[str, ...]:
        """The steps that failed for good; later those whose compensation did so."""
        if not self.compensating:
            stuck: list[str] = []
            for shape, branch in self.active:
                if branch.failure is not None:
                    stuck.append(shape.name)
            return tuple(stuck)
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
    def doubtful(self) -> tuple[str, ...]:
        """The steps that are next and may have had an effect already."""
        return tuple(
            shape.name
            for shape, branch in self.active
            if may_have_happened(shape, branch)
        )

    @property
    def has_open_pivot(self) -> bool:
        """Whether a pivot that has no compensation may have had an effect."""
        for shape, branch in self.active:
            if shape.kind == "pivot" and not shape.has_compensation:
                return may_have_happened(shape, branch)
        return False

    @property
    def is_past_return(self) -> bool:
        """Whether the saga can't be compensated any more."""
        position = self.root.position
        settled, next_node = self.graph[:position], self.graph[position:][:1]
        return (
            any(shape.kind in _FINAL_KINDS for shape in steps_of(settled))
            or any(shape.kind == "retriable" for shape in steps_of(next_node))
            or self.has_open_pivot
        )

    @property
    def trouble(self) -> str | None:
        """The reason why the saga is stuck, compensated, or retries a step; or None."""
        return self.stuck_for or self.failure

    def awaits(self, step: str) -> bool:
        """Return whether the saga still waits for the answer to a step's call."""
        if self.status is not _RUNNING:
            return False
        for shape, branch in self.active:
            if shape.name == step:
                return may_have_happened(shape, branch)
        return False


def with_root(progress: Progress, root: Branch, **changes: Any) -> Progress:
    """Return the progress with another root, and other changes."""
    graph = progress.graph
    if root.position >= len(graph):
        return replace(progress, root=root, active=(), undecided=(), **changes)
    shape = graph[root.position]
    if not shape.branches:
        active = ((shape, root),)
        return replace(progress, root=root, active=active, undecided=(), **changes)
    return replace(
        progress,
        root=root,
        active=tuple(active_in(graph, root)),
        undecided=tuple([name for name, _ in undecided_in(graph, root)]),
        **changes,
    )


def items_of(progress: Progress, step: str) -> Items | None:
    """Return the items of a step about which a record is due; None before the list."""
    return undecided_node(progress.graph, progress.root, step)[1].items
