"""The books of the shop: its log, folded in one pass over all orders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import eventbraid as eb

from ..inventory import StockReceived, StockReleased, StockReserved
from ..orders import (
    CustomerNotified,
    NotificationDeferred,
    OrderCancelled,
    OrderCompleted,
    OrderSubmitted,
)
from ..payments import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentEvent,
    PaymentRefunded,
    PaymentVoided,
)
from ..shipments import (
    PickupScheduled,
    ShipmentCancelled,
    ShipmentCreated,
    ShipmentDispatched,
    ShipmentEvent,
)

TYPES = (
    "inventory.received",
    "inventory.released",
    "inventory.reserved",
    "order.cancelled",
    "order.completed",
    "order.customer_notified",
    "order.notification_deferred",
    "order.submitted",
    "payment.authorized",
    "payment.captured",
    "payment.refunded",
    "payment.voided",
    "shipment.cancelled",
    "shipment.created",
    "shipment.dispatched",
    "shipment.pickup_scheduled",
)


@dataclass(slots=True)
class OrderBook:
    """One order according to the log; amounts in cents, quantities in pieces.

    Attributes:
        submitted: The number of times it was submitted.
        completed: The number of times it was completed.
        cancelled: The number of times it was cancelled.
        total: Its price.
        items: The ordered pieces, by product.
        kept: The amount that was captured and not refunded.
        held: The pieces that are reserved and not released, by product.
        announced: The pieces in the shipment that the carrier created.
        shipped: The pieces that were dispatched.
        notified: Whether the customer was notified.
        deferred: Whether the notification was deferred.
    """

    submitted: int = 0
    completed: int = 0
    cancelled: int = 0
    total: int = 0
    items: Counter[str] = field(default_factory=Counter[str])
    kept: int = 0
    held: Counter[str] = field(default_factory=Counter[str])
    announced: int = 0
    shipped: int = 0
    notified: bool = False
    deferred: bool = False

    @property
    def ordered(self) -> int:
        """The number of ordered pieces."""
        return self.items.total()

    @property
    def reserved(self) -> int:
        """The number of pieces that are reserved and not released."""
        return self.held.total()


@dataclass(slots=True)
class Books:
    """All orders according to the log.

    Attributes:
        orders: The orders, by the part of the id that payment and shipment share.
        authorized: Cents by the key of the call.
        captured: Cents by the key of the call.
        refunded: Cents by the key of the call.
        voided: Keys of the calls that voided a payment.
        created: Pieces by the key of the call.
        scheduled: Keys of the calls that scheduled a pickup.
        dispatched: Keys of the calls that dispatched a shipment.
        cancelled: Keys of the calls that cancelled a shipment.
        stock: The available pieces, by product.
        lowest: The minimum of available pieces over time, by product.
        reasons: The number of cancelled orders, by reason.
    """

    orders: dict[str, OrderBook] = field(default_factory=dict[str, OrderBook])
    authorized: Counter[str] = field(default_factory=Counter[str])
    captured: Counter[str] = field(default_factory=Counter[str])
    refunded: Counter[str] = field(default_factory=Counter[str])
    voided: set[str] = field(default_factory=set[str])
    created: Counter[str] = field(default_factory=Counter[str])
    scheduled: set[str] = field(default_factory=set[str])
    dispatched: set[str] = field(default_factory=set[str])
    cancelled: set[str] = field(default_factory=set[str])
    stock: Counter[str] = field(default_factory=Counter[str])
    lowest: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])

    def of(self, identifier: str) -> OrderBook:
        """Return the book of the order to which an id belongs, whatever its kind."""
        name = name_of(identifier)
        book = self.orders.get(name)
        if book is None:
            book = self.orders[name] = OrderBook()
        return book


def name_of(identifier: str) -> str:
    """Return the part that the ids of an order, payment, shipment and saga share."""
    return identifier.partition("-")[2]


def read_books(store: eb.EventStore) -> Books:
    """Fold the log into books, in one pass."""
    books = Books()
    for recorded in store.read_all(types=TYPES):
        _enter(books, recorded.stream, eb.decode_event(recorded))
    return books


def _enter(books: Books, stream: str, event: object) -> None:
    match event:
        case StockReceived() | StockReserved() | StockReleased():
            _enter_stock(books, stream, event)
        case (
            PaymentAuthorized()
            | PaymentCaptured()
            | PaymentRefunded()
            | PaymentVoided()
        ):
            _enter_payment(books, stream, event)
        case (
            ShipmentCreated()
            | PickupScheduled()
            | ShipmentDispatched()
            | ShipmentCancelled()
        ):
            _enter_shipment(books, stream, event)
        case _:
            _enter_order(books, stream, event)


def _enter_payment(books: Books, stream: str, event: PaymentEvent) -> None:
    match event:
        case PaymentAuthorized():
            books.authorized[event.key] += int(event.amount)
        case PaymentCaptured():
            books.of(stream).kept += int(event.amount)
            books.captured[event.key] += int(event.amount)
        case PaymentRefunded():
            books.of(stream).kept -= int(event.amount)
            books.refunded[event.key] += int(event.amount)
        case PaymentVoided():
            books.voided.add(event.key)


def _enter_shipment(books: Books, stream: str, event: ShipmentEvent) -> None:
    match event:
        case ShipmentCreated():
            books.of(stream).announced += int(event.pieces)
            books.created[event.key] += int(event.pieces)
        case PickupScheduled():
            books.scheduled.add(event.key)
        case ShipmentDispatched():
            book = books.of(stream)
            book.shipped += book.announced
            books.dispatched.add(event.key)
        case ShipmentCancelled():
            books.cancelled.add(event.key)


def _enter_order(books: Books, stream: str, event: object) -> None:
    book = books.of(stream)
    match event:
        case OrderSubmitted():
            book.submitted += 1
            book.total = int(event.total)
            for item in event.items:
                book.items[item.product] = int(item.quantity)
        case OrderCompleted():
            book.completed += 1
        case OrderCancelled():
            book.cancelled += 1
            books.reasons[event.reason] += 1
        case CustomerNotified():
            book.notified = True
        case NotificationDeferred():
            book.deferred = True
        case _:
            raise LookupError(f"no book for {event!r} in {stream!r}")


def _enter_stock(
    books: Books, stream: str, event: StockReceived | StockReserved | StockReleased
) -> None:
    quantity = int(event.quantity)
    match event:
        case StockReceived():
            books.stock[stream] += quantity
        case StockReserved():
            books.of(event.order).held[stream] += quantity
            books.stock[stream] -= quantity
            books.lowest[stream] = min(books.lowest[stream], books.stock[stream])
        case StockReleased():
            books.of(event.order).held[stream] -= quantity
            books.stock[stream] += quantity
