"""The services that the benchmark's orders call, simulated in this process.

Each keeps a ledger by idempotency key: in memory, so that the store alone is measured,
or in an event store of its own, so that a call takes as long as a durable write.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

import anyio.lowlevel

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


class Refused(Exception):
    """A service refused a request; another attempt would be refused, too."""


class Ledger(Protocol):
    """Where a service records what it did."""

    async def record(self, action: str, subject: str, key: str) -> str:
        """Record an action once for each key, and return its reference."""
        ...


class MemoryLedger:
    """A ledger in a dictionary."""

    def __init__(self) -> None:
        self._references: dict[str, str] = {}

    async def record(self, action: str, subject: str, key: str) -> str:
        """Record an action after one turn of the event loop."""
        await anyio.lowlevel.checkpoint()
        return self._references.setdefault(key, _reference(action, subject))


class StoreLedger:
    """A ledger in an event store of its own; concurrent calls share a flush."""

    def __init__(self, store: eb.AsyncEventStore) -> None:
        self._store = store

    async def record(self, action: str, subject: str, key: str) -> str:
        """Record an action durably."""
        reference = _reference(action, subject)
        event = eb.NewEvent(subject, f"ledger.{action}", reference.encode())
        await self._store.append([event], idempotency_key=key)
        return reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The payment service, the carrier and the notifier.

    Attributes:
        ledger: Where they record what they did.
        refused: For each action the share of orders that it is refused to, the same
            orders in each run.
    """

    ledger: Ledger
    refused: dict[str, float]

    async def call(self, action: str, subject: str, key: str) -> str:
        """Record a request once for each key, and return its reference.

        Raises:
            Refused: For some subjects, always.
        """
        rate = self.refused.get(action, 0.0)
        if rate and crc32(f"{action}/{subject}".encode()) < rate * (1 << 32):
            await anyio.lowlevel.checkpoint()
            raise Refused(f"{action} of {subject} is refused")
        return await self.ledger.record(action, subject, key)


def services_in_memory() -> Services:
    """Build services that refuse nothing and write nothing to a disk."""
    return Services(ledger=MemoryLedger(), refused={})


@asynccontextmanager
async def services_on_disk(
    path: Path, *, refused: dict[str, float]
) -> AsyncGenerator[Services]:
    """Open services whose ledger is durable before it answers.

    Args:
        path: Where the ledger's store is made.
        refused: For each action the share of orders that it is refused to.
    """
    async with eb.open_async(path) as store:
        yield Services(ledger=StoreLedger(store), refused=refused)


def _reference(action: str, subject: str) -> str:
    return f"{action.upper()}-{subject}"
