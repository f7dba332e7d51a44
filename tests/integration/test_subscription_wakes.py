"""A commit wakes the subscriptions that it concerns, and no other; none misses an event.

The hazard: every commit wakes every subscription, so that thousands of idle ones slow all
commits down; or a subscription that is left asleep misses an event, or doesn't move on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import eventbraid as eb
from eventbraid.store import _subscription
from tests.peers import peers

TIMEOUT = 60
IDLE = 2_000
CATEGORIES = 4

FILTERS = {
    "stream": {"stream": "idle-1"},
    "category": {"category": "idle"},
    "prefix": {"prefix": "idle"},
    "types": {"types": ["none"]},
    "all": {"prefix": "i", "category": "idle", "types": ["none", "never"]},
}


@pytest.fixture
def reads(monkeypatch):
    """How often each subscription has read the log."""
    counts = Counter()

    def counted(original):
        def more(self):
            counts[id(self)] += 1
            return original(self)

        return more

    for kind in (_subscription.Subscription, _subscription.AsyncSubscription):
        monkeypatch.setattr(kind, "_more", counted(kind._more))
    return counts


def until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def until_async(condition):
    with anyio.fail_after(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.001)


@pytest.mark.anyio
async def test_a_commit_wakes_no_subscription_whose_filter_leaves_it_out(reads):
    async with eb.open_async("memory:") as store:
        await store.append([("busy-1", "x", b"")])
        filters = [*FILTERS.values()]
        idle = [store.subscribe(**filters[i % len(filters)]) for i in range(IDLE)]
        busy = store.subscribe(category="busy")

        async def follow(subscription):
            async for recorded in subscription:
                pytest.fail(f"{recorded} does not match")

        async with anyio.create_task_group() as tasks:
            for subscription in idle:
                tasks.start_soon(follow, subscription)
            assert (await anext(busy)).position == 1
            # A wait that has passed the first event is registered.
            await until_async(lambda: min(one._waiting.passed for one in idle) == 1)
            before = [reads[id(one)] for one in idle]
            for position in range(2, 12):
                await store.append([("busy-1", "x", b"")])
                assert (await anext(busy)).position == position
            # And none stays where it was, for a later start after its position.
            await until_async(lambda: {one.position for one in idle} == {11})
            assert [reads[id(one)] for one in idle] == before
            for subscription in idle:
                subscription.close()


def test_a_commit_wakes_no_thread_whose_filter_leaves_it_out(reads):
    with eb.open("memory:") as store:
        idle = [store.subscribe(**wanted) for wanted in FILTERS.values()]
        threads = [threading.Thread(target=next, args=(one, None)) for one in idle]
        for thread in threads:
            thread.start()
        store.append([("busy-1", "x", b"")])
        # A wait that has passed the first event is registered.
        until(lambda: min(one._waiting.passed for one in idle) == 1)
        busy = store.subscribe(after=1, category="busy")
        before = [reads[id(one)] for one in idle]
        for position in range(2, 12):
            store.append([("busy-1", "x", b"")])
            assert next(busy).position == position
        until(lambda: {one.position for one in idle} == {11})
        assert [reads[id(one)] for one in idle] == before
        for subscription in idle:
            subscription.close()
            assert subscription.position == 11
        for thread in threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()


@pytest.mark.anyio
async def test_a_cancelled_wait_keeps_the_position_that_it_came_to():
    async with eb.open_async("memory:") as store:
        subscription = store.subscribe(category="idle")
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anext, subscription)
                await anyio.wait_all_tasks_blocked()
                await store.append([("busy-1", "x", b"")] * 3)
                tasks.cancel_scope.cancel()
        assert subscription.position == 3
        await store.append([("busy-1", "x", b""), ("idle-1", "x", b"")])
        with anyio.fail_after(TIMEOUT):
            assert (await anext(subscription)).position == 5


@pytest.mark.anyio
async def test_a_wake_up_reads_on_after_what_does_not_match():
    async with eb.open_async("memory:") as store:
        subscription, got = store.subscribe(category="idle"), []

        async def follow():
            async for recorded in subscription:
                got.append(recorded.position)  # noqa: PERF401 - it never ends

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for number in range(1, 201):
                category = "idle" if number % 50 == 0 else "busy"
                await store.append([(f"{category}-1", "x", b"")])
            await until_async(lambda: len(got) == 4)
            tasks.cancel_scope.cancel()
        assert got == [50, 100, 150, 200]


_WRITES = (
    "[store.append([(f'c{(i * 7 + j) % 4}-1', f't{i % 2}', b'')"
    " for j in range(i % 3 + 1)]) for i in range(400)] and None"
)


def _expected(store, wanted):
    return [recorded.position for recorded in store.read_all(**wanted)]


def _wanted():
    by_category = [{"category": f"c{number}"} for number in range(CATEGORIES)]
    others = [{"types": ["t1"]}, {"prefix": "c"}, {"stream": "c0-1"}]
    return [*by_category, *others, {"category": "c0", "types": ["t0"]}, {}]


@pytest.mark.timeout(120)
def test_threads_get_each_matching_event_of_several_processes_once(tmp_path):
    path = tmp_path / "store"
    with eb.open(path) as store, peers(path, 3) as writers:
        subscriptions = [(store.subscribe(**wanted), wanted) for wanted in _wanted()]
        positions, is_over = [], threading.Event()

        def follow(subscription):
            return [recorded.position for recorded in subscription]

        def observe():
            latest = [0] * len(subscriptions)
            while not is_over.is_set():
                now = [one.position for one, _ in subscriptions]
                positions.append(all(a <= b for a, b in zip(latest, now, strict=True)))
                latest = now

        with ThreadPoolExecutor(len(subscriptions) + 1) as pool:
            followers = [pool.submit(follow, one) for one, _ in subscriptions]
            observer = pool.submit(observe)
            for writer in writers:
                writer.tell(_WRITES)
            for writer in writers:
                assert writer.answer() is None
            head = store.head()
            until(lambda: min(one.position for one, _ in subscriptions) == head)
            is_over.set()
            for one, _ in subscriptions:
                one.close()
            observer.result(TIMEOUT)
            for follower, (_, wanted) in zip(followers, subscriptions, strict=True):
                assert follower.result(TIMEOUT) == _expected(store, wanted)
        assert all(positions), "a position went back"


@pytest.mark.timeout(120)
@pytest.mark.anyio
async def test_tasks_get_each_matching_event_of_several_processes_once(tmp_path):
    path = tmp_path / "store"
    with eb.open(path) as store, peers(path, 3) as writers:
        face = store.as_async()
        got = [([], face.subscribe(**wanted), wanted) for wanted in _wanted() * 5]

        async def follow(positions, subscription):
            async for recorded in subscription:
                positions.append(recorded.position)

        async with anyio.create_task_group() as tasks:
            for positions, subscription, _ in got:
                tasks.start_soon(follow, positions, subscription)
            for writer in writers:
                writer.tell(_WRITES)
            for writer in writers:
                assert await anyio.to_thread.run_sync(writer.answer) is None
            head = await face.head()
            await until_async(lambda: min(one.position for _, one, _ in got) == head)
            for _, subscription, _ in got:
                subscription.close()
        for positions, _, wanted in got:
            assert positions == _expected(store, wanted)
