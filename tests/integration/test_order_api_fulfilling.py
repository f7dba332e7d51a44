"""Orders that were taken get their sagas: each, once, also after an end in between.

The hazards: a bookmark that is ahead of an order whose saga was not begun, and one bad
order that keeps all others waiting.
"""

from __future__ import annotations

import logging

import anyio
import pytest

import eventbraid as eb
from eventbraid.examples.order_api import bookmark as bookmarks
from eventbraid.examples.order_api.bookmark import Bookmark
from eventbraid.examples.order_api.fulfilling import fulfil_orders
from eventbraid.examples.order_api.intake import parsed_order
from eventbraid.examples.order_api.placing import submission
from eventbraid.examples.order_fulfilment.services.rates import NO_TROUBLE
from eventbraid.examples.order_fulfilment.services.simulation import Simulation
from eventbraid.examples.order_fulfilment.shop import open_shop
from eventbraid.examples.order_fulfilment.values import (
    OrderId,
    ProductId,
    Quantity,
    SagaId,
)
from tests.orders import an_order

pytestmark = pytest.mark.anyio

ENDS = ("saga.completed", "saga.compensated")
ORDERS = [OrderId(f"order-{number}") for number in range(40)]


@pytest.fixture
async def store(anyio_backend):
    async with eb.open_async("memory:") as opened:
        yield opened


async def take(store, *orders):
    executor = eb.AsyncExecutor(store)
    for order in orders:
        await executor.execute(submission(order, parsed_order(an_order())))


async def ends(store):
    return [one.stream async for one in store.read_all(types=ENDS)]


@pytest.fixture
def services():
    """Whom the shop calls; their books outlive each run, as those of others do."""
    return Simulation(rates=NO_TROUBLE).services_in_memory()


async def fulfil_until_ended(store, services, count):
    """Fulfil orders until a number of them have ended, then cancel the rest."""
    async with open_shop(store, services) as shop:
        await shop.receive([ProductId("product-001")], Quantity(1_000), delivery="test")
        bookmark = await Bookmark.find(store)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fulfil_orders, shop, bookmark)
            with anyio.fail_after(60):
                await until_ended(store, count)
            tasks.cancel_scope.cancel()
        await bookmark.save()
    return bookmark.position


async def until_ended(store, count):
    async with store.subscribe(types=ENDS) as subscription:
        seen = 0
        while seen < count:
            await anext(subscription)
            seen += 1


@pytest.mark.parametrize("orders_per_record", [1, 7, 1_000])
async def test_each_order_gets_one_saga_however_often_it_is_begun(
    store, services, monkeypatch, orders_per_record
):
    monkeypatch.setattr(bookmarks, "_ORDERS_PER_RECORD", orders_per_record)
    await take(store, *ORDERS[:20])
    read = [await fulfil_until_ended(store, services, count) for count in (1, 10, 20)]
    await take(store, *ORDERS[20:])
    read.append(await fulfil_until_ended(store, services, 40))
    assert read == sorted(read)
    assert sorted(await ends(store)) == sorted(SagaId.of(order) for order in ORDERS)
    started = [one.stream async for one in store.read_all(types=("saga.started",))]
    assert len(started) == len(set(started)) == 40


async def test_an_order_that_was_meddled_with_is_left_and_the_others_go_on(
    store, services, caplog
):
    await store.append([(SagaId.of(ORDERS[0]), "somebody.else", b"{}")])
    await take(store, *ORDERS[:5])
    with caplog.at_level(logging.ERROR):
        await fulfil_until_ended(store, services, 4)
    assert "the saga of order-0 can't be started" in caplog.text
    assert sorted(await ends(store)) == [SagaId.of(order) for order in ORDERS[1:5]]


async def test_the_bookmark_never_passes_an_unfinished_order(store):
    await store.append([("other", "x", b"{}")] * 20)
    bookmark = await Bookmark.find(store)
    assert bookmark.position == 0
    for position in (3, 8, 9):
        bookmark.take(position)
    read = [bookmark.position]
    for position in (8, 9, 3):
        await bookmark.done(position)
        read.append(bookmark.position)
    assert read == [2, 2, 2, 9]
    await bookmark.save()
    await bookmark.save()
    assert (await Bookmark.find(store)).position == 9
    assert await store.version(bookmarks.STREAM) == 1


async def test_a_save_that_was_cancelled_is_made_up_for_by_the_next(store):
    await store.append([("other", "x", b"{}")] * 20)
    bookmark = await Bookmark.find(store)
    bookmark.take(9)
    await bookmark.done(9)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await bookmark.save()
    await bookmark.save()
    assert (await Bookmark.find(store)).position == 9
