"""Inventory: the stock of each product, reserved for all items of an order or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import eventbraid as eb

from .immutable_map import ImmutableMap
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


@dataclass(frozen=True, slots=True)
class Stock:
    """The stock of one product.

    Attributes:
        available: Pieces that are not reserved for any order.
        reserved: The pieces that are reserved for each order; 0 once they are released.
        deliveries: The pieces of each delivery.
    """

    available: int
    reserved: ImmutableMap[OrderId, int]
    deliveries: ImmutableMap[str, int]


class Product(eb.Stream[InventoryEvent, Stock], category="product"):
    """The stock of one product."""

    def initial(self) -> Stock:
        return Stock(0, ImmutableMap(), ImmutableMap())

    def apply(self, state: Stock, event: InventoryEvent, /) -> Stock:
        quantity = int(event.quantity)
        match event:
            case StockReserved(order):
                held = state.reserved.get(order, 0) + quantity
                reserved = state.reserved.with_item(order, held)
                return Stock(state.available - quantity, reserved, state.deliveries)
            case StockReleased(order):
                held = state.reserved.get(order, 0) - quantity
                reserved = state.reserved.with_item(order, held)
                return Stock(state.available + quantity, reserved, state.deliveries)
            case StockReceived(_, delivery):
                deliveries = state.deliveries.with_item(delivery, quantity)
                return Stock(state.available + quantity, state.reserved, deliveries)


class ReserveInventory(eb.Command):
    """Reserve all items of an order or none.

    An item that is reserved already is not reserved again. If there is too little stock
    of a product, the command is rejected as `insufficient_inventory`, with all such
    products.
    """

    order: OrderId
    products: eb.DeclaredMany[Product]
    items: tuple[OrderItem, ...]

    def decide(self) -> Iterator[eb.Write]:
        stock: dict[str, Stock] = {p: p.state for p in self.products}
        missing = [
            item
            for item in self.items
            if not stock[item.product].reserved.get(self.order, 0)
        ]
        short = {
            str(item.product): stock[item.product].available
            for item in missing
            if stock[item.product].available < int(item.quantity)
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


class ReleaseInventory(eb.Command):
    """Release all that is reserved for an order."""

    order: OrderId
    products: eb.DeclaredMany[Product]

    def decide(self) -> Iterator[eb.Write]:
        for product in self.products:
            reserved = product.state.reserved.get(self.order, 0)
            if reserved:
                yield product.write(StockReleased(self.order, Quantity(reserved)))


class ReceiveStock(eb.Command):
    """Record a delivery, once."""

    product: eb.Declared[Product]
    quantity: Quantity
    delivery: str

    def decide(self) -> Iterator[eb.Write]:
        if self.delivery not in self.product.state.deliveries:
            yield self.product.write(StockReceived(self.quantity, self.delivery))


def products_of(items: tuple[OrderItem, ...]) -> tuple[ProductId, ...]:
    """Return the products of items: the streams that an order's commands declare."""
    return tuple(item.product for item in items)
