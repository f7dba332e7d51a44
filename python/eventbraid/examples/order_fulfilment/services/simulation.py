"""All services together, simulated: with ledgers on disk, or in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .carrier import SimulatedCarrier, shipping_rule
from .memory_ledger import MemoryLedger
from .network import Network
from .notifier import SimulatedNotifier
from .payment_gateway import (
    SimulatedPaymentGateway,
    double_charging,
    payment_rule,
)
from .rates import USUAL_TROUBLE, Rates
from .sqlite_ledger import SqliteLedger, read_entries
from .suite import Services

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from .ledger import Entry, Ledger, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """How the simulated services behave.

    Attributes:
        rates: How often what goes wrong.
        seed: Which of the equally likely courses of events this is.
        late_by: How many seconds a late call takes: more than callers wait.
        double_charged: The share of captures that a faulty gateway makes twice.

    Example:
        >>> Simulation(seed=7).double_charged
        0.0
    """

    rates: Rates = USUAL_TROUBLE
    seed: int = 0
    late_by: float = 3.0
    double_charged: float = 0.0

    @property
    def payment_rule(self) -> Rule:
        """What the gateway does with a request."""
        rule = payment_rule(declined=self.rates.declined, seed=self.seed)
        if not self.double_charged:
            return rule
        return double_charging(rule, rate=self.double_charged, seed=self.seed)

    @property
    def shipping_rule(self) -> Rule:
        """What the carrier does with a request."""
        return shipping_rule(unserved=self.rates.unserved, seed=self.seed)

    def services(self, *, payments: Ledger, shipping: Ledger) -> Services:
        """The services that keep these ledgers."""
        return Services(
            SimulatedPaymentGateway(self._network(payments)),
            SimulatedCarrier(self._network(shipping)),
            SimulatedNotifier(unreachable=self.rates.unreachable, seed=self.seed),
        )

    def services_in_memory(self) -> Services:
        """Services whose ledgers are gone with the process."""
        return self.services(
            payments=MemoryLedger(self.payment_rule),
            shipping=MemoryLedger(self.shipping_rule),
        )

    @asynccontextmanager
    async def services_on_disk(self, directory: Path) -> AsyncGenerator[Services]:
        """Services whose ledgers are files of their own.

        Args:
            directory: Where the ledgers are; it exists.
        """
        payments = SqliteLedger(directory / PAYMENTS, self.payment_rule)
        shipping = SqliteLedger(directory / SHIPPING, self.shipping_rule)
        async with payments, shipping:
            yield self.services(payments=payments, shipping=shipping)

    def _network(self, ledger: Ledger) -> Network:
        return Network(ledger, self.rates, seed=self.seed, late_by=self.late_by)


PAYMENTS = "payments.sqlite"
SHIPPING = "shipping.sqlite"


def payment_entries(directory: Path) -> Iterator[Entry]:
    """All entries of the gateway's ledger on disk."""
    return read_entries(directory / PAYMENTS)


def shipping_entries(directory: Path) -> Iterator[Entry]:
    """All entries of the carrier's ledger on disk."""
    return read_entries(directory / SHIPPING)
