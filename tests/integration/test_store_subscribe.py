"""The contract of semantics.md, rules 18 and 20: following the log.

The hazard: an event that falls between catching up and waiting, and a wait that
nothing ends. (Rule 19 speaks of several processes, which one store can't have yet.)
"""

from __future__ import annotations

import anyio
import pytest

import eventbraid as eb
from tests.contract.asking import filled, first, listed
from tests.contract.backends import NAMES, backends

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", NAMES)]


@pytest.fixture
async def store(backend, tmp_path, anyio_backend):
    async with backends(tmp_path)[backend].open() as opened:
        yield opened


async def test_rule_18_a_subscriber_sees_old_and_new_events_once_and_in_order(store):
    await filled(store, "a", "b")
    async with anyio.create_task_group() as tasks, store.subscribe() as subscription:
        tasks.start_soon(filled, store, *["c"] * 100)
        seen = await first(102, subscription)
    assert [recorded.position for recorded in seen] == list(range(1, 103))


async def test_rule_18_a_slow_subscriber_loses_nothing(store):
    async with store.subscribe() as subscription:
        await filled(store, "a")
        await first(1, subscription)
        for _ in range(4):
            await store.append([("a", "x", b"")] * 1000)
        seen = await first(4000, subscription)
    assert [recorded.position for recorded in seen] == list(range(2, 4002))


async def test_rule_18_a_subscription_begins_behind_a_position(store):
    await filled(store, "a", "b", "c")
    async with store.subscribe(after=1) as subscription:
        assert [r.position for r in await first(2, subscription)] == [2, 3]


async def test_rule_18_after_the_head_only_new_events_come(store):
    await filled(store, "a", "b")
    async with store.subscribe(after=await store.head()) as subscription:
        await filled(store, "c")
        [recorded] = await first(1, subscription)
    assert (recorded.stream, recorded.position) == ("c", 3)


async def test_rule_18_a_filter_moves_the_place_in_the_log_too(store):
    await filled(store, *["noise"] * 500)
    async with store.subscribe(category="order") as subscription:
        async with anyio.create_task_group() as tasks:

            async def write():
                await filled(store, *["noise"] * 50, "order-1", "noise")

            tasks.start_soon(write)
            [recorded] = await first(1, subscription)
        assert recorded.position == 551
        assert subscription.position >= 551


async def test_rule_18_the_place_is_where_a_later_subscription_goes_on(store):
    await filled(store, *["a"] * 10)
    async with store.subscribe() as subscription:
        await first(4, subscription)
        place = subscription.position
    assert place == 4
    async with store.subscribe(after=place) as subscription:
        assert [r.position for r in await first(6, subscription)] == list(range(5, 11))
        assert subscription.position == 10


async def test_rule_20_closing_ends_a_blocked_wait_at_once(store):
    subscription = store.subscribe()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            arrived = anyio.Event()

            async def follow():
                async for _ in subscription:
                    arrived.set()

            tasks.start_soon(follow)
            await filled(store, "a")
            await arrived.wait()
            subscription.close()
    assert await listed(subscription) == []


async def test_rule_20_closing_the_store_ends_a_blocked_wait(backend, tmp_path):
    async with backends(tmp_path)[backend].open() as store:
        subscription = store.subscribe()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                errors = []

                async def follow():
                    try:
                        await listed(subscription)
                    except eb.StoreClosed as error:
                        errors.append(error)

                tasks.start_soon(follow)
                await anyio.sleep(0.02)
                await store.close()
        assert len(errors) == 1
