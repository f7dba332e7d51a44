"""The orders that the benchmark fulfils, each by a saga of nine steps.

A saga has the shape of a usual order: it is submitted, paid, reserved, shipped and
completed, in commands over up to seven streams and in calls to other services. The
products are few and popular, so that sagas contend for their streams.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import eventbraid as eb
from eventbraid.cli.bench._services import Refused, Services

if TYPE_CHECKING:
    from collections.abc import Iterator

PRODUCTS = 500

_TIMEOUT = timedelta(seconds=5)
_INITIAL_DELAY = timedelta(milliseconds=50)
_RETRY = eb.RetryPolicy(initial_delay=_INITIAL_DELAY)
_UNTIL_DONE = eb.RetryPolicy(
    maximum_attempts="unlimited",
    initial_delay=_INITIAL_DELAY,
    maximum_delay=timedelta(seconds=5),
)
_REFUSALS = (Refused,)
_LINE_COUNTS = (1, 2, 3, 4)
_LINE_COUNT_WEIGHTS = (6, 3, 2, 1)
# The most popular product is ordered about four times as often as the average one.
_SKEW = 1.3


class Money(eb.Int, ge=0):
    """Cents."""


class Quantity(eb.Int, gt=0):
    """Pieces."""


@eb.value_object
class Item:
    """A line of an order."""

    product: str
    quantity: Quantity
    price: Money


@eb.value_object
class Address:
    """Where an order goes."""

    name: str
    street: str
    city: str
    postal_code: str
    country: str


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """What a customer wants: the state of the order's saga."""

    number: str
    customer: str
    items: tuple[Item, ...]
    address: Address

    @property
    def order(self) -> str:
        """The order's stream."""
        return f"order-{self.number}"

    @property
    def payment(self) -> str:
        """The stream of its payment."""
        return f"payment-{self.number}"

    @property
    def shipment(self) -> str:
        """The stream of its shipment."""
        return f"shipment-{self.number}"

    @property
    def products(self) -> tuple[str, ...]:
        """The streams of its products."""
        return tuple(item.product for item in self.items)


def placed_orders(seed: int) -> Iterator[PlacedOrder]:
    """Iterate over orders without end, the same for each seed."""
    chance = random.Random(seed)
    for number in count(1):
        (lines,) = chance.choices(_LINE_COUNTS, _LINE_COUNT_WEIGHTS)
        chosen: dict[str, None] = {}
        while len(chosen) < lines:
            chosen[product(int(chance.random() ** _SKEW * PRODUCTS))] = None
        customer = chance.randrange(20_000)
        yield PlacedOrder(
            number=f"{number:07}",
            customer=f"customer-{customer:05}",
            items=tuple(
                Item(name, Quantity(chance.randint(1, 3)), Money(1_499))
                for name in chosen
            ),
            address=Address(
                name=f"Customer {customer}",
                street=f"{customer % 900 + 1} Market Street",
                city="Philadelphia",
                postal_code="19103",
                country="US",
            ),
        )


def product(number: int) -> str:
    """Return the stream of a product, numbered from 0, the most popular first."""
    return f"product-{number:03}"


# --- events, and streams with their states


@eb.event("bench.order_submitted")
class OrderSubmitted:
    """An order was placed."""

    customer: str
    items: tuple[Item, ...]
    total: Money
    address: Address


@eb.event("bench.order_changed")
class OrderChanged:
    """An order was completed or cancelled, or its customer was notified."""

    what: str
    detail: str


@eb.event("bench.service_called")
class ServiceCalled:
    """A service did what it was asked for."""

    action: str
    key: str
    reference: str


@eb.event("bench.stock_received")
class StockReceived:
    """Pieces of a product arrived."""

    quantity: Quantity


@eb.event("bench.stock_reserved")
class StockReserved:
    """Pieces are reserved for an order."""

    order: str
    quantity: Quantity


@eb.event("bench.stock_released")
class StockReleased:
    """Pieces that were reserved for an order are available again."""

    order: str
    quantity: Quantity


OrderEvent = OrderSubmitted | OrderChanged
StockEvent = StockReceived | StockReserved | StockReleased


class Order(eb.Stream[OrderEvent, frozenset[str]], category="order"):
    """One order; the state is what has happened to it."""

    def initial(self) -> frozenset[str]:
        """Return the state of an order that does not exist."""
        return frozenset()

    def apply(self, state: frozenset[str], event: OrderEvent, /) -> frozenset[str]:
        """Add the change that an event records."""
        match event:
            case OrderSubmitted():
                return state | {"submitted"}
            case OrderChanged(what):
                return state | {what}


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls that a service has answered.

    Attributes:
        actions: The actions of these calls.
        keys: The idempotency keys of the calls.
    """

    actions: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()

    def after(self, call: ServiceCalled) -> Calls:
        """Return the calls with one more."""
        return Calls(self.actions | {call.action}, self.keys | {call.key})


class Payment(eb.Stream[ServiceCalled, Calls], category="payment"):
    """The payment of one order."""

    def initial(self) -> Calls:
        """Return the state before any call."""
        return Calls()

    def apply(self, state: Calls, event: ServiceCalled, /) -> Calls:
        """Add a call."""
        return state.after(event)


class Shipment(eb.Stream[ServiceCalled, Calls], category="shipment"):
    """The shipment of one order."""

    def initial(self) -> Calls:
        """Return the state before any call."""
        return Calls()

    def apply(self, state: Calls, event: ServiceCalled, /) -> Calls:
        """Add a call."""
        return state.after(event)


class Product(eb.Stream[StockEvent, int], category="product"):
    """The stock of one product; the state is the number of pieces not reserved."""

    def initial(self) -> int:
        """Return the stock of a product without deliveries."""
        return 0

    def apply(self, state: int, event: StockEvent, /) -> int:
        """Add or subtract the pieces of an event."""
        match event:
            case StockReserved(_, quantity):
                return state - int(quantity)
            case StockReleased(_, quantity) | StockReceived(quantity):
                return state + int(quantity)


# --- commands


class SubmitOrder(eb.Command):
    """Submit an order, once."""

    order: eb.Declared[Order]
    customer: str
    items: tuple[Item, ...]
    address: Address

    def decide(self) -> Iterator[eb.Write]:
        """Write the order if it is new."""
        if not self.order.state:
            total = Money(sum(int(i.price) * int(i.quantity) for i in self.items))
            submitted = OrderSubmitted(self.customer, self.items, total, self.address)
            yield self.order.write(submitted)


class ChangeOrder(eb.Command):
    """Record a change of an order, once."""

    order: eb.Declared[Order]
    what: str
    detail: str

    def decide(self) -> Iterator[eb.Write]:
        """Write the change if it is new."""
        state = self.order.state
        eb.require("submitted" in state, "no_such_order")
        if self.what not in state:
            yield self.order.write(OrderChanged(self.what, self.detail))


class RecordPayment(eb.Command):
    """Record what the payment service did, once for each key."""

    payment: eb.Declared[Payment]
    action: str
    key: str
    reference: str

    def decide(self) -> Iterator[eb.Write]:
        """Write the call if it is new."""
        if self.key not in self.payment.state.keys:
            called = ServiceCalled(self.action, self.key, self.reference)
            yield self.payment.write(called)


class RecordShipment(eb.Command):
    """Record what the carrier did, once for each key."""

    shipment: eb.Declared[Shipment]
    action: str
    key: str
    reference: str

    def decide(self) -> Iterator[eb.Write]:
        """Write the call if it is new."""
        if self.key not in self.shipment.state.keys:
            called = ServiceCalled(self.action, self.key, self.reference)
            yield self.shipment.write(called)


class CompleteOrder(eb.Command):
    """Complete an order that is paid and dispatched; read three streams, write one."""

    order: eb.Declared[Order]
    payment: eb.Declared[Payment]
    shipment: eb.Declared[Shipment]

    def decide(self) -> Iterator[eb.Write]:
        """Write the completion if the order is paid and on its way."""
        order = self.order.state
        eb.require("submitted" in order, "no_such_order")
        eb.require("capture" in self.payment.state.actions, "not_paid")
        eb.require("dispatch" in self.shipment.state.actions, "not_dispatched")
        if "completed" not in order:
            yield self.order.write(OrderChanged("completed", ""))


class ReserveStock(eb.Command):
    """Reserve all items of an order or none.

    A local step of a saga is executed exactly once. So the state of a product needn't
    contain the orders that have reservations.
    """

    order: str
    products: eb.DeclaredMany[Product]
    items: tuple[Item, ...]

    def decide(self) -> Iterator[eb.Write]:
        """Write a reservation for each product."""
        for item in self.items:
            product = self.products.of(item.product)
            eb.require(product.state >= int(item.quantity), "out_of_stock")
            yield product.write(StockReserved(self.order, item.quantity))


class ReleaseStock(eb.Command):
    """Release all items of an order, which `ReserveStock` has reserved."""

    order: str
    products: eb.DeclaredMany[Product]
    items: tuple[Item, ...]

    def decide(self) -> Iterator[eb.Write]:
        """Write a release for each product."""
        for item in self.items:
            released = StockReleased(self.order, item.quantity)
            yield self.products.of(item.product).write(released)


# --- the saga

Context = eb.StepContext[PlacedOrder]


def order_saga(services: Services) -> eb.Saga[PlacedOrder]:
    """Build the saga of an order.

    Args:
        services: The services that its steps call.
    """
    return eb.Saga(
        "bench-order",
        PlacedOrder,
        version=1,
        deadline=timedelta(days=3),
        steps=[
            eb.local_step("submit order", _submit).compensated_by(_cancel),
            _pay(services, "authorize", reversal="void"),
            _pay(services, "capture", reversal="refund"),
            eb.local_step("reserve stock", _reserve).compensated_by(_release),
            _create_shipment(services),
            _schedule_pickup(services),
            _dispatch(services),
            eb.local_step("complete order", _complete, kind=eb.StepKind.RETRIABLE),
            _notify(services),
        ],
    )


def _submit(c: Context) -> SubmitOrder:
    placed = c.state
    return SubmitOrder(
        order=placed.order,
        customer=placed.customer,
        items=placed.items,
        address=placed.address,
    )


def _cancel(c: Context) -> ChangeOrder:
    reason = c.failure or "given up"
    return ChangeOrder(order=c.state.order, what="cancelled", detail=reason)


def _reserve(c: Context) -> ReserveStock:
    placed = c.state
    return ReserveStock(
        order=placed.order, products=placed.products, items=placed.items
    )


def _release(c: Context) -> ReleaseStock:
    placed = c.state
    return ReleaseStock(
        order=placed.order, products=placed.products, items=placed.items
    )


def _complete(c: Context) -> CompleteOrder:
    placed = c.state
    return CompleteOrder(
        order=placed.order, payment=placed.payment, shipment=placed.shipment
    )


def _pay(
    services: Services, action: str, *, reversal: str
) -> eb.Step[PlacedOrder, str]:
    async def call(c: Context) -> str:
        return await services.call(action, c.state.payment, c.idempotency_key)

    async def reverse(c: Context, _: eb.StepCompleted[str] | eb.StepInDoubt) -> str:
        return await services.call(reversal, c.state.payment, c.idempotency_key)

    def record(c: Context, reference: str) -> RecordPayment:
        return _payment(c, action, reference)

    def record_reversal(c: Context, reference: str) -> RecordPayment:
        return _payment(c, reversal, reference)

    return eb.step(
        f"{action} payment",
        call,
        timeout=_TIMEOUT,
        retry=_RETRY,
        refusals=_REFUSALS,
        record=record,
    ).compensated_by(
        reverse,
        timeout=_TIMEOUT,
        retry=_UNTIL_DONE,
        refusals=_REFUSALS,
        record=record_reversal,
    )


def _payment(c: Context, action: str, reference: str) -> RecordPayment:
    return RecordPayment(
        payment=c.state.payment,
        action=action,
        key=c.idempotency_key,
        reference=reference,
    )


def _create_shipment(services: Services) -> eb.Step[PlacedOrder, str]:
    async def create(c: Context) -> str:
        return await services.call("create", c.state.shipment, c.idempotency_key)

    async def cancel(c: Context, _: eb.StepCompleted[str] | eb.StepInDoubt) -> str:
        return await services.call("cancel", c.state.shipment, c.idempotency_key)

    return eb.step(
        "create shipment",
        create,
        timeout=_TIMEOUT,
        retry=_RETRY,
        refusals=_REFUSALS,
        record=lambda c, reference: _shipment(c, "create", reference),
    ).compensated_by(
        cancel,
        timeout=_TIMEOUT,
        retry=_UNTIL_DONE,
        refusals=_REFUSALS,
        record=lambda c, reference: _shipment(c, "cancel", reference),
    )


def _schedule_pickup(services: Services) -> eb.Step[PlacedOrder, str]:
    async def schedule(c: Context) -> str:
        return await services.call("schedule", c.state.shipment, c.idempotency_key)

    return eb.step(
        "schedule pickup",
        schedule,
        timeout=_TIMEOUT,
        retry=_RETRY,
        refusals=_REFUSALS,
        record=lambda c, reference: _shipment(c, "schedule", reference),
    ).without_compensation()


def _dispatch(services: Services) -> eb.Step[PlacedOrder, str]:
    async def dispatch(c: Context) -> str:
        return await services.call("dispatch", c.state.shipment, c.idempotency_key)

    return eb.step(
        "dispatch shipment",
        dispatch,
        kind=eb.StepKind.PIVOT,
        timeout=_TIMEOUT,
        retry=_UNTIL_DONE,
        refusals=_REFUSALS,
        record=lambda c, reference: _shipment(c, "dispatch", reference),
    )


def _shipment(c: Context, action: str, reference: str) -> RecordShipment:
    return RecordShipment(
        shipment=c.state.shipment,
        action=action,
        key=c.idempotency_key,
        reference=reference,
    )


def _notify(services: Services) -> eb.Step[PlacedOrder, str]:
    async def notify(c: Context) -> str:
        return await services.call("notify", c.state.order, c.idempotency_key)

    def record(c: Context, reference: str) -> ChangeOrder:
        return ChangeOrder(order=c.state.order, what="notified", detail=reference)

    return eb.step(
        "notify customer",
        notify,
        kind=eb.StepKind.RETRIABLE,
        timeout=_TIMEOUT,
        retry=_UNTIL_DONE,
        refusals=_REFUSALS,
        record=record,
    )
