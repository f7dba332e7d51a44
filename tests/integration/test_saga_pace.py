"""Coordinators leave the event loop to others, however many sagas they have.

The hazard: work on tens of thousands of sagas in one turn of the loop. Nothing else runs
meanwhile, timeouts don't fire, and the coordinator's own heartbeat stops.

A turn is measured by the processor time of its thread: a busy machine doesn't count.
"""

from __future__ import annotations

import gc
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from anyio.lowlevel import checkpoint

import eventbraid as eb
from eventbraid.saga.machine._events import SagaStarted, StepStarted, StepUnknown
from eventbraid.saga.running._shard_mapping import SHARDS
from tests.saga_kit import SLEEPY, Receiver, Trip, inside, outside, trip

pytestmark = pytest.mark.anyio
MANY = 6_000
# The rule is 5 ms. Work on all sagas at once takes more than this for each thing done.
LONGEST_TURN = 0.025
SOON = 60


@pytest.fixture
def saga():
    return trip(outside(Receiver(), "pay", retry=SLEEPY))


@pytest.fixture
async def openings(tmp_path, saga):
    async with (
        eb.open_async(tmp_path / "store") as one,
        eb.open_async(tmp_path / "store") as two,
    ):
        await wait_for_many(one, saga)
        yield one, two


async def wait_for_many(store, saga) -> None:
    """Record many sagas that wait for their second attempt."""
    later = datetime.now(UTC) + timedelta(minutes=50)
    started = SagaStarted(
        saga.name,
        saga.version,
        saga.graph_hash,
        saga.graph,
        saga.state_codec.encode(Trip("mia")),
    )
    unknown = StepUnknown("pay", "lost", retry_at=later)
    records = [eb.encode_event(e) for e in (started, StepStarted("pay"), unknown)]
    for first in range(0, MANY, 1_000):
        ids = [f"saga-{n}" for n in range(first, first + 1_000)]
        await store.append([(id_, *record) for id_ in ids for record in records])


class Turns:
    """The longest turn of the loop for each thing that is done."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self.what = "nothing"

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await checkpoint()
            now = time.thread_time()
            turn = max(self.longest.get(self.what, 0.0), now - last)
            self.longest[self.what], last = turn, now

    def check(self) -> None:
        milliseconds = {what: turn * 1000 for what, turn in self.longest.items()}
        assert max(milliseconds.values()) < LONGEST_TURN * 1000, milliseconds


@asynccontextmanager
async def watched_turns():
    """Measure the turns of the loop while the block runs, and judge them after it."""
    turns = Turns()
    # A collection takes as long as there are objects, whatever they are.
    gc.collect()
    gc.disable()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turns.watch)
            yield turns
            tasks.cancel_scope.cancel()
    finally:
        gc.enable()
    turns.check()


async def until(condition) -> None:
    with anyio.fail_after(SOON):
        while not condition():  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.005)


async def test_no_turn_of_the_loop_is_long_with_thousands_of_sagas(openings, saga):
    async with watched_turns() as turns:
        turns.what = "entering"
        async with eb.SagaCoordinator(openings[1], [saga]) as lasting:
            turns.what = "listing"
            assert len(await lasting.list()) == MANY
            assert await lasting.stuck() == await lasting.blocked() == []
            turns.what = "giving shards to another coordinator"
            async with eb.SagaCoordinator(openings[0], [saga]) as other:
                both = (lasting, other)
                await until(
                    lambda: (
                        {len(c._parts.state.shards.held) for c in both} == {SHARDS // 2}
                    )
                )
                await until(
                    lambda: (
                        sum(len(c._parts.state.registry.at_work) for c in both) == MANY
                    )
                )
                turns.what = "leaving"
            turns.what = "taking over"
            await until(lambda: len(lasting._parts.state.registry.at_work) == MANY)


async def test_no_turn_of_the_loop_is_long_when_thousands_of_sagas_are_due(
    openings, saga
):
    async with eb.SagaCoordinator(openings[0], [saga]) as coordinator:
        timers = coordinator._parts.work.workers._timers
        await until(lambda: len(timers._due) == MANY)
        async with watched_turns():
            timers._due = [(0.0, number, sleep) for _, number, sleep in timers._due]
            timers._changed.set()
            # Each is woken, finds that its time hasn't come, and waits again.
            await until(lambda: len(timers._due) < MANY)
            await until(lambda: timers._due[0][0] and len(timers._due) == MANY)


async def test_a_saga_that_waits_for_its_next_attempt_has_no_task(openings, saga):
    async with eb.SagaCoordinator(openings[0], [saga]) as coordinator:
        await until(lambda: len(coordinator._parts.work.workers._timers._due) == MANY)
        await until(lambda: coordinator._parts.state.shards.held[0].working == 0)


async def test_each_asynchronous_method_is_a_checkpoint():
    """Also if the answer is in memory: a cancelled caller gets no further."""
    receiver = Receiver()
    receiver.plan = {"ship": ["decline"], "compensate pay": ["decline"]}
    well = trip(inside("book"))
    sticky = trip(outside(receiver, "pay"), outside(receiver, "ship"), name="sticky")
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [well, sticky]) as coordinator,
    ):
        ended = await coordinator.start(well, Trip("mia"), id="saga-1")
        stuck = await coordinator.start(sticky, Trip("mia"), id="saga-2")
        for handle in (ended, stuck):
            await handle.result()
        calls = {
            "start": lambda: coordinator.start(sticky, Trip("mia"), id="saga-2"),
            "get": lambda: coordinator.get(sticky, "saga-2"),
            "list": coordinator.list,
            "stuck": coordinator.stuck,
            "blocked": coordinator.blocked,
            "result": ended.result,
            "result of a stuck one": stuck.result,
            "cancel": lambda: coordinator.cancel("saga-2", reason="r"),
            "retry": lambda: coordinator.retry("saga-2", by="mia", note="n"),
            "skip": lambda: coordinator.skip("saga-2", "pay", by="mia", note="n"),
            "lease": eb.AsyncLease(store, "importer").__aenter__,
        }
        for name, call in calls.items():
            with anyio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught, f"{name} is no checkpoint"
        assert (await coordinator.stuck())[0].id == "saga-2"
