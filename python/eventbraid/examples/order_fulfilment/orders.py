"""Orders: submitted, then completed or cancelled, never both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

import eventbraid as eb

from .payments import Payment, PaymentEvent, PaymentState, payment_after
from .shipments import Shipment, ShipmentEvent, ShipmentState, shipment_after
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


@eb.value
class PlacedOrder:
    """What a customer wants, before the shop has looked at it.

    Attributes:
        order: The id that the order will have.
        customer: Who ordered.
        items: What, at which price.
        address: Where it goes.
        method: How it is paid.
    """

    order: OrderId
    customer: CustomerId
    items: tuple[OrderItem, ...]
    address: ShippingAddress
    method: PaymentMethod

    @property
    def total(self) -> Money:
        """What all items cost together, in cents."""
        return total_of(self.items)

    @property
    def pieces(self) -> Quantity:
        """How many pieces all items have together."""
        return pieces_in(self.items)


@eb.event("order.submitted")
class OrderSubmitted:
    """A customer wants these items.

    Attributes:
        customer: Who ordered.
        items: What, at which price; each product on one line.
        total: What all of it costs, in cents.
        address: Where it goes.
        method: How it is paid.
    """

    customer: CustomerId
    items: tuple[OrderItem, ...]
    total: Money
    address: ShippingAddress
    method: PaymentMethod


@eb.event("order.completed")
class OrderCompleted:
    """The order is paid and on its way.

    Attributes:
        tracking_number: Where its way can be followed.
    """

    tracking_number: str


@eb.event("order.cancelled")
class OrderCancelled:
    """The order will not be fulfilled.

    Attributes:
        reason: What stood in the way.
    """

    reason: str


@eb.event("order.customer_notified")
class CustomerNotified:
    """The customer was told that the order is on its way.

    Attributes:
        key: The idempotency key that the message was sent under.
    """

    key: str


@eb.event("order.notification_deferred")
class NotificationDeferred:
    """The customer could not be told yet.

    Attributes:
        key: The idempotency key to send the message under later.
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


class Order(eb.Stream[OrderEvent], category="order"):
    """One order."""


class OrderStatus(Enum):
    """Where an order stands; the last two are final."""

    UNKNOWN = "unknown"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class OrderState:
    """What an order's commands need to know of it."""

    status: OrderStatus = OrderStatus.UNKNOWN
    submitted: OrderSubmitted | None = None
    notified: bool = False
    deferred: bool = False

    @property
    def total(self) -> Money:
        """What the order costs, in cents; 0 as long as it is not submitted."""
        return Money(0) if self.submitted is None else self.submitted.total


def order_after(state: OrderState, event: OrderEvent) -> OrderState:
    """Fold one event into what is known of an order."""
    match event:
        case OrderSubmitted():
            return OrderState(OrderStatus.SUBMITTED, event)
        case OrderCompleted():
            return replace(state, status=OrderStatus.COMPLETED)
        case OrderCancelled():
            return replace(state, status=OrderStatus.CANCELLED)
        case CustomerNotified():
            return replace(state, notified=True)
        case NotificationDeferred():
            return replace(state, deferred=True)


class _OrderCommand(eb.Command[OrderState, OrderEvent], abstract=True):
    def initial(self) -> OrderState:
        return OrderState()

    def apply(
        self, state: OrderState, recorded: eb.Recorded[OrderEvent], /
    ) -> OrderState:
        return order_after(state, recorded.event)


class SubmitOrder(_OrderCommand):
    """Take an order.

    Rejected as `malformed_order` if it has no items or a product on two lines, and as
    `already_submitted` if another order has its id.
    """

    order: eb.Declared[Order]
    customer: CustomerId
    items: tuple[OrderItem, ...]
    address: ShippingAddress
    method: PaymentMethod

    def decide(self, state: OrderState, /) -> Iterator[eb.Write]:
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


class CancelOrder(_OrderCommand):
    """Cancel an order, unless it doesn't exist or is cancelled already.

    Rejected as `order_completed` if it is on its way.
    """

    order: eb.Declared[Order]
    reason: str

    def decide(self, state: OrderState, /) -> Iterator[eb.Write]:
        eb.require(
            state.status is not OrderStatus.COMPLETED,
            "order_completed",
            "what is on its way is returned, not cancelled",
        )
        if state.status is OrderStatus.SUBMITTED:
            yield self.order.write(OrderCancelled(self.reason))


class RecordNotification(_OrderCommand):
    """The customer was told. Nothing to do if that is known."""

    order: eb.Declared[Order]
    key: str

    def decide(self, state: OrderState, /) -> Iterator[eb.Write]:
        if not state.notified:
            yield self.order.write(CustomerNotified(self.key))


class DeferNotification(_OrderCommand):
    """The customer could not be told. Nothing to do if that is known, or was done."""

    order: eb.Declared[Order]
    key: str
    reason: str

    def decide(self, state: OrderState, /) -> Iterator[eb.Write]:
        if not (state.notified or state.deferred):
            yield self.order.write(NotificationDeferred(self.key, self.reason))


@dataclass(frozen=True, slots=True)
class Fulfilled:
    """What must be known before an order may be called completed."""

    order: OrderState = field(default_factory=OrderState)
    payment: PaymentState = field(default_factory=PaymentState)
    shipment: ShipmentState = field(default_factory=ShipmentState)


class CompleteOrder(eb.Command[Fulfilled, OrderEvent | PaymentEvent | ShipmentEvent]):
    """Close an order that is paid and on its way. Nothing to do if it is closed so.

    The payment and the shipment are only read; that they stay as they were read is
    checked when the event is committed.

    Rejected as `order_not_open`, `order_not_paid` or `order_not_dispatched`.
    """

    order: eb.Declared[Order]
    payment: eb.Declared[Payment]
    shipment: eb.Declared[Shipment]

    def initial(self) -> Fulfilled:
        return Fulfilled()

    def apply(
        self,
        state: Fulfilled,
        recorded: eb.Recorded[OrderEvent | PaymentEvent | ShipmentEvent],
        /,
    ) -> Fulfilled:
        event = recorded.event
        order, payment, shipment = state.order, state.payment, state.shipment
        if isinstance(event, OrderEvent):
            order = order_after(order, event)
        elif isinstance(event, PaymentEvent):
            payment = payment_after(payment, event)
        else:
            shipment = shipment_after(shipment, event)
        return Fulfilled(order, payment, shipment)

    def decide(self, state: Fulfilled, /) -> Iterator[eb.Write]:
        order, tracking_number = state.order, state.shipment.tracking_number
        if order.status is OrderStatus.COMPLETED:
            return
        eb.require(
            order.status is OrderStatus.SUBMITTED,
            "order_not_open",
            status=order.status.value,
        )
        eb.require(
            state.payment.kept == order.total,
            "order_not_paid",
            total=int(order.total),
            paid=int(state.payment.kept),
        )
        if tracking_number is None:
            raise eb.CommandRejected("order_not_dispatched")
        yield self.order.write(OrderCompleted(tracking_number))
