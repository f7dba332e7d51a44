"""The purchases as events, cut into commits that can be repeated without harm."""

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
    """A customer bought something.

    Attributes:
        number: The purchase's place among all, from 1.
        day: When.
        cds: How many CDs.
        paid: What they cost together, in cents.
    """

    number: int
    day: date
    cds: Quantity
    paid: Money


@dataclass(frozen=True, slots=True)
class Commit:
    """Some purchases that are stored together or not at all.

    Attributes:
        number: Its place among the commits, from 1.
        key: Its name for ever: appended again under it, nothing is stored twice.
        events: The events of the commit.
        expect: The version that each written stream has before: a customer's purchases
            stand in their order even if an earlier commit should have failed.
    """

    number: int
    key: str
    events: list[eb.NewEvent]
    expect: dict[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which purchases are to be stored, and in commits of which size.

    Attributes:
        purchases: What is to be stored, in this order.
        commit_size: How many of them make a commit; the last may have fewer.

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
        """What a later load must have in common with this one to go on with it."""
        count = len(self.purchases)
        return f"{count} purchases in commits of {self.commit_size}".encode()

    def commits(self) -> Iterator[Commit]:
        """Cut the purchases into commits; each is made when it is asked for."""
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
    """Name the stream of a customer's purchases.

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
