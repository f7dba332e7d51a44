"""What a demo was begun with: a later run on the same directory goes on with it."""

from __future__ import annotations

from collections.abc import Iterator

import eventbraid as eb

from .values import Quantity


@eb.event("demo.planned")
class DemoPlanned:
    """The choices that a second run must not make anew.

    Attributes:
        seed: Which products each order is of, and what befalls it.
        stock: How many pieces of each product there are to begin with.
    """

    seed: int
    stock: Quantity


class DemoPlan(eb.Stream[DemoPlanned], category="demo"):
    """The plan of the demo in this store."""


class PlanDemo(eb.Command[DemoPlanned | None, DemoPlanned]):
    """Begin a demo, or go on with it.

    Rejected as `another_plan` if it was begun with another seed or stock.
    """

    plan: eb.Declared[DemoPlan]
    seed: int
    stock: Quantity

    def initial(self) -> DemoPlanned | None:
        return None

    def apply(
        self, state: DemoPlanned | None, recorded: eb.Recorded[DemoPlanned], /
    ) -> DemoPlanned | None:
        return state or recorded.event

    def decide(self, state: DemoPlanned | None, /) -> Iterator[eb.Write]:
        if state is None:
            yield self.plan.write(DemoPlanned(self.seed, self.stock))
            return
        eb.require(
            state.seed == self.seed and state.stock == self.stock,
            "another_plan",
            f"the demo in this directory was begun with --seed {state.seed} "
            f"--stock {state.stock}; give the same, or neither, or another directory",
        )
