"""The shop: a log, the services it calls, and a saga for each order."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import eventbraid as eb

from .fulfilment import USUAL_PATIENCE, Fulfilment, Patience, order_fulfilment
from .inventory import ReceiveStock
from .values import ProductId, Quantity, SagaId

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from .orders import PlacedOrder
    from .services.suite import Services

OPENING = "opening"


@dataclass(frozen=True, slots=True)
class Shop:
    """Takes stock and orders; made by `open_shop`.

    Attributes:
        store: The shop's log.
        services: Whom it calls.
        saga: How it fulfils an order.
        coordinator: Drives the sagas, also those that an earlier run left.
    """

    store: eb.AsyncEventStore
    services: Services
    saga: eb.Saga[Fulfilment]
    coordinator: eb.SagaCoordinator

    async def receive(
        self, products: Iterable[ProductId], quantity: Quantity, *, delivery: str
    ) -> None:
        """Take in as many pieces of each product; a delivery counts once."""
        await receive(self.store, products, quantity, delivery=delivery)

    async def fulfil(self, placed: PlacedOrder) -> eb.Ended[Fulfilment]:
        """Fulfil an order to its end: completed, compensated, or stuck.

        An order that is known is not started again: its end is waited for.
        """
        handle = await self.coordinator.start(
            self.saga, Fulfilment(placed), id=SagaId.of(placed.order)
        )
        return await handle.result()

    async def finish(self) -> list[str]:
        """Wait for all orders under way, also those that an earlier run left.

        Returns:
            The sagas that wait for a person, or for a program that knows them.
        """
        waiting: list[str] = []
        for summary in await self.coordinator.list():
            if summary.parked:
                waiting.append(summary.id)
                continue
            handle = await self.coordinator.get(self.saga, summary.id)
            ended = await handle.result()
            if ended.outcome is eb.Outcome.STUCK:
                waiting.append(summary.id)
        return waiting


async def receive(
    store: eb.AsyncEventStore,
    products: Iterable[ProductId],
    quantity: Quantity,
    *,
    delivery: str,
) -> None:
    """Take in as many pieces of each product; a delivery counts once."""
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
    patience: Patience = USUAL_PATIENCE,
    concurrency: int = 256,
) -> AsyncGenerator[Shop]:
    """Open the shop, and go on with all that an earlier run left undone.

    Args:
        store: The shop's log.
        services: Whom it calls.
        patience: How long and how often it tries.
        concurrency: How many orders are under way at once.
    """
    saga = order_fulfilment(services, patience)
    async with eb.SagaCoordinator(
        store, [saga], concurrency=concurrency
    ) as coordinator:
        yield Shop(store, services, saga, coordinator)
