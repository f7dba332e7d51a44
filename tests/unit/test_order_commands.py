"""Each command of the order example: given events, when a command, then events.

Sagas rely on two more promises: a command that is repeated, or that reverses something
which has not happened, succeeds and writes nothing.
"""

from __future__ import annotations

import sys

import pytest

import eventbraid as eb
from eventbraid.examples.order_fulfilment.immutable_map import ImmutableMap
from eventbraid.examples.order_fulfilment.inventory import (
    Product,
    ReceiveStock,
    ReleaseInventory,
    ReserveInventory,
    Stock,
    StockReceived,
    StockReleased,
    StockReserved,
)
from eventbraid.examples.order_fulfilment.orders import (
    CancelOrder,
    CompleteOrder,
    CustomerNotified,
    DeferNotification,
    NotificationDeferred,
    Order,
    OrderCancelled,
    OrderCompleted,
    OrderState,
    OrderStatus,
    OrderSubmitted,
    RecordNotification,
    SubmitOrder,
)
from eventbraid.examples.order_fulfilment.payments import (
    AuthorizePayment,
    CapturePayment,
    Payment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentRefunded,
    PaymentState,
    PaymentVoided,
    ReversePayment,
)
from eventbraid.examples.order_fulfilment.plan import DemoPlan, DemoPlanned, PlanDemo
from eventbraid.examples.order_fulfilment.shipments import (
    CancelShipment,
    CreateShipment,
    DispatchShipment,
    PickupScheduled,
    SchedulePickup,
    Shipment,
    ShipmentCancelled,
    ShipmentCreated,
    ShipmentDispatched,
    ShipmentState,
)
from eventbraid.examples.order_fulfilment.values import (
    CardToken,
    Country,
    CustomerId,
    LastFour,
    Line,
    Money,
    OrderId,
    OrderItem,
    PaymentMethod,
    ProductId,
    Quantity,
    ShippingAddress,
)
from eventbraid.testing import Conflict, FaultyStore, given, on

ORDER, PAYMENT, SHIPMENT = OrderId("order-1"), "payment-1", "shipment-1"
A, B = ProductId("product-a"), ProductId("product-b")
ITEMS = (
    OrderItem(A, Quantity(2), Money(500)),
    OrderItem(B, Quantity(1), Money(501)),
)
ADDRESS = ShippingAddress(
    Line("Mia"), Line("1 Market Street"), Line("Boston"), Line("02108"), Country("US")
)
METHOD = PaymentMethod(CardToken("tok_1"), Line("Visa"), LastFour("4242"))
SUBMITTED = OrderSubmitted(
    CustomerId("customer-1"), ITEMS, Money(1501), ADDRESS, METHOD
)
PAID = PaymentCaptured(Money(1501), "CAPT", "capture")
AUTHORIZED = PaymentAuthorized(Money(1501), "AUTH", "authorize")
CREATED = ShipmentCreated(Quantity(3), "LABEL", "create")
SCHEDULED = PickupScheduled("PICKUP", "schedule")
DISPATCHED = ShipmentDispatched("TRACK", "dispatch")


def submit(items=ITEMS):
    return SubmitOrder(
        order=ORDER,
        customer=CustomerId("customer-1"),
        items=items,
        address=ADDRESS,
        method=METHOD,
    )


def complete():
    return CompleteOrder(order=ORDER, payment=PAYMENT, shipment=SHIPMENT)


def reserve(order=ORDER):
    return ReserveInventory(order=order, products=(A, B), items=ITEMS)


def release(order=ORDER):
    return ReleaseInventory(order=order, products=(A, B))


def authorize(key="authorize"):
    return AuthorizePayment(payment=PAYMENT, key=key, amount=Money(1501), code="AUTH")


def capture(amount=1501, key="capture"):
    return CapturePayment(
        payment=PAYMENT, key=key, amount=Money(amount), reference="CAPT"
    )


def reverse(amount, forward_key="capture", key="compensation"):
    return ReversePayment(
        payment=PAYMENT,
        key=key,
        forward_key=forward_key,
        amount=Money(amount),
        reference="BACK",
    )


def create():
    return CreateShipment(
        shipment=SHIPMENT, key="create", pieces=Quantity(3), label="LABEL"
    )


def schedule():
    return SchedulePickup(shipment=SHIPMENT, key="schedule", confirmation="PICKUP")


def dispatch():
    return DispatchShipment(shipment=SHIPMENT, key="dispatch", tracking_number="TRACK")


def cancel_shipment():
    return CancelShipment(shipment=SHIPMENT, key="cancel")


def receive(quantity=5, delivery="opening"):
    return ReceiveStock(product=A, quantity=Quantity(quantity), delivery=delivery)


def stock(product, pieces):
    return (product, StockReceived(Quantity(pieces), "opening"))


def kept(product, pieces, order=ORDER):
    return (product, StockReserved(order, Quantity(pieces)))


OTHER = OrderId("order-2")

CASES = {
    "an order is submitted": ([], submit(), [(ORDER, SUBMITTED)]),
    "an order is submitted twice": ([(ORDER, SUBMITTED)], submit(), []),
    "an order is cancelled": (
        [(ORDER, SUBMITTED)],
        CancelOrder(order=ORDER, reason="declined"),
        [(ORDER, OrderCancelled("declined"))],
    ),
    "an order is cancelled twice": (
        [(ORDER, SUBMITTED), (ORDER, OrderCancelled("declined"))],
        CancelOrder(order=ORDER, reason="again"),
        [],
    ),
    "an order that was never submitted is cancelled": (
        [],
        CancelOrder(order=ORDER, reason="declined"),
        [],
    ),
    "an order is completed": (
        [
            (ORDER, SUBMITTED),
            (PAYMENT, AUTHORIZED),
            (PAYMENT, PAID),
            (SHIPMENT, CREATED),
            (SHIPMENT, SCHEDULED),
            (SHIPMENT, DISPATCHED),
        ],
        complete(),
        [(ORDER, OrderCompleted("TRACK"))],
    ),
    "an order is completed twice": (
        [(ORDER, SUBMITTED), (ORDER, OrderCompleted("TRACK"))],
        complete(),
        [],
    ),
    "a customer is notified": (
        [(ORDER, SUBMITTED)],
        RecordNotification(order=ORDER, key="k"),
        [(ORDER, CustomerNotified("k"))],
    ),
    "a customer is notified twice": (
        [(ORDER, CustomerNotified("k"))],
        RecordNotification(order=ORDER, key="k"),
        [],
    ),
    "a customer cannot be notified": (
        [(ORDER, SUBMITTED)],
        DeferNotification(order=ORDER, key="k", reason="full"),
        [(ORDER, NotificationDeferred("k", "full"))],
    ),
    "a customer who was notified is not notified later": (
        [(ORDER, CustomerNotified("k"))],
        DeferNotification(order=ORDER, key="k", reason="full"),
        [],
    ),
    "a payment is authorized": ([], authorize(), [(PAYMENT, AUTHORIZED)]),
    "an authorization is recorded twice": ([(PAYMENT, AUTHORIZED)], authorize(), []),
    "a payment is captured": ([(PAYMENT, AUTHORIZED)], capture(), [(PAYMENT, PAID)]),
    "a capture is recorded twice": (
        [(PAYMENT, AUTHORIZED), (PAYMENT, PAID)],
        capture(),
        [],
    ),
    "a capture is refunded": (
        [(PAYMENT, AUTHORIZED), (PAYMENT, PAID)],
        reverse(1501),
        [(PAYMENT, PaymentRefunded(Money(1501), "BACK", "compensation"))],
    ),
    "a capture whose answer was lost is refunded": (
        [(PAYMENT, AUTHORIZED)],
        reverse(1501),
        [
            (PAYMENT, PaymentCaptured(Money(1501), "BACK", "capture")),
            (PAYMENT, PaymentRefunded(Money(1501), "BACK", "compensation")),
        ],
    ),
    "a capture that did not happen is voided": (
        [(PAYMENT, AUTHORIZED)],
        reverse(0),
        [(PAYMENT, PaymentVoided("BACK", "compensation"))],
    ),
    "a payment that did not happen is voided": (
        [],
        reverse(0, forward_key="authorize"),
        [(PAYMENT, PaymentVoided("BACK", "compensation"))],
    ),
    "a refund is recorded twice": (
        [
            (PAYMENT, AUTHORIZED),
            (PAYMENT, PAID),
            (PAYMENT, PaymentRefunded(Money(1501), "BACK", "compensation")),
        ],
        reverse(1501),
        [],
    ),
    "a delivery is received": (
        [],
        receive(),
        [(A, StockReceived(Quantity(5), "opening"))],
    ),
    "a delivery is received twice": ([stock(A, 5)], receive(), []),
    "another delivery is received": (
        [stock(A, 5)],
        receive(3, "second"),
        [(A, StockReceived(Quantity(3), "second"))],
    ),
    "all items are reserved": (
        [stock(A, 2), stock(B, 1)],
        reserve(),
        [kept(A, 2), kept(B, 1)],
    ),
    "items are reserved twice": (
        [stock(A, 2), stock(B, 1), kept(A, 2), kept(B, 1)],
        reserve(),
        [],
    ),
    "pieces that another order released are reserved": (
        [
            stock(A, 2),
            stock(B, 1),
            kept(A, 2, OTHER),
            (A, StockReleased(OTHER, Quantity(2))),
        ],
        reserve(),
        [kept(A, 2), kept(B, 1)],
    ),
    "a reservation is released": (
        [stock(A, 2), stock(B, 1), kept(A, 2), kept(B, 1)],
        release(),
        [
            (A, StockReleased(ORDER, Quantity(2))),
            (B, StockReleased(ORDER, Quantity(1))),
        ],
    ),
    "an order without reservations releases nothing": ([stock(A, 2)], release(), []),
    "a reservation of another order is not released": (
        [stock(A, 2), kept(A, 2, OTHER)],
        release(),
        [],
    ),
    "a shipment is created": ([], create(), [(SHIPMENT, CREATED)]),
    "a shipment is created twice": ([(SHIPMENT, CREATED)], create(), []),
    "a pickup is scheduled": (
        [(SHIPMENT, CREATED)],
        schedule(),
        [(SHIPMENT, SCHEDULED)],
    ),
    "a pickup is scheduled twice": (
        [(SHIPMENT, CREATED), (SHIPMENT, SCHEDULED)],
        schedule(),
        [],
    ),
    "a shipment is dispatched": (
        [(SHIPMENT, CREATED), (SHIPMENT, SCHEDULED)],
        dispatch(),
        [(SHIPMENT, DISPATCHED)],
    ),
    "a shipment is dispatched twice": (
        [(SHIPMENT, CREATED), (SHIPMENT, SCHEDULED), (SHIPMENT, DISPATCHED)],
        dispatch(),
        [],
    ),
    "a shipment is cancelled": (
        [(SHIPMENT, CREATED)],
        cancel_shipment(),
        [(SHIPMENT, ShipmentCancelled("cancel"))],
    ),
    "a shipment that is not created yet is cancelled": (
        [],
        cancel_shipment(),
        [(SHIPMENT, ShipmentCancelled("cancel"))],
    ),
    "a shipment is cancelled twice": (
        [(SHIPMENT, ShipmentCancelled("cancel"))],
        cancel_shipment(),
        [],
    ),
    "a demo is begun": (
        [],
        PlanDemo(plan="demo-plan", seed=1, stock=Quantity(5)),
        [("demo-plan", DemoPlanned(1, Quantity(5)))],
    ),
    "a demo is continued": (
        [("demo-plan", DemoPlanned(1, Quantity(5)))],
        PlanDemo(plan="demo-plan", seed=1, stock=Quantity(5)),
        [],
    ),
}

REJECTIONS = {
    "an order without items": ([], submit(()), "malformed_order"),
    "a product on two lines": ([], submit((ITEMS[0], ITEMS[0])), "malformed_order"),
    "another order under the same id": (
        [(ORDER, SUBMITTED)],
        submit(ITEMS[:1]),
        "already_submitted",
    ),
    "a completed order is not cancelled": (
        [(ORDER, SUBMITTED), (ORDER, OrderCompleted("TRACK"))],
        CancelOrder(order=ORDER, reason="late"),
        "order_completed",
    ),
    "an unknown order is not completed": ([], complete(), "order_not_open"),
    "a cancelled order is not completed": (
        [(ORDER, SUBMITTED), (ORDER, OrderCancelled("declined"))],
        complete(),
        "order_not_open",
    ),
    "an unpaid order is not completed": (
        [(ORDER, SUBMITTED), (SHIPMENT, CREATED), (SHIPMENT, DISPATCHED)],
        complete(),
        "order_not_paid",
    ),
    "a refunded order is not completed": (
        [
            (ORDER, SUBMITTED),
            (PAYMENT, PAID),
            (PAYMENT, PaymentRefunded(Money(1501), "BACK", "compensation")),
            (SHIPMENT, DISPATCHED),
        ],
        complete(),
        "order_not_paid",
    ),
    "an order that is not dispatched is not completed": (
        [(ORDER, SUBMITTED), (PAYMENT, PAID), (SHIPMENT, CREATED)],
        complete(),
        "order_not_dispatched",
    ),
    "more is captured than authorized": (
        [(PAYMENT, AUTHORIZED)],
        capture(1502),
        "not_authorized",
    ),
    "a voided authorization is captured": (
        [(PAYMENT, AUTHORIZED), (PAYMENT, PaymentVoided("BACK", "compensation"))],
        capture(),
        "not_authorized",
    ),
    "a cancelled shipment is created": (
        [(SHIPMENT, ShipmentCancelled("cancel"))],
        create(),
        "shipment_cancelled",
    ),
    "a pickup of an unknown shipment is scheduled": (
        [],
        schedule(),
        "shipment_not_open",
    ),
    "a shipment without pickup is dispatched": (
        [(SHIPMENT, CREATED)],
        dispatch(),
        "shipment_not_scheduled",
    ),
    "a dispatched shipment is cancelled": (
        [(SHIPMENT, CREATED), (SHIPMENT, SCHEDULED), (SHIPMENT, DISPATCHED)],
        cancel_shipment(),
        "shipment_dispatched",
    ),
    "a demo is continued with another seed": (
        [("demo-plan", DemoPlanned(1, Quantity(5)))],
        PlanDemo(plan="demo-plan", seed=2, stock=Quantity(5)),
        "another_plan",
    ),
}


KINDS = {kind.category: kind for kind in (DemoPlan, Order, Payment, Product, Shipment)}


def on_streams(events):
    """Name the kind of the stream of each event."""
    return [
        on(KINDS[stream.partition("-")[0]](stream), event) for stream, event in events
    ]


@pytest.mark.parametrize("case", CASES)
def test_decides(case):
    before, command, expected = CASES[case]
    given(*on_streams(before)).when(command).then(*on_streams(expected))


@pytest.mark.parametrize("case", REJECTIONS)
def test_rejects(case):
    before, command, code = REJECTIONS[case]
    given(*on_streams(before)).when(command).rejected(code)


def test_if_an_item_is_short_none_is_reserved_and_the_facts_name_it():
    short = given(*on_streams([stock(A, 2), kept(A, 1, OTHER), stock(B, 1)]))
    outcome = short.when(reserve()).rejected("insufficient_inventory")
    assert outcome.rejection.facts == {"free": {A: 1}}


@pytest.mark.parametrize("case", CASES)
def test_a_repeated_request_is_executed_once(case):
    before, command, expected = CASES[case]
    once = given(*on_streams(before)).when(command, idempotency_key="k")
    again = once.when(command, idempotency_key="k").replayed()
    again.then(*on_streams(expected))


def test_a_product_keeps_what_is_reserved_for_each_order():
    stocked = given(*on_streams([stock(A, 5), stock(B, 5), kept(A, 1, OTHER)]))
    reserved = stocked.when(reserve())
    reserved.state(
        Product(A),
        Stock(
            available=2,
            reserved=ImmutableMap([(OTHER, 1), (ORDER, 2)]),
            deliveries=ImmutableMap([("opening", 5)]),
        ),
    )
    released = reserved.when(release())
    released.state(
        Product(A),
        Stock(
            available=4,
            reserved=ImmutableMap([(OTHER, 1), (ORDER, 0)]),
            deliveries=ImmutableMap([("opening", 5)]),
        ),
    )


def test_the_states_of_an_order_follow_its_fulfilment():
    before, command, _ = CASES["an order is completed"]
    completed = given(*on_streams(before)).when(command)
    completed.state(Order(ORDER), OrderState(OrderStatus.COMPLETED, SUBMITTED, "TRACK"))
    completed.state(
        Payment(PAYMENT),
        PaymentState(
            authorized=Money(1501),
            captured=Money(1501),
            keys=frozenset({"authorize", "capture"}),
        ),
    )
    completed.state(
        Shipment(SHIPMENT),
        ShipmentState(pieces=3, scheduled=True, tracking_number="TRACK"),
    )
    notified = completed.when(RecordNotification(order=ORDER, key="k"))
    notified.state(
        Order(ORDER),
        OrderState(OrderStatus.COMPLETED, SUBMITTED, "TRACK", notified=True),
    )


def test_a_reversed_payment_keeps_nothing():
    paid = given(*on_streams([(PAYMENT, AUTHORIZED), (PAYMENT, PAID)]))
    refunded = paid.when(reverse(1501))
    refunded.state(
        Payment(PAYMENT),
        PaymentState(
            authorized=Money(1501),
            captured=Money(1501),
            refunded=Money(1501),
            keys=frozenset({"authorize", "capture", "compensation"}),
        ),
    )
    voided = refunded.when(reverse(0, forward_key="authorize", key="void"))
    assert voided.executed.events == (PaymentVoided("BACK", "void"),)
    kept_state = PaymentState(
        captured=Money(1501),
        refunded=Money(1501),
        keys=frozenset({"authorize", "capture", "compensation", "void"}),
    )
    voided.state(Payment(PAYMENT), kept_state)
    assert kept_state.kept == Money(0)


@pytest.mark.parametrize(
    "kind", [DemoPlan, Order, Payment, Product, Shipment], ids=lambda k: k.category
)
def test_states_are_shared_instead_of_copied(kind):
    events = {
        DemoPlan: [("demo-plan", DemoPlanned(1, Quantity(5)))],
        Order: [(ORDER, SUBMITTED), (ORDER, CustomerNotified("k"))],
        Payment: [(PAYMENT, AUTHORIZED), (PAYMENT, PAID)],
        Product: [stock(A, 5), kept(A, 2), (A, StockReleased(ORDER, Quantity(2)))],
        Shipment: [(SHIPMENT, CREATED), (SHIPMENT, SCHEDULED)],
    }[kind]
    stream = kind(events[0][0])
    with eb.open("memory:") as store:
        store.append([eb.new_event(stream.id, event) for _, event in events])
        executor = eb.Executor(store)
        state = executor.load(stream).state
        assert state is not None
        assert executor.load(stream).state is state


def test_a_refund_while_an_order_is_completed_is_a_conflict():
    before, command, _ = CASES["an order is completed"]
    refunded = PaymentRefunded(Money(1501), "BACK", "compensation")
    with eb.open("memory:") as store:
        store.append([eb.new_event(stream, event) for stream, event in before])
        faulty = FaultyStore(store, Conflict(by=[on(Payment(PAYMENT), refunded)], at=1))
        with pytest.raises(eb.CommandRejected) as rejected:
            eb.Executor(faulty).execute(command)
        assert rejected.value.code == "order_not_paid"
        assert len(faulty.injected) == 1
        assert store.version(ORDER) == 1


def calls_of_a_reservation(length):
    """Count the Python functions called by a reservation of a product with events."""
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    with eb.open("memory:") as store:
        events = [StockReceived(Quantity(10_000), "opening")]
        events += [
            StockReserved(OrderId(f"order-old-{n}"), Quantity(1)) for n in range(length)
        ]
        store.append([eb.new_event(A, event) for event in events])
        executor = eb.Executor(store)
        for number in range(4):
            command = ReserveInventory(
                order=OrderId(f"order-new-{number}"), products=(A,), items=ITEMS[:1]
            )
            calls = 0
            before = sys.getprofile()
            sys.setprofile(count)
            try:
                executor.execute(command)
            finally:
                sys.setprofile(before)
        assert store.version(A) == length + 5
    return calls


def test_a_reservation_costs_the_same_however_many_there_are():
    assert calls_of_a_reservation(2_000) == calls_of_a_reservation(20)
