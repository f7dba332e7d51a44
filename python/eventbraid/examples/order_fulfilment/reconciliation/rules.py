"""The rules of reconciliation, which hold when no order is in progress.

Each rule yields its violations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .books import Books, name_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet

    from .statements import Statement


@dataclass(frozen=True, slots=True)
class Evidence:
    """The input of reconciliation.

    Attributes:
        expected: The price of each placed order in cents, by the part that its ids
            share.
        books: The fold of the shop's log.
        payments: The fold of the gateway's ledger.
        shipping: The fold of the carrier's ledger.
        stuck: The ids of the sagas that need attention.
    """

    expected: Mapping[str, int]
    books: Books
    payments: Statement
    shipping: Statement
    stuck: Collection[str] = ()


Rule = Callable[[Evidence], Iterator[str]]


def one_final_state(evidence: Evidence) -> Iterator[str]:
    """Check that each placed order is submitted once, and completed or cancelled."""
    for name in evidence.expected:
        if name not in evidence.books.orders:
            yield f"order-{name} was placed but never submitted"
    for name, book in evidence.books.orders.items():
        if book.submitted != 1:
            yield f"order-{name} was submitted {book.submitted} times"
        if book.completed + book.cancelled != 1:
            yield (
                f"order-{name} was completed {book.completed} times "
                f"and cancelled {book.cancelled} times"
            )


def worth_what_was_placed(evidence: Evidence) -> Iterator[str]:
    """Check that each order has the price of its purchase."""
    for name, cents in evidence.expected.items():
        book = evidence.books.orders.get(name)
        if book is not None and book.total != cents:
            yield f"order-{name} costs {book.total} cents, {cents} were placed"


def paid_in_full_or_not_at_all(evidence: Evidence) -> Iterator[str]:
    """Check that captured less refunded is a completed order's value, else 0."""
    captured = evidence.payments.moved_for("captured")
    refunded = evidence.payments.moved_for("refunded")
    for name, book in evidence.books.orders.items():
        due = book.total if book.completed else 0
        taken = captured[name] - refunded[name]
        if book.kept != due:
            yield f"order-{name}: {due} cents are due, the log says {book.kept}"
        if taken != due:
            yield f"order-{name}: {due} cents are due, the gateway took {taken}"


def same_money(evidence: Evidence) -> Iterator[str]:
    """Check that the log and the gateway's ledger have the same payments.

    Authorizations are compared in one direction: one whose answer was lost is not in
    the log. But only that of a completed order may be left open.
    """
    books, payments = evidence.books, evidence.payments
    yield from _differences("captured", books.captured, payments.moved("captured"))
    yield from _differences("refunded", books.refunded, payments.moved("refunded"))
    yield from _one_sided("voided", books.voided, payments.moved("voided").keys())
    authorized = payments.moved("authorized")
    yield from _unfounded("authorized", books.authorized, authorized)
    due = {name for name, book in books.orders.items() if book.completed and book.total}
    yield from _left_open("authorizations", books, due, payments.open_for("authorized"))


def shipped_what_was_reserved(evidence: Evidence) -> Iterator[str]:
    """Check that reserved less released is dispatched: all of an order or nothing.

    The reserved pieces are compared with the order product by product.
    """
    dispatched = evidence.shipping.moved_for("dispatched")
    for name, book in evidence.books.orders.items():
        due = book.ordered if book.completed else 0
        if not book.reserved == book.shipped == dispatched[name] == due:
            yield (
                f"order-{name}: {due} pieces are due, {book.reserved} are reserved, "
                f"{book.shipped} are shipped, the carrier took {dispatched[name]}"
            )
        elif book.held != (book.items if book.completed else Counter()):
            yield f"order-{name}: the reserved products are not the ordered ones"


def same_shipments(evidence: Evidence) -> Iterator[str]:
    """Check that the log and the carrier's ledger have the same shipments.

    Created shipments and pickups are compared in one direction: those whose answer was
    lost are not in the log. But only that of a completed order may be left open.
    """
    books, shipping = evidence.books, evidence.shipping
    dispatched, cancelled = shipping.moved("dispatched"), shipping.moved("cancelled")
    yield from _one_sided("dispatched", books.dispatched, dispatched.keys())
    yield from _one_sided("cancelled", books.cancelled, cancelled.keys())
    yield from _unfounded("created", books.created, shipping.moved("created"))
    for key in books.scheduled - shipping.moved("scheduled").keys():
        yield f"{key}: scheduled in the log only"
    due = {name for name, book in books.orders.items() if book.completed}
    yield from _left_open("shipments", books, due, shipping.open_for("created"))


def at_most_once(evidence: Evidence) -> Iterator[str]:
    """Check that no key took effect more than once."""
    for statement in (evidence.payments, evidence.shipping):
        for (effect, key), times in statement.times.items():
            if times > 1:
                yield f"{key}: {effect} {times} times"


def each_belongs_to_an_order(evidence: Evidence) -> Iterator[str]:
    """Check that there is no charge and no shipment without an order."""
    for statement in (evidence.payments, evidence.shipping):
        for subject in statement.subjects:
            book = evidence.books.orders.get(name_of(subject))
            if book is None or not book.submitted:
                yield f"{subject} belongs to no order"


def stock_never_negative(evidence: Evidence) -> Iterator[str]:
    """Check that no more pieces of a product were reserved than there were."""
    for product, lowest in evidence.books.lowest.items():
        if lowest < 0:
            yield f"{product}: {-lowest} pieces more were reserved than there were"


def every_customer_notified(evidence: Evidence) -> Iterator[str]:
    """Check that the customer of each completed order is notified, now or later.

    No other customer may be.
    """
    for name, book in evidence.books.orders.items():
        is_notified = book.notified or book.deferred
        if book.completed and not is_notified:
            yield f"order-{name}: the customer was not notified, and will not be"
        if is_notified and not book.completed:
            yield f"order-{name}: the customer was notified, but it is not completed"


def nothing_stuck(evidence: Evidence) -> Iterator[str]:
    """Check that no saga needs attention."""
    for saga in evidence.stuck:
        yield f"{saga} is stuck: see `eventbraid saga show {saga}`"


RULES: dict[str, Rule] = {
    "every order has exactly one final state": one_final_state,
    "every order is worth what was placed": worth_what_was_placed,
    "captured - refunded = value of completed orders": paid_in_full_or_not_at_all,
    "log and payment ledger agree, key by key": same_money,
    "reserved - released = shipped quantities": shipped_what_was_reserved,
    "log and shipping ledger agree, key by key": same_shipments,
    "each key took effect at most once": at_most_once,
    "no charge and no shipment without an order": each_belongs_to_an_order,
    "stock was never negative": stock_never_negative,
    "every customer was notified or will be": every_customer_notified,
    "no saga is stuck": nothing_stuck,
}


# --- comparisons


def _differences(what: str, log: Counter[str], ledger: Counter[str]) -> Iterator[str]:
    for key in log.keys() | ledger.keys():
        if log[key] != ledger[key]:
            yield (
                f"{key}: {what} {log[key]} cents in the log, "
                f"{ledger[key]} in the gateway's ledger"
            )


def _one_sided(
    what: str, log: AbstractSet[str], ledger: AbstractSet[str]
) -> Iterator[str]:
    yield from (f"{key}: {what} in the log only" for key in log - ledger)
    yield from (f"{key}: {what} in the ledger only" for key in ledger - log)


def _unfounded(what: str, log: Counter[str], ledger: Counter[str]) -> Iterator[str]:
    for key, amount in log.items():
        if key not in ledger:
            yield f"{key}: {what} in the log only"
        elif ledger[key] != amount:
            yield f"{key}: {what} {amount} in the log, {ledger[key]} in the ledger"


def _left_open(
    what: str, books: Books, due: AbstractSet[str], still_open: Counter[str]
) -> Iterator[str]:
    for name in books.orders:
        if still_open[name] != (name in due):
            yield (
                f"order-{name}: {still_open[name]} {what} are open in the ledger, "
                f"{int(name in due)} should be"
            )
