"""The recorded part of a saga's declaration, and the differences of two graphs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from eventbraid.saga.definition._each import split_instance

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


class NodeShape(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The recorded part of a node's declaration: the part on which decisions depend.

    Attributes:
        name: The name of the step or the choice, or of the step of each item; empty for
            a parallel group.
        kind: The value of the step's `StepKind`, ``"wait"``, ``"parallel"``,
            ``"when"`` or ``"each"``.
        local: Whether it has no effect before a commit, as a local step and a wait.
        has_compensation: Whether the step has a compensation.
        replaceable: Whether another command replaces the step if it fails for good.
        branches: The branches of a group, each of them a sequence; for a choice, the
            sequence if its condition is true, and the other one; the step, if it is
            executed for each item; empty for a step.
    """

    name: str
    kind: str
    local: bool = False
    has_compensation: bool = False
    replaceable: bool = False
    branches: tuple[tuple[NodeShape, ...], ...] = ()

    def __str__(self) -> str:
        """Describe the step in one line, or the group by the names of its steps."""
        if self.branches:
            return names_of((self,))
        words = [self.kind]
        if self.kind != WAIT:
            words.append("local" if self.local else "external")
        words += ["with compensation"] * self.has_compensation
        words += ["replaceable"] * self.replaceable
        return f"{self.name!r} ({', '.join(words)})"


Graph: TypeAlias = tuple[NodeShape, ...]

PARALLEL = "parallel"
WHEN = "when"
EACH = "each"
WAIT = "wait"


def steps_of(graph: Sequence[NodeShape]) -> Iterator[NodeShape]:
    """Return all steps of a graph: a sequence in its order, a group by branches."""
    for shape in graph:
        if not shape.branches:
            yield shape
        for branch in shape.branches:
            yield from steps_of(branch)


def shape_of(graph: Graph, name: str) -> NodeShape | None:
    """Return a step by its name, which may be that of an item's step; None if none."""
    steps = {shape.name: shape for shape in steps_of(graph)}
    found = steps.get(name)
    if found is None:
        step, key = split_instance(name)
        found = steps.get(step) if key else None
    return found


def graph_hash(saga: str, graph: Graph) -> str:
    """Return a hash of a saga's name and graph: 16 hexadecimal digits."""
    encoded = msgspec.json.encode((saga, graph))
    return hashlib.blake2b(encoded, digest_size=8).hexdigest()


def graph_difference(
    recorded: Sequence[NodeShape], declared: Sequence[NodeShape]
) -> tuple[str, ...]:
    """Describe the differences of two graphs, by the names of their steps."""
    before = {shape.name: shape for shape in steps_of(recorded)}
    after = {shape.name: shape for shape in steps_of(declared)}
    kept = before.keys() & after.keys()
    reordered = names_of(recorded, kept) != names_of(declared, kept)
    return (
        *(f"removed {shape}" for name, shape in before.items() if name not in after),
        *(f"added {shape}" for name, shape in after.items() if name not in before),
        *(
            f"{before[name]} became {after[name]}"
            for name in before
            if name in after and before[name] != after[name]
        ),
        *([f"the order is now [{names_of(declared)}]"] if reordered else []),
    )


def names_of(graph: Sequence[NodeShape], only: Collection[str] | None = None) -> str:
    """Return the names of a graph's steps in one line, with the groups.

    Args:
        graph: The graph.
        only: The names that are returned; None for all.
    """
    names: list[str] = []
    for shape in graph:
        if shape.kind == EACH:
            if only is None or shape.name in only:
                names.append(f"{EACH}({shape.name})")
        elif shape.branches:
            branches = " | ".join(names_of(branch, only) for branch in shape.branches)
            names.append(f"{shape.name or PARALLEL}({branches})")
        elif only is None or shape.name in only:
            names.append(shape.name)
    return ", ".join(names)


def choices_of(graph: Sequence[NodeShape]) -> Iterator[NodeShape]:
    """Return all choices of a graph."""
    for shape in graph:
        if shape.kind == WHEN:
            yield shape
        for branch in shape.branches:
            yield from choices_of(branch)
