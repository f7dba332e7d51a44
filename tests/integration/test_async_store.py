"""Async calls use no thread each, block no loop, and report the outcome when cancelled.

The hazard: an event loop that waits for the disk, a thousand threads instead of a thousand
tasks, and a cancelled append that is mistaken for a refused one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import select
import threading
import time
import weakref
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import trio

import eventbraid as eb
from eventbraid._native import CompletionPort
from tests.contract import programs
from tests.contract.asking import first, listed
from tests.contract.loops import ASYNCIO, TRIO, UVLOOP

IN_FLIGHT = 1000


@pytest.fixture(params=[ASYNCIO, UVLOOP, TRIO])
def anyio_backend(request):
    """Every event loop that there is a way into."""
    return request.param


@pytest.fixture
def location(tmp_path):
    return tmp_path / "store.braid"


@pytest.fixture
async def store(location, anyio_backend):
    async with eb.open_async(location) as opened:
        yield opened


def system_threads():
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.anyio
async def test_a_thousand_appends_in_flight_add_no_thread(store):
    await store.append([("warm", "x", b"")])
    python, system = threading.active_count(), system_threads()
    most = 0
    positions = []

    async def append(number):
        nonlocal most
        done = await store.append([(f"s-{number}", "x", b"")])
        most = max(most, threading.active_count() - python, system_threads() - system)
        positions.append(done.last_position)

    async with anyio.create_task_group() as tasks:
        for number in range(IN_FLIGHT):
            tasks.start_soon(append, number)
    assert most == 0
    assert sorted(positions) == list(range(2, IN_FLIGHT + 2))


@pytest.mark.anyio
async def test_appends_in_flight_share_syncs(store):
    before = await store.stats()

    async def append(number):
        await store.append([(f"s-{number}", "x", b"")])

    async with anyio.create_task_group() as tasks:
        for number in range(IN_FLIGHT):
            tasks.start_soon(append, number)
    after = await store.stats()
    assert after.events - before.events == IN_FLIGHT
    assert after.fsyncs - before.fsyncs < IN_FLIGHT / 2


def test_results_that_arrive_together_are_taken_in_turns():
    port = CompletionPort()
    readable = partial(select.select, [port.fileno()], [], [])
    with eb.open("memory:") as opened:
        native = opened._handle.native
        for number in range(10):
            native.append_async(port, [(f"s-{number}", "x", b"")])
    # The store is closed: all have been answered.
    turns = []
    while readable(0)[0]:
        turns.append(len(port.drain(4)))
    assert turns == [4, 4, 2]
    assert port.drain(4) == []


@pytest.mark.anyio
async def test_the_loop_runs_while_appends_wait(store):
    ticks = 0
    ended = anyio.Event()

    async def tick():
        nonlocal ticks
        while not ended.is_set():
            ticks += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        for _ in range(20):
            await store.append([("a", "x", bytes(1_000_000))])
        ended.set()
    assert ticks > 20


@pytest.mark.anyio
async def test_a_long_read_lets_others_run(store):
    for _ in range(10):
        await store.append([("a", "x", b"")] * 1000)
    turns = 0
    ended = anyio.Event()

    async def turn():
        nonlocal turns
        while not ended.is_set():
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await anyio.lowlevel.checkpoint()
        assert len(await listed(store.read_all())) == 10_000
        ended.set()
    assert turns > 20


@pytest.mark.anyio
async def test_reads_that_miss_the_cache_go_through_the_port(location, anyio_backend):
    async with eb.open_async(location) as store:
        for number in range(50):
            await store.append([(f"s-{number % 3}", "x", bytes(100_000))])
    async with eb.open_async(location, cache_size=0) as store:
        assert len(await listed(store.read_all())) == 50
        assert len(await listed(store.read_stream("s-1"))) == 17
        snapshot = await store.read_streams(["s-0", "s-1", "s-2"])
        assert len(snapshot.events) == 50

        async def read(stream):
            assert len(await listed(store.read_stream(stream))) in {16, 17}

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(read, f"s-{number % 3}")


@pytest.mark.anyio
async def test_a_cancelled_append_runs_on_and_says_so(store):
    cancelled = 0
    for number in range(20):
        caught = []

        def events(scope, number=number):
            scope.cancel()
            yield (f"s-{number}", "x", b"")

        with anyio.CancelScope() as scope:
            try:
                await store.append(events(scope), idempotency_key=f"k-{number}")
            except BaseException as error:
                caught.append(error)
                raise
        # A disk that is faster than the loop may have answered before.
        assert scope.cancelled_caught == bool(caught)
        for error in caught:
            cancelled += 1
            assert error.outcome_unknown is True
            assert f"'k-{number}'" in "".join(error.__notes__)
        again = await store.append(
            [(f"s-{number}", "x", b"")], idempotency_key=f"k-{number}"
        )
        assert again.replayed
        assert await store.version(f"s-{number}") == 1
    assert cancelled > 0


@pytest.mark.anyio
async def test_a_task_that_is_cancelled_already_appends_nothing(
    store, anyio_backend_name
):
    if anyio_backend_name == "asyncio":
        pytest.skip("asyncio cancels a task before it runs on, not while it runs")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.append([("a", "x", b"")])
    assert scope.cancelled_caught
    assert await store.head() == 0


@pytest.mark.anyio
async def test_a_cancelled_wait_for_events_leaves_the_subscription_usable(store):
    async with store.subscribe() as subscription:
        for number in range(50):
            with anyio.move_on_after(0.001) as scope:
                await first(1, subscription)
            assert scope.cancelled_caught
            if number % 10 == 9:
                await store.append([("a", "x", b"")])
                assert len(await first(1, subscription)) == 1
    assert subscription.position == 5


@pytest.mark.anyio
async def test_any_thread_may_close_an_async_subscription(store):
    subscription = store.subscribe()
    threading.Timer(0.05, subscription.close).start()
    with anyio.fail_after(60):
        assert await listed(subscription) == []


@pytest.mark.anyio
async def test_an_opening_is_awaited_or_entered(location):
    opening = eb.open_async(location)
    store = await opening
    assert isinstance(store, eb.AsyncEventStore)
    await store.close()
    async with eb.open_async(location) as store, store as same:
        assert same is store
    with pytest.raises(eb.errors.NotAStore):
        await eb.open_async(location.parent / "none", create=False)


def test_two_loops_in_two_threads_share_a_store(location):
    with eb.open(location) as store:
        face = store.as_async()

        async def work(number):
            for _ in range(50):
                await face.append([(f"s-{number}", "x", b"")])
            return await face.version(f"s-{number}")

        results = {}

        def run(number, runner):
            results[number] = runner(work, number)

        runners = [anyio.run, trio.run, lambda f, n: asyncio.run(f(n)), anyio.run]
        threads = [
            threading.Thread(target=run, args=(number, runner))
            for number, runner in enumerate(runners)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == dict.fromkeys(range(4), 50)


def test_a_store_serves_one_loop_after_the_other(location):
    with eb.open(location) as store:
        face = store.as_async()
        for expected in range(1, 6):
            assert asyncio.run(face.append([("a", "x", b"")])).last_position == expected
            assert asyncio.run(face.head()) == expected


def test_a_loop_closed_with_appends_in_flight_loses_nothing_and_is_freed(location):
    with eb.open(location) as store:
        face = store.as_async()
        loop = asyncio.new_event_loop()

        async def leave():
            tasks = [
                asyncio.ensure_future(face.append([("a", "x", b"")]))
                for _ in range(100)
            ]
            await asyncio.sleep(0)
            assert len(tasks) == 100

        async def cancel_all():
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0)

        loop.run_until_complete(leave())
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(cancel_all())
        loop.close()
        gone = weakref.ref(loop)
        del loop
        while store.head() < 100:
            time.sleep(0.001)
        gc.collect()
        assert gone() is None
        assert store.append([("a", "x", b"")]).versions["a"] == 101


def test_a_program_that_drops_its_loop_mid_append_ends_well(location):
    program = """
        import asyncio, sys
        store = eb.open(sys.argv[1])
        face = store.as_async()
        loop = asyncio.new_event_loop()

        async def leave():
            for _ in range(50):
                asyncio.ensure_future(face.append([("a", "x", b"")]))
            await asyncio.sleep(0)

        loop.run_until_complete(leave())
        loop.stop()
    """
    done = programs.run(program, location, warnings="ignore")
    assert done.returncode == 0, done.stderr
    with eb.open(location) as store:
        assert store.head() == 50


def test_outside_of_a_loop_the_async_face_says_what_to_use():
    with eb.open("memory:") as store:
        head = store.as_async().append([("a", "x", b"")])
        with (
            pytest.raises(RuntimeError, match=r"eventbraid\.open"),
            contextlib.closing(head),
        ):
            head.send(None)
