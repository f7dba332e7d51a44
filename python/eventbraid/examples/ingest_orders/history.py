"""The purchases as events, divided into commits that can be repeated safely."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import eventbraid as eb

from ..order_fulfilment.purchases import Purchase
from ..order_fulfilment.values import CustomerId, Money, Quantity

KEY = "purchases"
"""The idempotency key of the load; its commits are numbered below it."""


@eb.event("customer.purchased")
class Purchased:
    """A customer bought CDs.

    Attributes:
        number: The number of the purchase, from 1.
        day: The day of the purchase.
        cds: The number of CDs.
        paid: Their total price in cents.
    """

    number: int
    day: date
    cds: Quantity
    paid: Money


@dataclass(frozen=True, slots=True)
class Commit:
    """Purchases that are stored together or not at all.

    Attributes:
        number: The number of the commit, from 1.
        key: Its idempotency key: a repeated append stores nothing twice.
        events: The events of the commit.
        expect: The expected version of each written stream. It keeps a customer's
            purchases in order even if an earlier commit fails.
    """

    number: int
    key: str
    events: list[eb.NewEvent]
    expect: dict[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """The purchases to be stored, and the size of a commit.

    Attributes:
        purchases: The purchases, in order.
        commit_size: The number of purchases in a commit; the last one may have fewer.

    Example:
        >>> from eventbraid.examples.order_fulfilment.purchases import purchases
        >>> plan = Plan(purchases()[:3], commit_size=2)
        >>> [(commit.key, len(commit.events)) for commit in plan.commits()]
        [('purchases/1', 2), ('purchases/2', 1)]
    """

    purchases: Sequence[Purchase]
    commit_size: int

    @property
    def content(self) -> bytes:
        """The parameters that a later load must share in order to continue this one."""
        count = len(self.purchases)
        return f"{count} purchases in commits of {self.commit_size}".encode()

    def commits(self) -> Iterator[Commit]:
        """Divide the purchases into commits; each is built when it is needed."""
        versions: defaultdict[str, int] = defaultdict(int)
        starts = range(0, len(self.purchases), self.commit_size)
        for number, start in enumerate(starts, start=1):
            chosen = self.purchases[start : start + self.commit_size]
            events = [_event_of(purchase) for purchase in chosen]
            expect = {event.stream: versions[event.stream] for event in events}
            for event in events:
                versions[event.stream] += 1
            yield Commit(number, f"{KEY}/{number}", events, expect)


def stream_of(customer: int) -> str:
    """Return the stream of a customer's purchases.

    Example:
        >>> stream_of(7)
        'customer-00007'
    """
    return str(CustomerId(f"customer-{customer:05d}"))


def _event_of(purchase: Purchase) -> eb.NewEvent:
    return eb.new_event(
        stream_of(purchase.customer),
        Purchased(
            purchase.number,
            purchase.day,
            Quantity(purchase.cds),
            Money(purchase.cents),
        ),
    )
