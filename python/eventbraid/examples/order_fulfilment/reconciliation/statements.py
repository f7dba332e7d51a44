"""What happened: the ledgers of the payment gateway and the carrier, entry by entry."""

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
    """What one ledger says.

    Attributes:
        amounts: By effect, then by the key of the call, how much moved.
        times: By effect and key, how often that effect took place.
        by_order: By effect, then by order, how much moved.
        subjects: The payments or shipments that anything happened to.
        orders: By the key of the call, the order that it was for.
        undone: The keys of the calls that were undone.
    """

    amounts: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    times: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    by_order: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    subjects: set[str] = field(default_factory=set[str])
    orders: dict[str, str] = field(default_factory=dict[str, str])
    undone: set[str] = field(default_factory=set[str])

    def moved(self, effect: str) -> Counter[str]:
        """How much moved under each key."""
        return self.amounts.get(effect, Counter())

    def moved_for(self, effect: str) -> Counter[str]:
        """How much moved for each order."""
        return self.by_order.get(effect, Counter())

    def open_for(self, effect: str) -> Counter[str]:
        """How many calls that had the effect were not undone, for each order."""
        keys = self.moved(effect).keys() - self.undone
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
        # A request to undo that was refused undid nothing.
        if entry.target and effect != "refused":
            statement.undone.add(entry.target)
    return statement
