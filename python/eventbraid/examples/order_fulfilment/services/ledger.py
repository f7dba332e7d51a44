"""The ledger of a service: an entry for each request, written before the answer.

A ledger belongs to the service, not to the shop: the log has the answers that the shop
received, the ledger has the effects. Reconciliation compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to a service.

    Attributes:
        key: The caller's idempotency key: it takes effect once, however often it is
            sent.
        action: The action, in the service's own terms.
        subject: The payment or shipment that it is about.
        amount: Cents or pieces; 0 where the action has none.
        target: The key of the request that this one reverses; empty if there is none.
    """

    key: str
    action: str
    subject: str
    amount: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """The effect of a request.

    Attributes:
        key: The request's idempotency key.
        effect: The effect, in the service's own terms.
        subject: The payment or shipment that it is about.
        amount: The number of cents or pieces.
        target: The key of the request that was reversed, if any.
        reference: The service's own reference.
    """

    key: str
    effect: str
    subject: str
    amount: int
    target: str = ""
    reference: str = ""


Rule = Callable[[Request, Sequence[Entry]], Iterable[Entry]]
"""Returns the entries that a request adds to those of its subject; none for a key
that has an entry."""


class Ledger(Protocol):
    """A ledger; an answer is given only after its entry is kept."""

    async def post(self, request: Request, *, delay: float = 0.0) -> Entry:
        """Apply the service's rule to a request, and return the entry under its key.

        Args:
            request: The request.
            delay: Seconds before the request arrives. It arrives even if the caller
                does not wait for it.
        """
        ...

    def entries(self) -> Iterator[Entry]:
        """Iterate over all entries, in the order in which they were made."""
        ...


def settle(rule: Rule, request: Request, history: list[Entry]) -> list[Entry]:
    """Apply a rule, add the new entries to the history, and return them."""
    new = list(rule(request, history))
    history.extend(new)
    return new


def answer(request: Request, history: Sequence[Entry]) -> Entry:
    """Return the first entry under the request's key.

    Raises:
        LookupError: The rule returned no entry for a new key.
    """
    for entry in history:
        if entry.key == request.key:
            return entry
    raise LookupError(f"the rule left the request {request.key!r} without an answer")
