"""What a service keeps of each request, before it answers: its own truth.

A ledger belongs to the service, not to the shop: the shop's log says what the shop
believes, the ledger says what happened. Reconciliation holds one against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a service is asked to do.

    Attributes:
        key: The caller's idempotency key: one key, one effect, however often it comes.
        action: What to do, in the service's own word.
        subject: The payment or shipment that it is about.
        amount: Cents or pieces; 0 where the action has none.
        target: The key of the request that this one undoes; empty if it undoes none.
    """

    key: str
    action: str
    subject: str
    amount: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a service did.

    Attributes:
        key: The request's idempotency key.
        effect: What happened, in the service's own word.
        subject: The payment or shipment that it happened to.
        amount: Cents or pieces that moved.
        target: The key of the request that was undone, if any.
        reference: The service's own number for it.
    """

    key: str
    effect: str
    subject: str
    amount: int
    target: str = ""
    reference: str = ""


Rule = Callable[[Request, Sequence[Entry]], Iterable[Entry]]
"""What a request adds to the entries on its subject; nothing if its key is there."""


class Ledger(Protocol):
    """Keeps entries; each answer stands on what was kept."""

    async def post(self, request: Request, *, delay: float = 0.0) -> Entry:
        """Apply the service's rule to a request and answer the entry under its key.

        Args:
            request: What is asked.
            delay: Seconds before the request arrives. It arrives even when the caller
                does not wait for it.
        """
        ...

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order in which they were made."""
        ...


def settle(rule: Rule, request: Request, history: list[Entry]) -> list[Entry]:
    """Apply a rule, add what is new to the history, and answer what is new."""
    new = list(rule(request, history))
    history.extend(new)
    return new


def answer(request: Request, history: Sequence[Entry]) -> Entry:
    """The first entry under the request's key.

    Raises:
        LookupError: The rule answered nothing to a key that it had not seen.
    """
    for entry in history:
        if entry.key == request.key:
            return entry
    raise LookupError(f"the rule left the request {request.key!r} without an answer")
