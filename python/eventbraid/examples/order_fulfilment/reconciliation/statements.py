"""The statements of the payment gateway and the carrier: their ledgers, folded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .books import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..services.ledger import Entry


@dataclass(slots=True)
class Statement:
    """The fold of one ledger.

    Attributes:
        amounts: The amounts by effect, then by the key of the call.
        times: The number of times of each effect, by effect and key.
        by_order: The amounts by effect, then by order.
        subjects: The payments or shipments that have an entry.
        orders: The order that each call was for, by the key of the call.
        reversed: The keys of the calls that were reversed.
    """

    amounts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    times: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    by_order: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    subjects: set[str] = field(default_factory=set[str])
    orders: dict[str, str] = field(default_factory=dict[str, str])
    reversed: set[str] = field(default_factory=set[str])

    def moved(self, effect: str) -> Counter[str]:
        """Return the amount of an effect under each key."""
        return self.amounts.get(effect, Counter())

    def moved_for(self, effect: str) -> Counter[str]:
        """Return the amount of an effect for each order."""
        return self.by_order.get(effect, Counter())

    def open_for(self, effect: str) -> Counter[str]:
        """Return the number of calls of an effect that were not reversed, by order."""
        keys = self.moved(effect).keys() - self.reversed
        return Counter(self.orders[key] for key in keys)


def read_statement(entries: Iterable[Entry]) -> Statement:
    """Sum up a ledger, in one pass."""
    statement = Statement()
    for entry in entries:
        effect = entry.effect
        statement.amounts.setdefault(effect, Counter())[entry.key] += entry.amount
        statement.times[effect, entry.key] += 1
        order = name_of(entry.subject)
        statement.by_order.setdefault(effect, Counter())[order] += entry.amount
        statement.subjects.add(entry.subject)
        statement.orders[entry.key] = order
        # A refused reversal has no effect.
        if entry.target and effect != "refused":
            statement.reversed.add(entry.target)
    return statement
