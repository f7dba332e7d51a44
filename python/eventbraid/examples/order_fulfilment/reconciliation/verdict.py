"""What came of holding the log against the ledgers."""

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
    """The figures behind a verdict; amounts in cents, quantities in pieces.

    Attributes:
        orders: How many orders were submitted.
        completed: How many were completed.
        cancelled: How many were cancelled.
        free_of_charge: How many of the completed ones cost nothing.
        value: What all orders cost.
        completed_value: What the completed ones cost.
        captured: What the gateway took.
        refunded: What it gave back.
        reserved: Pieces that are reserved for orders.
        shipped: Pieces that the carrier took.
        deferred: Customers who are still to be told.
        reasons: How many orders were cancelled for which reason.
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
    """A verdict.

    Attributes:
        findings: By rule, what breaks it.
        sums: The figures behind it.
        seconds: How long it took.
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
    """Hold the log against the ledgers, in one pass over each.

    Args:
        store: The shop's log; nothing may be under way in it.
        payments: The gateway's ledger.
        shipping: The carrier's ledger.
        expected: What each order that was placed costs, in cents, by the common part
            of its ids.
        stuck: Sagas that wait for a person.
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
