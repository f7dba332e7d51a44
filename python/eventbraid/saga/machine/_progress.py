"""The progress of a saga: the result of the fold of its stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import msgspec
from msgspec.structs import replace

from eventbraid.saga.definition._context import Doubt
from eventbraid.saga.definition._declaration import Declaration
from eventbraid.saga.definition._graph import PARALLEL, WHEN, Graph, NodeShape, steps_of
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
_RUNNING = SagaStatus.RUNNING
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
    """A branch of a saga's graph: the node that is next, and its state.

    The root of a saga is the branch of its whole sequence. If the next node is a
    parallel group, the branch has a branch for each sequence of the group; if it is a
    step, the branch has the attempts at the step.

    Attributes:
        position: The number of settled nodes, and so the index of the next one.
        attempts: The attempts at the next node, if it is a step.
        answer: The result of that step, as JSON, if the receiver has answered but a
            defect prevented the record of the success.
        failure: The reason why that step failed for good; None if it hasn't.
        branches: The branches of the next node, if it is a group; the branch of the
            chosen sequence, if it is a choice that was made.
        chosen: The index of that sequence in the graph; None before the choice.
    """

    position: int = 0
    attempts: Attempts = UNTRIED
    answer: msgspec.Raw | None = None
    failure: str | None = None
    branches: tuple[Branch, ...] = ()
    chosen: int | None = None


NO_BRANCH = Branch(-1)
"""The branch of a step that isn't next in any branch."""


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
        choices: The choices that are next.
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
    root: Branch = Branch()
    active: tuple[tuple[NodeShape, Branch], ...] = ()
    choices: tuple[str, ...] = ()
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
            any(shape.kind != "compensatable" for shape in steps_of(settled))
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
        return replace(progress, root=root, active=(), choices=(), **changes)
    shape = graph[root.position]
    if not shape.branches:
        active = ((shape, root),)
        return replace(progress, root=root, active=active, choices=(), **changes)
    return replace(
        progress,
        root=root,
        active=tuple(active_in(graph, root)),
        choices=tuple(choices_in(graph, root)),
        **changes,
    )


def entered(graph: Graph, position: int) -> Branch:
    """Return a branch at a node of a sequence, with the branches of a group."""
    if position < len(graph):
        shape = graph[position]
        if shape.kind == PARALLEL:
            inner = tuple(entered(sequence, 0) for sequence in shape.branches)
            return Branch(position, branches=inner)
    return Branch(position)


def replaced(graph: Graph, root: Branch, step: str, branch: Branch | None) -> Branch:
    """Return the root after a change of the branch in which a step is next.

    Args:
        graph: The graph.
        root: The root before.
        step: The step, which is next in some branch.
        branch: The branch after the change; None if the step is settled.
    """
    if not graph[root.position].branches:
        return entered(graph, root.position + 1) if branch is None else branch
    changed = _replaced(graph, root, step, branch)
    if changed is None:
        raise AssertionError(step)
    return changed


def _replaced(
    graph: Graph, root: Branch, name: str, branch: Branch | None
) -> Branch | None:
    if root.position >= len(graph):
        return None
    shape = graph[root.position]
    if shape.name == name:
        changed = branch
    else:
        changed = _replaced_within(shape, root, name, branch)
        if changed is None:
            return None
    if changed is None or (shape.branches and _has_ended(shape, changed)):
        return entered(graph, root.position + 1)
    return changed


def _replaced_within(
    shape: NodeShape, root: Branch, name: str, branch: Branch | None
) -> Branch | None:
    """Return the branch of a group or a choice after a change inside of it."""
    for i, sequence in enumerate(sequences_of(shape, root)):
        changed = _replaced(sequence, root.branches[i], name, branch)
        if changed is not None:
            inner = (*root.branches[:i], changed, *root.branches[i + 1 :])
            return Branch(root.position, branches=inner, chosen=root.chosen)
    return None


def _has_ended(shape: NodeShape, branch: Branch) -> bool:
    """Return whether all branches of a group, or the chosen sequence, have ended."""
    sequences = sequences_of(shape, branch)
    return bool(sequences) and all(
        inner.position >= len(sequence)
        for sequence, inner in zip(sequences, branch.branches, strict=True)
    )


def sequences_of(shape: NodeShape, branch: Branch) -> tuple[Graph, ...]:
    """Return the sequences of a group; of a choice, the chosen one, if any."""
    if shape.kind != WHEN:
        return shape.branches
    return () if branch.chosen is None else (shape.branches[branch.chosen],)


def chose(graph: Graph, root: Branch, choice: str, chosen: int) -> Branch:
    """Return the root after a choice that is next was made."""
    shape, branch = next(
        one for one in _waiting_choices(graph, root) if one[0].name == choice
    )
    inner = entered(shape.branches[chosen], 0)
    made = Branch(branch.position, branches=(inner,), chosen=chosen)
    changed = _replaced(graph, root, choice, made)
    if changed is None:
        raise AssertionError(choice)
    return changed


def choices_in(graph: Graph, branch: Branch) -> Iterator[str]:
    """Return the names of the choices that are next in a branch and its branches."""
    for shape, _ in _waiting_choices(graph, branch):
        yield shape.name


def _waiting_choices(
    graph: Graph, branch: Branch
) -> Iterator[tuple[NodeShape, Branch]]:
    if branch.position >= len(graph):
        return
    shape = graph[branch.position]
    if shape.kind == WHEN and branch.chosen is None:
        yield shape, branch
    for sequence, inner in zip(
        sequences_of(shape, branch), branch.branches, strict=True
    ):
        yield from _waiting_choices(sequence, inner)


def active_in(graph: Graph, branch: Branch) -> Iterator[tuple[NodeShape, Branch]]:
    """Return the steps that are next in a branch and its branches."""
    if branch.position >= len(graph):
        return
    shape = graph[branch.position]
    if not shape.branches:
        yield shape, branch
        return
    for sequence, inner in zip(
        sequences_of(shape, branch), branch.branches, strict=True
    ):
        yield from active_in(sequence, inner)


def may_have_happened(shape: NodeShape, branch: Branch) -> bool:
    """Return whether the next step of a branch may have had an effect.

    A local step has no effect before its commit.
    """
    attempts = branch.attempts
    return attempts.doubt is not None or (attempts.in_flight and not shape.local)
