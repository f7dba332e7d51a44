"""Orders: submitted, then completed or cancelled, never both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import eventbraid as eb

from .payments import Payment
from .shipments import Shipment
from .values import (
    CustomerId,
    Money,
    OrderId,
    OrderItem,
    PaymentMethod,
    Quantity,
    ShippingAddress,
    pieces_in,
    total_of,
)


@eb.value_object
class PlacedOrder:
    """An order as a customer placed it, before the shop has validated it.

    Attributes:
        order: The id that the order will have.
        customer: The customer.
        items: The products, with quantities and prices.
        address: The shipping address.
        method: The payment method.
    """

    order: OrderId
    customer: CustomerId
    items: tuple[OrderItem, ...]
    address: ShippingAddress
    method: PaymentMethod

    @property
    def total(self) -> Money:
        """The price of all items, in cents."""
        return total_of(self.items)

    @property
    def pieces(self) -> Quantity:
        """The number of pieces of all items."""
        return pieces_in(self.items)


@eb.event("order.submitted")
class OrderSubmitted:
    """A customer ordered these items.

    Attributes:
        customer: The customer.
        items: The products, with quantities and prices; each product on one line.
        total: The price of all items, in cents.
        address: The shipping address.
        method: The payment method.
    """

    customer: CustomerId
    items: tuple[OrderItem, ...]
    total: Money
    address: ShippingAddress
    method: PaymentMethod


@eb.event("order.completed")
class OrderCompleted:
    """The order is paid and dispatched.

    Attributes:
        tracking_number: The tracking number of its shipment.
    """

    tracking_number: str


@eb.event("order.cancelled")
class OrderCancelled:
    """The order will not be fulfilled.

    Attributes:
        reason: Why not.
    """

    reason: str


@eb.event("order.customer_notified")
class CustomerNotified:
    """The customer was notified that the order is on its way.

    Attributes:
        key: The idempotency key under which the message was sent.
    """

    key: str


@eb.event("order.notification_deferred")
class NotificationDeferred:
    """The customer could not be notified yet.

    Attributes:
        key: The idempotency key under which to send the message later.
        reason: Why it could not be delivered.
    """

    key: str
    reason: str


OrderEvent = (
    OrderSubmitted
    | OrderCompleted
    | OrderCancelled
    | CustomerNotified
    | NotificationDeferred
)


class OrderStatus(Enum):
    """The status of an order; the last two are final."""

    UNKNOWN = "unknown"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class OrderState:
    """The state of an order.

    Attributes:
        status: Its status.
        submitted: The order as it was submitted.
        tracking_number: The tracking number of its shipment, once it is completed.
        notified: Whether the customer was notified.
        deferred: Whether the customer could not be notified at first.
    """

    status: OrderStatus = OrderStatus.UNKNOWN
    submitted: OrderSubmitted | None = None
    tracking_number: str | None = None
    notified: bool = False
    deferred: bool = False

    @property
    def total(self) -> Money:
        """The price of the order, in cents; 0 before it is submitted."""
        return Money(0) if self.submitted is None else self.submitted.total


class Order(eb.Stream[OrderEvent, OrderState], category="order"):
    """One order."""

    def initial(self) -> OrderState:
        return OrderState()

    def apply(self, state: OrderState, event: OrderEvent, /) -> OrderState:
        match event:
            case OrderSubmitted():
                return OrderState(OrderStatus.SUBMITTED, event)
            case OrderCompleted(tracking_number):
                return replace(
                    state,
                    status=OrderStatus.COMPLETED,
                    tracking_number=tracking_number,
                )
            case OrderCancelled():
                return replace(state, status=OrderStatus.CANCELLED)
            case CustomerNotified():
                return replace(state, notified=True)
            case NotificationDeferred():
                return replace(state, deferred=True)


class SubmitOrder(eb.Command):
    """Submit an order.

    Rejected as `malformed_order` if it has no items or a product on two lines, and as
    `already_submitted` if another order has its id.
    """

    order: eb.Declared[Order]
    customer: CustomerId
    items: tuple[OrderItem, ...]
    address: ShippingAddress
    method: PaymentMethod

    def decide(self) -> Iterator[eb.Write]:
        state = self.order.state
        products = {item.product for item in self.items}
        eb.require(
            bool(products) and len(products) == len(self.items),
            "malformed_order",
            "an order has at least one item, and each product on one line",
            lines=len(self.items),
            products=len(products),
        )
        submitted = OrderSubmitted(
            self.customer,
            self.items,
            total_of(self.items),
            self.address,
            self.method,
        )
        if state.submitted == submitted:
            return
        eb.require(
            state.submitted is None,
            "already_submitted",
            "another order was submitted under this id; take a new id",
            status=state.status.value,
        )
        yield self.order.write(submitted)


class CancelOrder(eb.Command):
    """Cancel an order; no effect if it doesn't exist or is cancelled already.

    Rejected as `order_completed` if it is completed.
    """

    order: eb.Declared[Order]
    reason: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.order.state
        eb.require(
            state.status is not OrderStatus.COMPLETED,
            "order_completed",
            "a dispatched order can be returned, not cancelled",
        )
        if state.status is OrderStatus.SUBMITTED:
            yield self.order.write(OrderCancelled(self.reason))


class RecordNotification(eb.Command):
    """Record that the customer was notified, once."""

    order: eb.Declared[Order]
    key: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.order.state
        if not state.notified:
            yield self.order.write(CustomerNotified(self.key))


class DeferNotification(eb.Command):
    """Record that the customer could not be notified, once.

    No effect if the customer was notified.
    """

    order: eb.Declared[Order]
    key: str
    reason: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.order.state
        if not (state.notified or state.deferred):
            yield self.order.write(NotificationDeferred(self.key, self.reason))


class CompleteOrder(eb.Command):
    """Complete an order that is paid and dispatched, once.

    The payment and the shipment are only read. The commit checks that they have not
    changed since.

    Rejected as `order_not_open`, `order_not_paid` or `order_not_dispatched`.
    """

    order: eb.Declared[Order]
    payment: eb.Declared[Payment]
    shipment: eb.Declared[Shipment]

    def decide(self) -> Iterator[eb.Write]:
        order = self.order.state
        if order.status is OrderStatus.COMPLETED:
            return
        eb.require(
            order.status is OrderStatus.SUBMITTED,
            "order_not_open",
            status=order.status.value,
        )
        paid = self.payment.state.kept
        eb.require(
            paid == order.total,
            "order_not_paid",
            total=int(order.total),
            paid=int(paid),
        )
        tracking_number = self.shipment.state.tracking_number
        if tracking_number is None:
            raise eb.CommandRejected("order_not_dispatched")
        yield self.order.write(OrderCompleted(tracking_number))
