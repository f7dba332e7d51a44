"""Unfinished sagas are found exactly, and without reading the whole log.

The hazard is a checkpoint that was taken while commits were in flight: a saga that it
leaves out is never driven again, one that it holds for ever is driven in vain.
"""

from __future__ import annotations

import contextlib

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga.coordination._checkpoint import CheckpointBudget
from eventbraid.saga.coordination._unfinished_sagas import (
    MAXIMUM_OPEN,
    UnfinishedSagas,
)
from eventbraid.store._system import system_event
from tests.saga_kit import (
    Crash,
    MortalStore,
    Receiver,
    Trip,
    inside,
    outside,
    trip,
)

pytestmark = pytest.mark.anyio
CHECKPOINTS = "$saga-checkpoint"


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def saga():
    receiver = Receiver()
    # A crash in a test isn't the fault of the call that it interrupts.
    crashes = {"maximum_crashes": 1_000}
    return trip(inside("book", **crashes), outside(receiver, "pay", **crashes))


async def truth(store) -> set[str]:
    """The unfinished sagas, from the whole log."""
    found = set()
    async for recorded in store.read_all(
        types=["saga.started", "saga.completed", "saga.compensated"]
    ):
        (found.add if recorded.type == "saga.started" else found.discard)(
            recorded.stream
        )
    return found


async def known(store) -> set[str]:
    opened = UnfinishedSagas(store)
    await opened.load()
    return opened.sagas.keys()


async def last_checkpoint(store):
    [recorded] = [
        r async for r in store.read_stream(CHECKPOINTS, backward=True, limit=1)
    ]
    return eb.decode_event(recorded)


async def run(store, saga, ids, **options):
    async with eb.SagaCoordinator(store, [saga], **options) as coordinator:
        handles = [await coordinator.start(saga, Trip("mia"), id=id_) for id_ in ids]
        for handle in handles:
            await handle.result()


async def test_leaving_writes_a_checkpoint(store, saga):
    await run(store, saga, ["saga-1", "saga-2"])
    checkpoint = await last_checkpoint(store)
    assert checkpoint.open == ()
    assert checkpoint.position == await store.head() - 1


async def test_checkpoints_are_written_while_sagas_end(store, saga):
    await run(store, saga, [f"saga-{n}" for n in range(20)], ends_a_checkpoint=5)
    # Several ends may share one checkpoint, but not all of them.
    assert 2 < await store.version(CHECKPOINTS) <= 5


async def test_a_resume_reads_only_what_came_after_the_checkpoint(store, saga):
    await run(store, saga, [f"saga-{n}" for n in range(20)])
    checkpoint = await last_checkpoint(store)

    class Watching:
        afters: list[int] = []  # noqa: RUF012 - one test's list

        def __getattr__(self, name):
            return getattr(store, name)

        def read_all(self, **options):
            self.afters.append(options["after"])
            return store.read_all(**options)

    async with eb.SagaCoordinator(Watching(), [saga]):
        pass
    assert min(Watching.afters) == checkpoint.position


async def crashed(store, saga, ids, dies_at, *, after):
    mortal = MortalStore(store, dies_at, after=after)
    with contextlib.suppress(Crash):
        await run(mortal, saga, ids, ends_a_checkpoint=1, concurrency=3)
    # An append that was cancelled may still be committed, but not after this one.
    await store.append([("barrier-1", "x", b"")])
    return mortal.dead


@pytest.mark.parametrize("after", [False, True])
async def test_the_set_is_exact_after_a_crash_at_any_append(store, saga, after):
    """With a checkpoint after each end, so that they overlap commits in flight."""
    died, n = True, 0
    while died:
        n += 1
        ids = [f"saga-{n}-{i}" for i in range(4)]
        died = await crashed(store, saga, ids, n, after=after)
        assert await known(store) == await truth(store)
    assert n > 10
    await run(store, saga, [])
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        with anyio.fail_after(60):
            while await coordinator.list():  # noqa: ASYNC110 - the end of all of them
                await anyio.sleep(0.001)
    assert await known(store) == await truth(store) == set()


async def test_an_old_checkpoint_of_another_coordinator_does_no_harm(store, saga):
    """Two coordinators may write theirs in the wrong order."""
    await run(store, saga, ["saga-1"])
    early = await last_checkpoint(store)
    await run(store, saga, ["saga-2"])
    await store.append([system_event(eb.new_event(CHECKPOINTS, early))])
    assert await known(store) == set()


async def test_too_many_open_sagas_are_not_written_down(store, saga, monkeypatch):
    assert MAXIMUM_OPEN * 260 < 8 * 1024 * 1024
    monkeypatch.setattr(
        "eventbraid.saga.coordination._unfinished_sagas.MAXIMUM_OPEN", 0
    )
    blocked = trip(inside("other"), name="blocked")
    with pytest.raises(Crash):
        await run(MortalStore(store, 2), blocked, ["saga-1"])
    before = await store.version(CHECKPOINTS)
    await run(store, saga, ["saga-2"])
    assert await store.version(CHECKPOINTS) == before
    assert await known(store) == {"saga-1"}


async def test_only_a_streams_first_event_starts_a_saga(store, saga):
    await run(store, saga, ["saga-1"])
    [first, *_] = [r async for r in store.read_stream("saga-1")]
    await store.append([("order-1", "x", b""), ("order-1", first.type, first.data)])
    assert await known(store) == set()


def test_checkpoints_are_bounded_in_an_hour_and_the_first_come_at_once():
    budget = CheckpointBudget()
    now, written = 1_000.0, []
    while now < 1_000.0 + 3_600:
        now += budget.spend(now)
        written.append(now)
    assert written[11] == 1_000.0
    assert len(written) <= 73
    # After a quiet time as many may come at once as in the beginning.
    assert [budget.spend(now + 10_000) for _ in range(13)] == [0.0] * 12 + [60.0]


async def test_leaving_writes_no_checkpoint_if_nothing_has_changed(store, saga):
    await run(store, saga, ["saga-1"])
    before = await store.version(CHECKPOINTS)
    await run(store, saga, [])
    assert await store.version(CHECKPOINTS) == before


class SlowCheckpoints:
    """A store where the append of a checkpoint returns only after `go_on` is set."""

    def __init__(self, store):
        self._store = store
        self.has_appended = anyio.Event()
        self.go_on = anyio.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def append(self, events, **options):
        done = await self._store.append(events, **options)
        self.has_appended.set()
        await self.go_on.wait()
        return done


async def test_a_change_during_the_append_of_a_checkpoint_is_in_the_next_one(
    store, saga
):
    await run(store, saga, ["saga-1"])
    [start] = [r async for r in store.read_stream("saga-1", limit=1)]
    slow = SlowCheckpoints(store)
    unfinished = UnfinishedSagas(slow)
    await store.append([(start.stream + "0", start.type, start.data)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(unfinished.save)
        await slow.has_appended.wait()
        await store.append([(start.stream + "1", start.type, start.data)])
        await unfinished.catch_up()
        slow.go_on.set()
    assert (await last_checkpoint(store)).open == ("saga-10",)
    await unfinished.save()
    assert (await last_checkpoint(store)).open == ("saga-10", "saga-11")


async def test_a_saga_that_has_ended_here_needs_no_driver_before_its_end_is_read(
    store, saga
):
    """Its start is read a little late: it would be read back and driven for nothing."""
    await run(store, saga, ["saga-1"])
    [start] = [r async for r in store.read_stream("saga-1", limit=1)]
    opened = UnfinishedSagas(store)
    opened.fold(start)
    assert opened.needs_driver("saga-1")
    opened.note_end("saga-1")
    assert not opened.needs_driver("saga-1")
    # What is remembered of ends is bounded.
    for n in range(10_000):
        opened.note_end(f"other-{n}")
    assert opened.needs_driver("saga-1")


async def test_a_coordinator_notes_the_sagas_that_have_ended_at_it(store, saga):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result()
        assert "saga-1" in coordinator._parts.state.unfinished._ended_here


async def test_sagas_whose_ids_are_too_long_for_a_checkpoint_raise_nothing(store):
    """Anybody may write records that look like starts, in streams of long names."""
    starts = [
        (f"saga-{number:06}".ljust(250, '"'), "saga.started", b"{}")
        for number in range(20_000)
    ]
    for first in range(0, len(starts), 5_000):
        await store.append(starts[first : first + 5_000])
    opened = UnfinishedSagas(store)
    await opened.load()
    await opened.save()
    assert not await store.version(CHECKPOINTS)
    assert await known(store) == await truth(store)
