"""The result of comparing the log with the ledgers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .books import read_books
from .rules import RULES, Evidence
from .statements import read_statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import eventbraid as eb

    from ..services.ledger import Entry


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of a reconciliation; amounts in cents, quantities in pieces.

    Attributes:
        orders: The number of submitted orders.
        completed: The number of completed orders.
        cancelled: The number of cancelled orders.
        free_of_charge: The number of completed orders that cost nothing.
        value: The price of all orders.
        completed_value: The price of the completed orders.
        captured: The amount that the gateway captured.
        refunded: The amount that the gateway refunded.
        reserved: The pieces that are reserved for orders.
        shipped: The pieces that the carrier dispatched.
        deferred: The number of customers who are not notified yet.
        reasons: The number of cancelled orders, by reason.
    """

    orders: int
    completed: int
    cancelled: int
    free_of_charge: int
    value: int
    completed_value: int
    captured: int
    refunded: int
    reserved: int
    shipped: int
    deferred: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result of a reconciliation.

    Attributes:
        findings: The violations of each rule.
        sums: The sums of all orders.
        seconds: The duration.
    """

    findings: Mapping[str, tuple[str, ...]]
    sums: Sums
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether every rule holds."""
        return not any(self.findings.values())


def reconcile(
    store: eb.EventStore,
    *,
    payments: Iterable[Entry],
    shipping: Iterable[Entry],
    expected: Mapping[str, int],
    stuck: Collection[str] = (),
) -> Reconciliation:
    """Compare the log with the ledgers, in one pass over each.

    Args:
        store: The shop's log; no order may be in progress.
        payments: The gateway's ledger.
        shipping: The carrier's ledger.
        expected: The price of each placed order in cents, by the part that its ids
            share.
        stuck: The ids of the sagas that need attention.
    """
    start = time.perf_counter()
    evidence = Evidence(
        expected=expected,
        books=read_books(store),
        payments=read_statement(payments),
        shipping=read_statement(shipping),
        stuck=stuck,
    )
    findings = {name: tuple(rule(evidence)) for name, rule in RULES.items()}
    return Reconciliation(findings, _sums(evidence), time.perf_counter() - start)


def _sums(evidence: Evidence) -> Sums:
    orders = evidence.books.orders.values()
    completed = [book for book in orders if book.completed]
    return Sums(
        orders=len(orders),
        completed=len(completed),
        cancelled=sum(1 for book in orders if book.cancelled),
        free_of_charge=sum(1 for book in completed if not book.total),
        value=sum(book.total for book in orders),
        completed_value=sum(book.total for book in completed),
        captured=sum(evidence.payments.moved("captured").values()),
        refunded=sum(evidence.payments.moved("refunded").values()),
        reserved=sum(book.reserved for book in orders),
        shipped=sum(evidence.shipping.moved("dispatched").values()),
        deferred=sum(1 for book in completed if book.deferred and not book.notified),
        reasons=dict(evidence.books.reasons),
    )
