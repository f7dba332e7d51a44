"""The branches of a saga's graph: the nodes that are next, and the attempts at them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from eventbraid.saga.definition._context import Doubt
from eventbraid.saga.definition._each import instance_name
from eventbraid.saga.definition._graph import EACH, PARALLEL, WHEN, Graph, NodeShape

if TYPE_CHECKING:
    from collections.abc import Iterator


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


class Items(msgspec.Struct, frozen=True, gc=False):
    """The items of a step that is executed for each of them.

    Attributes:
        keys: The keys of all items, as recorded.
        begun: The number of items whose branch was begun.
        open: The keys of the items whose branch was begun and hasn't ended.
    """

    keys: tuple[str, ...]
    begun: int = 0
    open: tuple[str, ...] = ()

    @property
    def are_settled(self) -> bool:
        """Whether the step is settled for all items."""
        return not self.open and self.begun == len(self.keys)


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """The recorded start of a wait.

    Attributes:
        until: The time at which it ends if there is no signal; None: it has no end.
    """

    until: datetime | None


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
            chosen sequence, if it is a choice that was made; the branches of the open
            items, if it is a step that is executed for each item.
        chosen: The index of that sequence in the graph; None before the choice.
        items: The items; None before they are listed.
        waiting: The start of the wait, if the next node is one that has begun.
    """

    position: int = 0
    attempts: Attempts = UNTRIED
    answer: msgspec.Raw | None = None
    failure: str | None = None
    branches: tuple[Branch, ...] = ()
    chosen: int | None = None
    items: Items | None = None
    waiting: Waiting | None = None


NO_BRANCH = Branch(-1)
"""The branch of a step that isn't next in any branch."""


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
        if changed is None:
            continue
        before, after = root.branches[:i], root.branches[i + 1 :]
        items = root.items
        if items is not None and changed.position >= len(sequence):
            still_open = (*items.open[:i], *items.open[i + 1 :])
            return _with_next_item(
                Branch(
                    root.position,
                    branches=(*before, *after),
                    items=replace(items, open=still_open),
                )
            )
        inner = (*before, changed, *after)
        return Branch(root.position, branches=inner, chosen=root.chosen, items=items)
    return None


def _with_next_item(branch: Branch) -> Branch:
    """Return the branch of the items after the next item, if any, was begun."""
    items = branch.items
    if items is None or items.begun == len(items.keys):
        return branch
    begun = (*items.open, items.keys[items.begun])
    return Branch(
        branch.position,
        branches=(*branch.branches, Branch()),
        items=Items(items.keys, items.begun + 1, begun),
    )


def _has_ended(shape: NodeShape, branch: Branch) -> bool:
    """Return whether all branches of a group, or the chosen sequence, have ended.

    A step that is executed for each item ends only with a record.
    """
    if shape.kind == EACH:
        return False
    sequences = sequences_of(shape, branch)
    return bool(sequences) and all(
        inner.position >= len(sequence)
        for sequence, inner in zip(sequences, branch.branches, strict=True)
    )


def sequences_of(shape: NodeShape, branch: Branch) -> tuple[Graph, ...]:
    """Return the sequences of a group that belong to the branches of a branch.

    For a choice, this is the chosen sequence, if any; for a step that is executed for
    each item, the steps of the open items.
    """
    if shape.kind == PARALLEL:
        return shape.branches
    if shape.kind == WHEN:
        return () if branch.chosen is None else (shape.branches[branch.chosen],)
    if branch.items is None:
        return ()
    step = shape.branches[0][0]
    return tuple([(step_of_item(step, key),) for key in branch.items.open])


def step_of_item(step: NodeShape, key: str) -> NodeShape:
    """Return the recorded part of the step of an item."""
    name = instance_name(step.name, key)
    return NodeShape(
        name, step.kind, step.local, step.has_compensation, step.replaceable
    )


def chose(graph: Graph, root: Branch, choice: str, chosen: int) -> Branch:
    """Return the root after a choice that is next was made."""
    shape, branch = undecided_node(graph, root, choice)
    inner = entered(shape.branches[chosen], 0)
    made = Branch(branch.position, branches=(inner,), chosen=chosen)
    return _changed(graph, root, choice, made)


def with_items(
    graph: Graph, root: Branch, step: str, keys: tuple[str, ...], concurrency: int
) -> Branch:
    """Return the root after the items of a step that is next were listed."""
    _, branch = undecided_node(graph, root, step)
    count = min(concurrency, len(keys))
    items = Items(keys, count, keys[:count])
    listed = Branch(branch.position, branches=(Branch(),) * count, items=items)
    return _changed(graph, root, step, listed)


def without_items(graph: Graph, root: Branch, step: str) -> Branch:
    """Return the root after a step was settled for all items."""
    return _changed(graph, root, step, None)


def _changed(graph: Graph, root: Branch, name: str, branch: Branch | None) -> Branch:
    changed = _replaced(graph, root, name, branch)
    if changed is None:
        raise AssertionError(name)
    return changed


def undecided_in(graph: Graph, branch: Branch) -> Iterator[tuple[str, str]]:
    """Return the names of the nodes about which a record is due, and their kinds."""
    for shape, _ in _undecided_nodes(graph, branch):
        yield shape.name, shape.kind


def undecided_node(graph: Graph, root: Branch, name: str) -> tuple[NodeShape, Branch]:
    return next(one for one in _undecided_nodes(graph, root) if one[0].name == name)


def _undecided_nodes(
    graph: Graph, branch: Branch
) -> Iterator[tuple[NodeShape, Branch]]:
    if branch.position >= len(graph):
        return
    shape = graph[branch.position]
    if _is_undecided(shape, branch):
        yield shape, branch
    if shape.kind == EACH:
        return
    for sequence, inner in zip(
        sequences_of(shape, branch), branch.branches, strict=True
    ):
        yield from _undecided_nodes(sequence, inner)


def _is_undecided(shape: NodeShape, branch: Branch) -> bool:
    if shape.kind == WHEN:
        return branch.chosen is None
    if shape.kind == EACH:
        return branch.items is None or branch.items.are_settled
    return False


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
