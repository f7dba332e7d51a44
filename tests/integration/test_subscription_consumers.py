"""A subscription has one consumer at a time: threads take turns, a second task is refused.

The hazard: two consumers of one subscription read the same page, and each event reaches
both of them, or an event reaches none.
"""

from __future__ import annotations

import threading
from collections import Counter

import anyio
import pytest

import eventbraid as eb

EVENTS = 10_000
PATIENCE = 30


@pytest.fixture
def store():
    with eb.open("memory:") as store:
        for _ in range(EVENTS // 500):
            store.append([("a", "x", b"")] * 500)
        yield store


def test_threads_get_each_event_once_between_them(store):
    got, everything = [], threading.Event()
    subscription = store.subscribe()

    def consume():
        for recorded in subscription:
            got.append(recorded.position)
            if len(got) >= EVENTS + 1:
                everything.set()

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    # They wait by now, or soon: one for the log, and the others for their turn.
    store.append([("a", "x", b"")])
    assert everything.wait(PATIENCE)
    subscription.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert Counter(got) == dict.fromkeys(range(1, EVENTS + 2), 1)
    assert subscription.position == EVENTS + 1


def test_a_thread_that_waits_for_its_turn_is_ended_by_close(store):
    subscription = store.subscribe(after=store.head())
    threads = [
        threading.Thread(target=next, args=(subscription, None)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    subscription.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.anyio
async def test_a_second_task_is_refused_and_disturbs_nothing(store):
    face = store.as_async()
    refused, got, is_refused = [], [], anyio.Event()
    async with face.subscribe() as subscription:

        async def consume():
            try:
                async for recorded in subscription:
                    got.append(recorded.position)
                    if len(got) == EVENTS + 1:
                        subscription.close()
            except RuntimeError as error:
                refused.append(error)
                is_refused.set()

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume)
                tasks.start_soon(consume)
                await is_refused.wait()
                await face.append([("a", "x", b"")])
    assert got == [*range(1, EVENTS + 2)]
    assert "another task" in str(refused[0])


@pytest.mark.anyio
async def test_a_cancelled_wait_leaves_the_place_where_it_was(store):
    face = store.as_async()
    async with face.subscribe(after=EVENTS) as subscription:
        for number in range(20):
            with anyio.move_on_after(0.001 * (number % 3)):
                await anext(subscription)
                pytest.fail("there is no event yet")
        await face.append([("a", "x", b"")] * 2)
        with anyio.fail_after(PATIENCE):
            assert (await anext(subscription)).position == EVENTS + 1
            assert (await anext(subscription)).position == EVENTS + 2


def test_threads_that_share_a_read_are_refused_or_get_each_event_once(store):
    read, got, refused = store.read_all(), [], []

    def consume():
        try:
            got.extend(recorded.position for recorded in read)
        except ValueError as error:
            refused.append(error)

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(got) == [*range(1, EVENTS + 1)]
