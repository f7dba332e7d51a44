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


class DemoPlan(eb.Stream[DemoPlanned, DemoPlanned | None], category="demo"):
    """The plan of the demo in this store; the state is None before it is begun."""

    def initial(self) -> DemoPlanned | None:
        return None

    def apply(
        self, state: DemoPlanned | None, event: DemoPlanned, /
    ) -> DemoPlanned | None:
        return state or event


class PlanDemo(eb.Command):
    """Begin a demo, or continue it.

    Rejected as `another_plan` if it was begun with another seed or stock.
    """

    plan: eb.Declared[DemoPlan]
    seed: int
    stock: Quantity

    def decide(self) -> Iterator[eb.Write]:
        begun = self.plan.state
        if begun is None:
            yield self.plan.write(DemoPlanned(self.seed, self.stock))
            return
        eb.require(
            begun.seed == self.seed and begun.stock == self.stock,
            "another_plan",
            f"the demo in this directory was begun with --seed {begun.seed} "
            f"--stock {begun.stock}; give the same, or neither, or another directory",
        )
