"""Several coordinators on one store: each saga is driven by one, and ends once.

The hazards: a saga that nobody drives after a shard changed hands, one that two drive,
and somebody who waits for the end of a saga that another coordinator drives.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.lease import _liveness
from eventbraid.saga.running._shard_mapping import SHARDS, shard_of
from tests.saga_kit import (
    SECOND,
    SLEEPY,
    Crash,
    MortalStore,
    Receiver,
    Trip,
    inside,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio
IDS = [f"saga-{n}" for n in range(40)]
SOON = 60


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def receiver():
    return Receiver()


def journey(receiver):
    return trip(inside("book"), outside(receiver, "pay"), outside(receiver, "ship"))


async def owners(store):
    """How many shards each owner has, by the log."""
    found: Counter[str] = Counter()
    async for stream in store.streams(prefix="$lease-$saga-shard-"):
        last = [r async for r in store.read_stream(stream, backward=True, limit=1)]
        event = eb.decode_event(last[0])
        if hasattr(event, "host"):
            found[event.holder] += 1
    return found


async def shared_by(store, *shares):
    """Wait until the shards are shared so."""
    with anyio.fail_after(SOON):
        while sorted((await owners(store)).values()) != sorted(shares):  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.005)


async def test_shards_are_shared_and_given_back(store, receiver):
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]):
        assert sorted((await owners(store)).values()) == [16]
        async with eb.SagaCoordinator(store, [saga]):
            await shared_by(store, 8, 8)
            async with eb.SagaCoordinator(store, [saga]):
                await shared_by(store, 6, 5, 5)
            await shared_by(store, 8, 8)
        await shared_by(store, 16)
    assert await owners(store) == {}


async def test_each_saga_ends_once_wherever_it_was_started(store, receiver):
    saga = journey(receiver)
    async with (
        eb.SagaCoordinator(store, [saga]) as one,
        eb.SagaCoordinator(store, [saga]) as two,
        eb.SagaCoordinator(store, [saga]) as three,
    ):
        await shared_by(store, 6, 5, 5)
        handles = [
            await (one, two, three)[n % 3].start(saga, Trip("mia"), id=saga_id)
            for n, saga_id in enumerate(IDS)
        ]
        with anyio.fail_after(SOON):
            ends = [await handle.result() for handle in handles]
        assert {end.outcome for end in ends} == {eb.SagaOutcome.COMPLETED}
        # The state comes from the log, whoever drove it.
        assert {len(end.state.receipts) for end in ends} == {2}
        for coordinator in (one, two, three):
            assert await coordinator.list() == []
            assert (
                await coordinator.get(saga, IDS[0])
            ).status is eb.saga.SagaStatus.COMPLETED
    assert set(receiver.calls.values()) == {1}


async def test_shards_change_hands_in_the_middle_of_sagas(store, receiver):
    """Coordinators come and go while sagas are under way; no call is made twice."""
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga], concurrency=4) as lasting:
        handles = []

        async def start():
            for saga_id in IDS:
                handles.append(await lasting.start(saga, Trip("mia"), id=saga_id))
                await anyio.sleep(0.002)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            for _ in range(4):
                async with eb.SagaCoordinator(store, [saga]):
                    await anyio.sleep(0.06)
        with anyio.fail_after(SOON):
            for handle in handles:
                assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    # Leaving waits for the call under way, so nothing was in doubt.
    assert set(receiver.calls.values()) == {1}


async def test_the_shards_of_a_coordinator_that_died_are_taken(store, receiver):
    receiver.plan = {"ship": ["stall", "ok"]}
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as lasting:
        with contextlib.suppress(Crash):
            async with eb.SagaCoordinator(MortalStore(store, 20), [saga]) as mortal:
                await shared_by(store, 8, 8)
                for saga_id in IDS:
                    await mortal.start(saga, Trip("mia"), id=saga_id)
        await shared_by(store, 16)
        for saga_id in IDS[: len(receiver.calls)]:
            with contextlib.suppress(eb.errors.SagaNotFound), anyio.fail_after(SOON):
                handle = await lasting.get(saga, saga_id)
                await handle.result()
        with anyio.fail_after(SOON):
            while await lasting.list():  # noqa: ASYNC110 - the end of all of them
                await anyio.sleep(0.005)
    assert len(receiver.log) == len(set(receiver.effects))


async def test_a_coordinator_that_was_stopped_records_nothing_more(
    store, receiver, monkeypatch
):
    """Its call comes back after its shard was taken: the answer is the new owner's."""
    entered, opened = anyio.Event(), anyio.Event()
    calls = Counter()

    async def act(context: eb.StepContext[Trip]) -> str:
        calls[context.idempotency_key] += 1
        if sum(calls.values()) == 1:
            entered.set()
            await opened.wait()
        return f"receipt {sum(calls.values())}"

    saga = trip(
        eb.step(
            "pay",
            act,
            timeout=30 * SECOND,
            retry=eb.RetryPolicy(
                maximum_attempts=3, initial_delay=timedelta(milliseconds=1)
            ),
            then=lambda state, receipt: Trip(state.who, (receipt,)),
        ).without_compensation()
    )
    seen = _liveness.heartbeat_age
    async with eb.SagaCoordinator(store, [saga]) as late:
        handle = await late.start(saga, Trip("mia"), id="saga-1")
        await entered.wait()
        owner = next(iter(await owners(store)))

        def stopped(asked, *known):
            return 60.0 if asked == owner else seen(asked, *known)

        monkeypatch.setattr(_liveness, "heartbeat_age", stopped)
        async with eb.SagaCoordinator(store, [saga]) as fresh:
            taken_over = await fresh.get(saga, "saga-1")
            with anyio.fail_after(SOON):
                end = await taken_over.result()
            assert end.state.receipts == ("receipt 2",)
            before = await records(store, "saga-1")
            opened.set()
            monkeypatch.setattr(_liveness, "heartbeat_age", seen)
            with anyio.fail_after(SOON):
                assert await handle.result() == end
            assert await records(store, "saga-1") == before
            await shared_by(store, 8, 8)
    assert before.count("step_succeeded") == 1
    assert before.count("step_unknown") == 1


async def test_people_decide_at_any_coordinator(store, receiver):
    receiver.plan = {"ship": ["decline"], "compensate pay": ["decline", "ok"]}
    saga = journey(receiver)
    async with (
        eb.SagaCoordinator(store, [saga]) as one,
        eb.SagaCoordinator(store, [saga]) as two,
    ):
        await shared_by(store, 8, 8)
        for n, saga_id in enumerate(IDS[:6]):
            receiver.plan["compensate pay"] = ["decline", "ok"]
            here, there = (one, two) if n % 2 else (two, one)
            handle = await here.start(saga, Trip("mia"), id=saga_id)
            with anyio.fail_after(SOON):
                assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
            for coordinator in (one, two):
                assert [s.id for s in await coordinator.stuck()] == [saga_id]
            await there.retry(saga_id, by="mia", note="again")
            with anyio.fail_after(SOON):
                end = await (await there.get(saga, saga_id)).result()
                assert end.outcome is eb.SagaOutcome.COMPENSATED


async def test_a_cancellation_reaches_the_coordinator_that_drives(store, receiver):
    receiver.plan = {"pay": ["drop"]}
    saga = trip(
        inside("book"),
        outside(receiver, "pay", retry=SLEEPY),
    )
    async with (
        eb.SagaCoordinator(store, [saga]) as one,
        eb.SagaCoordinator(store, [saga]) as two,
    ):
        await shared_by(store, 8, 8)
        for n, saga_id in enumerate(IDS[:4]):
            here, there = (one, two) if n % 2 else (two, one)
            handle = await here.start(saga, Trip("mia"), id=saga_id)
            with anyio.fail_after(SOON):
                while "step_unknown" not in await records(store, saga_id):  # noqa: ASYNC110
                    await anyio.sleep(0.002)
                await there.cancel(saga_id, reason="changed my mind")
                assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED


async def test_every_record_of_a_driven_saga_demands_its_shards_fence(store, receiver):
    class Noting:
        demands: list[dict[str, object]] = []  # noqa: RUF012 - one test's list

        def __getattr__(self, name):
            return getattr(store, name)

        async def append(self, events, **options):
            if any(event.stream == "saga-1" for event in events):
                self.demands.append(dict(options["expect"]))
            return await store.append(events, **options)

    saga = journey(receiver)
    async with eb.SagaCoordinator(Noting(), [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result()
    fence = f"$lease-$saga-shard-{shard_of('saga-1'):02}"
    assert Noting.demands
    assert all(demand[fence] == 1 for demand in Noting.demands)


async def test_more_coordinators_than_shards_stand_by(store, receiver):
    saga = journey(receiver)
    async with contextlib.AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(eb.SagaCoordinator(store, [saga]))
            for _ in range(SHARDS + 2)
        ]
        await shared_by(store, *[1] * SHARDS)
        handle = await crowd[-1].start(saga, Trip("mia"), id="saga-1")
        with anyio.fail_after(SOON):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


def test_a_silence_that_is_too_short_is_refused(receiver):
    with (
        eb.open("memory:") as opened,
        pytest.raises(eb.errors.InvalidArgument, match="stale_after"),
    ):
        eb.SagaCoordinator(
            opened.as_async(), [journey(receiver)], stale_after=timedelta(0)
        )
