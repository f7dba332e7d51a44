"""The parameters with which a demo was begun; later runs use the same ones."""

from __future__ import annotations

from collections.abc import Iterator

import eventbraid as eb

from .values import Quantity


@eb.event("demo.planned")
class DemoPlanned:
    """A demo was begun with these parameters.

    Attributes:
        seed: The seed of all random choices: products, failures.
        stock: The initial stock of each product.
    """

    seed: int
    stock: Quantity


class DemoPlan(eb.Stream[DemoPlanned], category="demo"):
    """The plan of the demo in this store."""


class PlanDemo(eb.StatefulCommand[DemoPlanned | None, DemoPlanned]):
    """Begin a demo, or continue it.

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
