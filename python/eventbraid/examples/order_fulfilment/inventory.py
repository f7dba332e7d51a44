"""Inventory: each product's stock, reserved for all items of an order or for none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import eventbraid as eb

from .values import OrderId, OrderItem, ProductId, Quantity


@eb.event("inventory.received")
class StockReceived:
    """Pieces arrived.

    Attributes:
        quantity: How many.
        delivery: Which delivery brought them.
    """

    quantity: Quantity
    delivery: str


@eb.event("inventory.reserved")
class StockReserved:
    """Pieces are kept for an order.

    Attributes:
        order: For which order.
        quantity: How many.
    """

    order: OrderId
    quantity: Quantity


@eb.event("inventory.released")
class StockReleased:
    """Pieces that were kept for an order are free again.

    Attributes:
        order: For which order they were kept.
        quantity: How many.
    """

    order: OrderId
    quantity: Quantity


InventoryEvent = StockReceived | StockReserved | StockReleased


class Product(eb.Stream[InventoryEvent], category="product"):
    """The stock of one product."""


@dataclass(slots=True)
class Stock:
    """What is known of one product for the sake of one order.

    Attributes:
        free: Pieces that are there and not kept for anyone.
        kept: Pieces that are kept for the order in question.
    """

    free: int = 0
    kept: int = 0


class _OrderInventoryCommand(
    eb.Command[defaultdict[str, Stock], InventoryEvent], abstract=True
):
    """Looks at several products for the sake of one order."""

    order: OrderId

    def initial(self) -> defaultdict[str, Stock]:
        return defaultdict(Stock)

    def apply(
        self,
        state: defaultdict[str, Stock],
        recorded: eb.Recorded[InventoryEvent],
        /,
    ) -> defaultdict[str, Stock]:
        # A popular product has hundreds of events to fold: in place, commonest first.
        stock, event = state[recorded.stream], recorded.event
        match event:
            case StockReserved():
                stock.free -= int(event.quantity)
                if event.order == self.order:
                    stock.kept += int(event.quantity)
            case StockReleased():
                stock.free += int(event.quantity)
                if event.order == self.order:
                    stock.kept -= int(event.quantity)
            case StockReceived():
                stock.free += int(event.quantity)
        return state


class ReserveInventory(_OrderInventoryCommand):
    """Keep the pieces of all items of an order, or of none.

    Nothing to do for what is kept already. Rejected as `insufficient_inventory`, with
    every product that is short, if any one is.
    """

    products: eb.DeclaredMany[Product]
    items: tuple[OrderItem, ...]

    def decide(self, state: defaultdict[str, Stock], /) -> Iterator[eb.Write]:
        missing = [item for item in self.items if not state[item.product].kept]
        short = {
            str(item.product): state[item.product].free
            for item in missing
            if state[item.product].free < int(item.quantity)
        }
        eb.require(
            not short,
            "insufficient_inventory",
            f"{len(short)} of {len(self.items)} products are short",
            free=short,
        )
        for item in missing:
            product = self.products.of(item.product)
            yield product.write(StockReserved(self.order, item.quantity))


class ReleaseInventory(_OrderInventoryCommand):
    """Release what is reserved for an order, if anything is."""

    products: eb.DeclaredMany[Product]

    def decide(self, state: defaultdict[str, Stock], /) -> Iterator[eb.Write]:
        for product in self.products:
            kept = state[product].kept
            if kept:
                yield product.write(StockReleased(self.order, Quantity(kept)))


class ReceiveStock(eb.Command[frozenset[str], InventoryEvent]):
    """Take in a delivery; nothing to do if it was taken in before."""

    product: eb.Declared[Product]
    quantity: Quantity
    delivery: str

    def initial(self) -> frozenset[str]:
        return frozenset()

    def apply(
        self, state: frozenset[str], recorded: eb.Recorded[InventoryEvent], /
    ) -> frozenset[str]:
        event = recorded.event
        return state | {event.delivery} if isinstance(event, StockReceived) else state

    def decide(self, state: frozenset[str], /) -> Iterator[eb.Write]:
        if self.delivery not in state:
            yield self.product.write(StockReceived(self.quantity, self.delivery))


def products_of(items: tuple[OrderItem, ...]) -> tuple[ProductId, ...]:
    """The products of an order's items: the streams that its commands declare."""
    return tuple(item.product for item in items)
