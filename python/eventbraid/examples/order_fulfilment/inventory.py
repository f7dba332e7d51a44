"""Inventory: the stock of each product, reserved for all items of an order or none."""

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
        quantity: The number of pieces.
        delivery: The name of the delivery.
    """

    quantity: Quantity
    delivery: str


@eb.event("inventory.reserved")
class StockReserved:
    """Pieces are reserved for an order.

    Attributes:
        order: The order.
        quantity: The number of pieces.
    """

    order: OrderId
    quantity: Quantity


@eb.event("inventory.released")
class StockReleased:
    """Pieces that were reserved for an order are available again.

    Attributes:
        order: The order.
        quantity: The number of pieces.
    """

    order: OrderId
    quantity: Quantity


InventoryEvent = StockReceived | StockReserved | StockReleased


class Product(eb.Stream[InventoryEvent], category="product"):
    """The stock of one product."""


@dataclass(slots=True)
class Stock:
    """The stock of one product, with regard to one order.

    Attributes:
        available: Pieces that are not reserved for any order.
        reserved: Pieces that are reserved for the order in question.
    """

    available: int = 0
    reserved: int = 0


class _OrderInventoryCommand(
    eb.StatefulCommand[defaultdict[str, Stock], InventoryEvent], abstract=True
):
    """Fold the stock of several products with regard to one order."""

    order: OrderId

    def initial(self) -> defaultdict[str, Stock]:
        return defaultdict(Stock)

    def apply(
        self,
        state: defaultdict[str, Stock],
        recorded: eb.Recorded[InventoryEvent],
        /,
    ) -> defaultdict[str, Stock]:
        # A popular product has hundreds of events: the state is changed in place, and
        # the most frequent events are matched first.
        stock, event = state[recorded.stream], recorded.event
        match event:
            case StockReserved():
                stock.available -= int(event.quantity)
                if event.order == self.order:
                    stock.reserved += int(event.quantity)
            case StockReleased():
                stock.available += int(event.quantity)
                if event.order == self.order:
                    stock.reserved -= int(event.quantity)
            case StockReceived():
                stock.available += int(event.quantity)
        return state


class ReserveInventory(_OrderInventoryCommand):
    """Reserve all items of an order or none.

    An item that is reserved already is not reserved again. If there is too little stock
    of a product, the command is rejected as `insufficient_inventory`, with all such
    products.
    """

    products: eb.DeclaredMany[Product]
    items: tuple[OrderItem, ...]

    def decide(self, state: defaultdict[str, Stock], /) -> Iterator[eb.Write]:
        missing = [item for item in self.items if not state[item.product].reserved]
        short = {
            str(item.product): state[item.product].available
            for item in missing
            if state[item.product].available < int(item.quantity)
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
    """Release all that is reserved for an order."""

    products: eb.DeclaredMany[Product]

    def decide(self, state: defaultdict[str, Stock], /) -> Iterator[eb.Write]:
        for product in self.products:
            reserved = state[product].reserved
            if reserved:
                yield product.write(StockReleased(self.order, Quantity(reserved)))


class ReceiveStock(eb.StatefulCommand[frozenset[str], InventoryEvent]):
    """Record a delivery, once."""

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
    """Return the products of items: the streams that an order's commands declare."""
    return tuple(item.product for item in items)
