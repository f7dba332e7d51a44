"""All services, simulated: with ledgers on disk or in memory."""

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
    """The parameters of the simulated services.

    Attributes:
        rates: The rate of each failure.
        seed: The seed of all random choices.
        late_by: The duration of a late call in seconds; longer than the callers'
            timeout.
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
        """The rule of the gateway."""
        rule = payment_rule(declined=self.rates.declined, seed=self.seed)
        if not self.double_charged:
            return rule
        return double_charging(rule, rate=self.double_charged, seed=self.seed)

    @property
    def shipping_rule(self) -> Rule:
        """The rule of the carrier."""
        return shipping_rule(unserved=self.rates.unserved, seed=self.seed)

    def services(self, *, payments: Ledger, shipping: Ledger) -> Services:
        """Build services that keep these ledgers."""
        return Services(
            SimulatedPaymentGateway(self._network(payments)),
            SimulatedCarrier(self._network(shipping)),
            SimulatedNotifier(unreachable=self.rates.unreachable, seed=self.seed),
        )

    def services_in_memory(self) -> Services:
        """Build services with ledgers in memory."""
        return self.services(
            payments=MemoryLedger(self.payment_rule),
            shipping=MemoryLedger(self.shipping_rule),
        )

    @asynccontextmanager
    async def services_on_disk(self, directory: Path) -> AsyncGenerator[Services]:
        """Open services with ledgers on disk.

        Args:
            directory: The directory of the ledgers; it must exist.
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
    """Iterate over the entries of the gateway's ledger on disk."""
    return read_entries(directory / PAYMENTS)


def shipping_entries(directory: Path) -> Iterator[Entry]:
    """Iterate over the entries of the carrier's ledger on disk."""
    return read_entries(directory / SHIPPING)
