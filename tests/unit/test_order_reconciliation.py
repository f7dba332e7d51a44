"""Reconciliation finds what it is there for: each rule, broken once.

A rule that never fires would let the demo succeed whatever happened, so each one is
shown a world that is fine, and the same world with one thing wrong.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

import eventbraid as eb
from eventbraid.examples.order_fulfilment.inventory import (
    StockReceived,
    StockReleased,
    StockReserved,
)
from eventbraid.examples.order_fulfilment.orders import (
    CustomerNotified,
    NotificationDeferred,
    OrderCancelled,
    OrderCompleted,
    OrderSubmitted,
)
from eventbraid.examples.order_fulfilment.payments import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentRefunded,
    PaymentVoided,
)
from eventbraid.examples.order_fulfilment.reconciliation.books import TYPES
from eventbraid.examples.order_fulfilment.reconciliation.rules import RULES
from eventbraid.examples.order_fulfilment.reconciliation.verdict import reconcile
from eventbraid.examples.order_fulfilment.services.ledger import Entry
from eventbraid.examples.order_fulfilment.shipments import (
    PickupScheduled,
    ShipmentCancelled,
    ShipmentCreated,
    ShipmentDispatched,
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

ADDRESS = ShippingAddress(
    Line("Mia"), Line("1 Market Street"), Line("Boston"), Line("02108"), Country("US")
)
METHOD = PaymentMethod(CardToken("tok_1"), Line("Visa"), LastFour("4242"))
PRODUCT = "product-1"


def submitted(quantity, price):
    items = (OrderItem(ProductId(PRODUCT), Quantity(quantity), Money(price)),)
    customer = CustomerId("customer-1")
    return OrderSubmitted(customer, items, Money(quantity * price), ADDRESS, METHOD)


class World:
    """One completed order, one undone, one that costs nothing.

    Of the undone one, the gateway's answer to `a2` arrived, the carrier's to `n2` did not.
    """

    def __init__(self):
        done, undone, free = map(OrderId, ("order-done", "order-undone", "order-free"))
        self.expected = {"done": 1000, "undone": 700, "free": 0}
        self.stuck = []
        self.log = {
            "stock": (PRODUCT, StockReceived(Quantity(10), "opening")),
            "submit": (done, submitted(2, 500)),
            "authorize": ("payment-done", PaymentAuthorized(Money(1000), "A", "a1")),
            "capture": ("payment-done", PaymentCaptured(Money(1000), "C", "c1")),
            "reserve": (PRODUCT, StockReserved(done, Quantity(2))),
            "announce": ("shipment-done", ShipmentCreated(Quantity(2), "L", "n1")),
            "schedule": ("shipment-done", PickupScheduled("P", "p1")),
            "dispatch": ("shipment-done", ShipmentDispatched("T", "d1")),
            "complete": (done, OrderCompleted("T")),
            "tell": (done, CustomerNotified("t1")),
            "submit 2": (undone, submitted(1, 700)),
            "authorize 2": ("payment-undone", PaymentAuthorized(Money(700), "A", "a2")),
            "capture 2": ("payment-undone", PaymentCaptured(Money(700), "C", "c2")),
            "reserve 2": (PRODUCT, StockReserved(undone, Quantity(1))),
            "withdraw 2": ("shipment-undone", ShipmentCancelled("x2")),
            "release 2": (PRODUCT, StockReleased(undone, Quantity(1))),
            "refund 2": ("payment-undone", PaymentRefunded(Money(700), "R", "r2")),
            "void 2": ("payment-undone", PaymentVoided("V", "v2")),
            "cancel 2": (undone, OrderCancelled("no carrier")),
            "submit 3": (free, submitted(1, 0)),
            "reserve 3": (PRODUCT, StockReserved(free, Quantity(1))),
            "announce 3": ("shipment-free", ShipmentCreated(Quantity(1), "L", "n3")),
            "schedule 3": ("shipment-free", PickupScheduled("P", "p3")),
            "dispatch 3": ("shipment-free", ShipmentDispatched("T", "d3")),
            "complete 3": (free, OrderCompleted("T")),
            "defer 3": (free, NotificationDeferred("t3", "full")),
        }
        self.payments = [
            Entry("a1", "authorized", "payment-done", 1000),
            Entry("c1", "captured", "payment-done", 1000),
            Entry("a2", "authorized", "payment-undone", 700),
            Entry("c2", "captured", "payment-undone", 700),
            Entry("r2", "refunded", "payment-undone", 700),
            Entry("v2", "voided", "payment-undone", 0, "a2"),
        ]
        self.shipping = [
            Entry("n1", "created", "shipment-done", 2),
            Entry("p1", "scheduled", "shipment-done", 2),
            Entry("d1", "dispatched", "shipment-done", 2),
            Entry("n2", "created", "shipment-undone", 1),
            Entry("x2", "cancelled", "shipment-undone", 0, "n2"),
            Entry("n3", "created", "shipment-free", 1),
            Entry("p3", "scheduled", "shipment-free", 1),
            Entry("d3", "dispatched", "shipment-free", 1),
        ]

    def verdict(self):
        with eb.open("memory:") as store:
            store.append(
                [eb.new_event(stream, event) for stream, event in self.log.values()]
            )
            return reconcile(
                store,
                payments=self.payments,
                shipping=self.shipping,
                expected=self.expected,
                stuck=self.stuck,
            )


def without(*names):
    def change(world):
        for name in names:
            del world.log[name]

    return change


def instead(name, stream, event):
    def change(world):
        world.log[name] = (stream, event)

    return change


def paid(*entries):
    return lambda world: world.payments.extend(entries)


def shipped(*entries):
    return lambda world: world.shipping.extend(entries)


def lost(*keys):
    """Rows that are gone from whichever ledger they were in."""

    def change(world):
        for ledger in (world.payments, world.shipping):
            ledger[:] = [entry for entry in ledger if entry.key not in keys]

    return change


def altered(key):
    """A row whose amount is 1 more than it was."""

    def change(world):
        for ledger in (world.payments, world.shipping):
            ledger[:] = [
                replace(entry, amount=entry.amount + (entry.key == key))
                for entry in ledger
            ]

    return change


SAME_MONEY = {"log and payment ledger agree, key by key"}
SAME_SHIPMENTS = {"log and shipping ledger agree, key by key"}

BROKEN = {
    "an order was lost": (
        lambda world: world.expected.update(lost=5),
        {"every order has exactly one final state"},
    ),
    "an order has no end": (
        without("cancel 2"),
        {"every order has exactly one final state"},
    ),
    "an order has two ends": (
        instead("more", "order-done", OrderCancelled("late")),
        {"every order has exactly one final state"},
    ),
    "an order was submitted twice": (
        instead("more", "order-done", submitted(2, 500)),
        {"every order has exactly one final state"},
    ),
    "an order is worth something else": (
        lambda world: world.expected.update(done=1001),
        {"every order is worth what was placed"},
    ),
    "an undone order was not refunded": (
        lambda world: (without("refund 2")(world), lost("r2")(world)),
        {"captured - refunded = value of completed orders"},
    ),
    "the gateway took money twice": (
        paid(Entry("c1", "captured", "payment-done", 1000)),
        {
            "captured - refunded = value of completed orders",
            "log and payment ledger agree, key by key",
            "each key took effect at most once",
        },
    ),
    "the gateway took money that the log does not know": (
        paid(Entry("c9", "captured", "payment-undone", 700)),
        {
            "captured - refunded = value of completed orders",
            "log and payment ledger agree, key by key",
        },
    ),
    "the log holds a capture that never was": (
        lost("c1"),
        {
            "captured - refunded = value of completed orders",
            "log and payment ledger agree, key by key",
        },
    ),
    "two captures of one order are each other's amount": (
        lambda world: (
            world.payments.append(Entry("c8", "captured", "payment-done", 5)),
            world.payments.append(Entry("r8", "refunded", "payment-done", 5)),
        ),
        {"log and payment ledger agree, key by key"},
    ),
    "stock of an undone order was not released": (
        without("release 2"),
        {"reserved - released = shipped quantities"},
    ),
    "a completed order was not reserved": (
        without("reserve"),
        {"reserved - released = shipped quantities"},
    ),
    "the carrier took a shipment that was cancelled": (
        shipped(Entry("d2", "dispatched", "shipment-undone", 1)),
        {
            "reserved - released = shipped quantities",
            "log and shipping ledger agree, key by key",
        },
    ),
    "the carrier took a shipment twice": (
        shipped(Entry("d1", "dispatched", "shipment-done", 2)),
        {
            "reserved - released = shipped quantities",
            "each key took effect at most once",
        },
    ),
    "a charge has no order": (
        paid(Entry("a9", "authorized", "payment-nobody", 5)),
        {"no charge and no shipment without an order"},
    ),
    "more was reserved than there was": (
        instead("stock", PRODUCT, StockReceived(Quantity(2), "opening")),
        {"stock was never negative"},
    ),
    "a customer was forgotten": (
        without("tell"),
        {"every customer was notified or will be"},
    ),
    "a void never reached the gateway": (lost("v2"), SAME_MONEY),
    "the log does not know of a void": (without("void 2"), SAME_MONEY),
    "a void was for nothing, and the log does not know of it": (
        paid(Entry("v9", "voided", "payment-done", 0, "a9")),
        SAME_MONEY,
    ),
    "the log holds an authorization that never was": (lost("a2"), SAME_MONEY),
    "an authorization is of another amount": (altered("a2"), SAME_MONEY),
    "the only authorization was voided": (
        lambda world: (
            paid(Entry("v1", "voided", "payment-done", 0, "a1"))(world),
            instead("void", "payment-done", PaymentVoided("V", "v1"))(world),
        ),
        SAME_MONEY,
    ),
    "a completed order was authorized twice": (
        paid(Entry("a7", "authorized", "payment-done", 1000)),
        SAME_MONEY,
    ),
    "an undone order was authorized again": (
        paid(Entry("a7", "authorized", "payment-undone", 700)),
        SAME_MONEY,
    ),
    "an order that costs nothing was authorized": (
        paid(Entry("a7", "authorized", "payment-free", 1)),
        SAME_MONEY,
    ),
    "a cancellation never reached the carrier": (lost("x2"), SAME_SHIPMENTS),
    "a cancellation was refused": (
        lambda world: (
            lost("x2")(world),
            shipped(Entry("x2", "refused", "shipment-undone", 0, "n2"))(world),
        ),
        SAME_SHIPMENTS,
    ),
    "the log does not know of a cancellation": (without("withdraw 2"), SAME_SHIPMENTS),
    "the log holds a shipment that never was": (lost("n1"), SAME_SHIPMENTS),
    "a shipment is of other pieces": (altered("n1"), SAME_SHIPMENTS),
    "the log holds a pickup that never was": (lost("p1"), SAME_SHIPMENTS),
    "a completed order was announced twice": (
        shipped(Entry("n7", "created", "shipment-done", 2)),
        SAME_SHIPMENTS,
    ),
    "an undone order was announced again": (
        shipped(Entry("n7", "created", "shipment-undone", 1)),
        SAME_SHIPMENTS,
    ),
    "another product was reserved": (
        lambda world: (
            instead("other stock", "product-2", StockReceived(Quantity(9), "o"))(world),
            without("reserve")(world),
            instead(
                "reserve",
                "product-2",
                StockReserved(OrderId("order-done"), Quantity(2)),
            )(world),
        ),
        {"reserved - released = shipped quantities"},
    ),
    "the customer of an undone order was told": (
        instead("tell 2", "order-undone", CustomerNotified("t2")),
        {"every customer was notified or will be"},
    ),
    "a saga is stuck": (
        lambda world: world.stuck.append("saga-undone"),
        {"no saga is stuck"},
    ),
}


def test_a_world_that_is_fine_is_found_fine():
    verdict = World().verdict()
    assert verdict.is_clean, verdict.findings
    sums = verdict.sums
    assert (sums.orders, sums.completed, sums.cancelled) == (3, 2, 1)
    assert (sums.value, sums.completed_value, sums.free_of_charge) == (1700, 1000, 1)
    assert (sums.captured, sums.refunded) == (1700, 700)
    assert (sums.reserved, sums.shipped, sums.deferred) == (3, 3, 1)
    assert sums.reasons == {"no carrier": 1}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_found_by_the_rules_that_it_breaks(case):
    change, rules = BROKEN[case]
    world = World()
    change(world)
    findings = world.verdict().findings
    assert {rule for rule, found in findings.items() if found} == rules


def test_every_rule_is_broken_by_some_case():
    assert set().union(*(rules for _, rules in BROKEN.values())) == set(RULES)


def test_every_type_that_is_read_has_a_book():
    known = {eb.encode_event(event)[0] for _, event in World().log.values()}
    assert known == set(TYPES)
