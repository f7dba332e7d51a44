"""Starts the saga of each order, once, however often the process is started.

The web workers only record that an order was submitted, and don't use sagas. A
coordinator reads the orders from the log, as any other program can.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import anyio

import eventbraid as eb

from ..order_fulfilment.fulfilment import Fulfilment
from ..order_fulfilment.orders import OrderSubmitted, PlacedOrder
from ..order_fulfilment.values import OrderId, SagaId

if TYPE_CHECKING:
    from ..order_fulfilment.shop import Shop
    from .bookmark import Bookmark

_log = logging.getLogger(__name__)

# Concurrent starts share syncs of the disk, as all commits do.
_CONCURRENT_STARTS = 64


async def fulfil_orders(shop: Shop, bookmark: Bookmark) -> None:
    """Start the saga of each order after the bookmark, then of each new order.

    Runs until it is cancelled. While the shop's coordinator has its maximum number of
    sagas in progress, further orders wait in the log.
    """
    permits = anyio.Semaphore(_CONCURRENT_STARTS)

    async def start(order: OrderId, submitted: OrderSubmitted, position: int) -> None:
        try:
            await _start_saga(shop, order, submitted)
            await bookmark.done(position)
        finally:
            permits.release()

    async with (
        shop.store.subscribe(
            after=bookmark.position, types=("order.submitted",)
        ) as orders,
        anyio.create_task_group() as starts,
    ):
        async for recorded in orders:
            await permits.acquire()
            submitted = cast("OrderSubmitted", eb.decode_event(recorded))
            bookmark.take(recorded.position)
            starts.start_soon(
                start, OrderId(recorded.stream), submitted, recorded.position
            )


async def _start_saga(shop: Shop, order: OrderId, submitted: OrderSubmitted) -> None:
    placed = PlacedOrder(
        order=order,
        customer=submitted.customer,
        items=submitted.items,
        address=submitted.address,
        method=submitted.method,
    )
    try:
        await shop.coordinator.start(shop.saga, Fulfilment(placed), id=SagaId.of(order))
    except eb.errors.SagaExists:
        # Another program used the saga's id: this must not stop all other orders.
        _log.exception(
            "the saga of %s can't be started; an operator must decide", order
        )
