"""The shop: a log, the services it calls, and a saga for each order."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import eventbraid as eb

from .fulfilment import DEFAULT_LIMITS, CallLimits, Fulfilment, order_fulfilment
from .inventory import ReceiveStock
from .values import ProductId, Quantity, SagaId

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from .orders import PlacedOrder
    from .services.suite import Services

OPENING = "opening"


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that receives stock and fulfils orders; `open_shop` opens it.

    Attributes:
        store: The shop's log.
        services: The services that it calls.
        saga: The saga that fulfils an order.
        coordinator: Drives the sagas, those of an earlier run too.
    """

    store: eb.AsyncEventStore
    services: Services
    saga: eb.Saga[Fulfilment]
    coordinator: eb.SagaCoordinator

    async def receive(
        self, products: Iterable[ProductId], quantity: Quantity, *, delivery: str
    ) -> None:
        """Record a delivery of each product, once for each name of a delivery."""
        await receive(self.store, products, quantity, delivery=delivery)

    async def fulfil(self, placed: PlacedOrder) -> eb.saga.SagaResult[Fulfilment]:
        """Fulfil an order, and wait until it is completed, compensated or stuck.

        An order that was started before is not started again.
        """
        handle = await self.coordinator.start(
            self.saga, Fulfilment(placed), id=SagaId.of(placed.order)
        )
        return await handle.result()

    async def finish(self) -> list[str]:
        """Wait for all orders in progress, those of an earlier run too.

        Returns:
            The ids of the sagas that need attention.
        """
        waiting: list[str] = []
        for summary in await self.coordinator.list():
            if summary.blocked:
                waiting.append(summary.id)
                continue
            handle = await self.coordinator.get(self.saga, summary.id)
            result = await handle.result()
            if result.outcome is eb.SagaOutcome.STUCK:
                waiting.append(summary.id)
        return waiting


async def receive(
    store: eb.AsyncEventStore,
    products: Iterable[ProductId],
    quantity: Quantity,
    *,
    delivery: str,
) -> None:
    """Record a delivery of each product, once for each name of a delivery."""
    executor = eb.AsyncExecutor(store)
    for product in products:
        await executor.execute(
            ReceiveStock(product=product, quantity=quantity, delivery=delivery),
            idempotency_key=f"{delivery}/{product}",
        )


@asynccontextmanager
async def open_shop(
    store: eb.AsyncEventStore,
    services: Services,
    *,
    limits: CallLimits = DEFAULT_LIMITS,
    concurrency: int = 256,
) -> AsyncGenerator[Shop]:
    """Open the shop, and resume the orders that an earlier run left unfinished.

    Args:
        store: The shop's log.
        services: The services that it calls.
        limits: The timeouts and retries of these calls.
        concurrency: The maximum number of orders in progress.
    """
    saga = order_fulfilment(services, limits)
    async with eb.SagaCoordinator(
        store, [saga], concurrency=concurrency
    ) as coordinator:
        yield Shop(store, services, saga, coordinator)
