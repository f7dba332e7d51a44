"""Each order that was taken gets its saga, once, however often this is started.

The web workers only record that an order was taken, and know nothing of sagas. Whoever
fulfils orders follows the log, as everybody else who is interested in them may.
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

# Starts share flushes of the disk as all commits do, so some are under way at once.
_STARTS_AT_ONCE = 64


async def fulfil_orders(shop: Shop, bookmark: Bookmark) -> None:
    """Start the saga of each order behind the bookmark, then of each that comes.

    Returns only when it is cancelled. While as many sagas are at work as the shop's
    coordinator takes, further orders wait in the log.
    """
    places = anyio.Semaphore(_STARTS_AT_ONCE)

    async def start(order: OrderId, submitted: OrderSubmitted, position: int) -> None:
        try:
            await _start_saga(shop, order, submitted)
            await bookmark.done(position)
        finally:
            places.release()

    async with (
        shop.store.subscribe(
            after=bookmark.position, types=("order.submitted",)
        ) as orders,
        anyio.create_task_group() as starts,
    ):
        async for recorded in orders:
            await places.acquire()
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
    except eb.SagaExists:
        # One order that somebody else meddled with must not stop all others.
        _log.exception("%s is left to a person", order)
