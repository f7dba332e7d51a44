"""The recorded part of a saga's declaration, and the differences of two graphs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class StepShape(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The recorded part of a step's declaration: the part on which decisions depend.

    Attributes:
        name: The step's name.
        kind: The value of its `StepKind`.
        local: Whether it is a local step.
        has_compensation: Whether it has a compensation.
        replaceable: Whether another command replaces the step if it fails for good.
    """

    name: str
    kind: str
    local: bool
    has_compensation: bool
    replaceable: bool

    def __str__(self) -> str:
        """Describe the step in one line."""
        words = [self.kind, "local" if self.local else "external"]
        words += ["with compensation"] * self.has_compensation
        words += ["replaceable"] * self.replaceable
        return f"{self.name!r} ({', '.join(words)})"


Graph = tuple[StepShape, ...]


def graph_hash(saga: str, graph: Graph) -> str:
    """Return a hash of a saga's name and graph: 16 hexadecimal digits."""
    encoded = msgspec.json.encode((saga, graph))
    return hashlib.blake2b(encoded, digest_size=8).hexdigest()


def graph_difference(
    recorded: Sequence[StepShape], declared: Sequence[StepShape]
) -> tuple[str, ...]:
    """Describe the differences of two graphs, by the names of their steps."""
    before = {shape.name: shape for shape in recorded}
    after = {shape.name: shape for shape in declared}
    kept = [name for name in before if name in after]
    reordered = kept != [name for name in after if name in before]
    return (
        *(f"removed {shape}" for name, shape in before.items() if name not in after),
        *(f"added {shape}" for name, shape in after.items() if name not in before),
        *(
            f"{before[name]} became {after[name]}"
            for name in kept
            if before[name] != after[name]
        ),
        *([f"the order is now {list(after)}"] if reordered else []),
    )
