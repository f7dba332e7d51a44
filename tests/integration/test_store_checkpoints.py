"""Every asynchronous call of a store is a checkpoint: it lets other tasks run, and a
cancellation ends it, also where the answer is in memory.

The hazard: a loop of calls that are answered from memory, which no timeout ends and
beside which no other task runs.
"""

from __future__ import annotations

import select

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from eventbraid.store import _trio_port

pytestmark = pytest.mark.anyio


async def _read(events):
    async for _ in events:
        pass


CALLS = {
    "head": lambda store: store.head(),
    "version": lambda store: store.version("a-1"),
    "read_streams": lambda store: store.read_streams(["a-1"]),
    "committed": lambda store: store.committed("no such key"),
    "known key": lambda store: store.committed("key"),
    "stats": lambda store: store.stats(),
    "verify": lambda store: store.verify(quick=True),
    "read_stream": lambda store: _read(store.read_stream("a-1")),
    "read of no events": lambda store: _read(store.read_stream("none")),
    "read_all": lambda store: _read(store.read_all()),
    "streams": lambda store: _read(store.streams()),
    "append": lambda store: store.append([("b-1", "x", b"")]),
    "check": lambda store: store.append([], expect={"a-1": 1}),
    "event of a subscription": lambda store: anext(store.subscribe()),
}


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as store:
        await store.append([("a-1", "x", b"1")], idempotency_key="key")
        yield store


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_other_tasks_run_during_each_call(store, call):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await anyio.sleep(0.01)
        before = turns
        # Twice, because trio runs the tasks of one turn in any order.
        await call(store)
        await call(store)
        assert turns > before
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_cancelled_scope_ends_each_call(store, call):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call(store)
        pytest.fail("the call went through")
    assert scope.cancelled_caught
    with anyio.move_on_after(0.05) as scope, anyio.fail_after(60):
        while True:
            await call(store)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "iterate",
    [
        lambda store: store.read_all(),
        lambda store: store.read_stream("a-1"),
        lambda store: store.subscribe(),
    ],
    ids=["read_all", "read_stream", "subscribe"],
)
async def test_iteration_lets_other_tasks_run_every_few_milliseconds(store, iterate):
    await store.append([("a-1", "x", bytes(100))] * 5_000)
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        left, before, longest, since = 5_001, 0, 0, 0
        events = iterate(store)
        while left:
            await anext(events)
            sum(range(500))
            since = since + 1 if turns == before else 0
            before = turns
            longest = max(longest, since)
            left -= 1
        if hasattr(events, "aclose"):
            await events.aclose()
        tasks.cancel_scope.cancel()
    # A page has up to 1,024 events, and 2 ms is the limit.
    assert longest < 1_000
    assert turns > 5


async def test_a_large_snapshot_is_made_in_parts(store):
    await store.append([("a-2", "x", bytes(10))] * 10_000)
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await anyio.lowlevel.checkpoint()
        before = turns
        snapshot = await store.read_streams(["a-2"])
        assert turns - before >= 5
        tasks.cancel_scope.cancel()
    assert [recorded.version for recorded in snapshot.events] == [*range(1, 10_001)]
    snapshot = store.as_sync().read_streams(["a-2"])
    assert [recorded.version for recorded in snapshot.events] == [*range(1, 10_001)]


async def test_a_read_of_the_disk_does_not_wait_for_verifications(tmp_path):
    """A read that is not in memory needs a thread, as a verification does."""
    async with eb.open_async(tmp_path / "shop.braid", cache_size=0) as store:
        for number in range(24):
            await store.append([(f"a-{number}", "x", bytes(2 << 20))])
        verified = []

        async def verify():
            verified.append(await store.verify())

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(verify)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            snapshot = await store.read_streams(["a-0"])
            # Two threads verify, so a read after all of them would see at least six.
            assert len(verified) < 6
        assert len(snapshot.events) == 1
        assert [report.events for report in verified] == [24] * 8


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancelled_opening_holds_no_store(tmp_path, anyio_backend):
    path = tmp_path / "shop.braid"
    eb.open(path).close()
    port = _trio_port.current_port()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await eb.open_async(path, mode="exclusive")
    assert scope.cancelled_caught
    # The opening itself went on: the event loop has yet to take its result.
    assert select.select([port.native], [], [], 20)[0]
    with anyio.fail_after(60):
        # In a thread: a further result of the port would take the place of this one.
        while not await anyio.to_thread.run_sync(_is_free, path):  # noqa: ASYNC110 - nothing to wait on
            await anyio.sleep(0.01)


def _is_free(path):
    try:
        eb.open(path, mode="exclusive", lock_timeout=0).close()
    except eb.StoreBusy:
        return False
    return True
