"""Coordinators that were given different sagas share a store without harm.

As in each rolling deploy, and with each script that only wants to cancel a saga. The
hazards: a coordinator that takes sagas it can't run and blocks them, a saga that no
coordinator drives because the one with the code has not its shard, one that two drive
while it changes hands, and a saga that is compensated by its deadline because its code was
missing for a while.
"""

from __future__ import annotations

import logging
from collections import Counter
from random import Random

import anyio
import pytest

import eventbraid as eb
from eventbraid.lease import _liveness
from eventbraid.lease._state import acquired
from eventbraid.saga.running._shard_mapping import SHARDS, lease_of, shard_of
from tests.saga_kit import (
    DEADLINES,
    SECOND,
    SLEEPY,
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
# A receiver that stays out of reach for the length of a test does not use it up.
PERSISTENT = eb.RetryPolicy(
    maximum_attempts=10_000,
    initial_delay=0.2 * SECOND,
    maximum_delay=SECOND,
    jitter="none",
)
ATTENTION = "saga-attention"


@pytest.fixture
async def openings(tmp_path):
    async with (
        eb.open_async(tmp_path / "store") as one,
        eb.open_async(tmp_path / "store") as two,
        eb.open_async(tmp_path / "store") as three,
    ):
        yield one, two, three


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def saga(receiver):
    return trip(inside("book"), outside(receiver, "pay"))


@pytest.fixture
def other():
    """A saga that the coordinators of the other deploy have."""
    return trip(inside("x"), name="other")


async def until(condition) -> None:
    with anyio.fail_after(SOON):
        while not condition():  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.005)


async def shards_of(*coordinators) -> None:
    """Wait until the shards are shared evenly among coordinators."""
    share = SHARDS // len(coordinators)
    await until(
        lambda: all(len(c._parts.state.shards.held) == share for c in coordinators)
    )


async def all_completed(handles) -> None:
    with anyio.fail_after(SOON):
        for handle in handles:
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


async def start_all(coordinator, saga, ids=IDS):
    return [await coordinator.start(saga, Trip("mia"), id=id_) for id_ in ids]


async def test_sagas_are_driven_by_coordinators_that_have_their_declarations(
    openings, receiver, saga, other
):
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as able,
        eb.SagaCoordinator(openings[1], [other]) as unable,
    ):
        await shards_of(able, unable)
        await all_completed(await start_all(able, saga))
        others = await start_all(unable, other, [f"other-{n}" for n in range(40)])
        await all_completed(others)
        assert await able.blocked() == await unable.blocked() == []
    assert set(receiver.calls.values()) == {1}
    assert await openings[2].version(ATTENTION) == 0


async def test_sagas_at_work_stay_with_the_code_while_other_coordinators_come_and_go(
    openings, receiver, saga, other
):
    async with eb.SagaCoordinator(openings[0], [saga], concurrency=4) as able:
        handles = []

        async def start() -> None:
            for saga_id in IDS:
                handles.append(await able.start(saga, Trip("mia"), id=saga_id))
                await anyio.sleep(0.005)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            for _ in range(3):
                async with eb.SagaCoordinator(openings[1], [other]):
                    await anyio.sleep(0.15)
        await all_completed(handles)
        await shards_of(able)
        assert await able.blocked() == []
    assert set(receiver.calls.values()) == {1}
    assert await openings[2].version(ATTENTION) == 0


async def test_sagas_pass_from_one_coordinator_with_the_code_to_the_next(
    openings, receiver, saga, other
):
    """All leases change hands: of the shards, and of the sagas that were leased alone."""
    receiver.plan = {"pay": ["drop"]}
    slow = trip(
        inside("book"),
        outside(receiver, "pay", retry=PERSISTENT),
    )
    async with eb.SagaCoordinator(openings[1], [other]) as unable:
        async with eb.SagaCoordinator(openings[0], [slow]) as first:
            await shards_of(first, unable)
            handles = await start_all(first, slow)
            await until(lambda: first._parts.state.shards.delegated)
        async with eb.SagaCoordinator(openings[2], [slow, other]) as second:
            await shards_of(unable, second)
            await until(lambda: second._parts.state.shards.delegated)
            receiver.plan["pay"] = ["ok"]
            handles = [await second.get(slow, saga_id) for saga_id in IDS]
            await all_completed(handles)


async def test_a_lease_of_single_sagas_ends_when_the_shard_has_the_code(
    openings, saga, other
):
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as one,
        eb.SagaCoordinator(openings[1], [saga]) as two,
    ):
        async with eb.SagaCoordinator(openings[2], [other]) as unable:
            await until(lambda: len(unable._parts.state.shards.held) == SHARDS // 3)
            await all_completed(await start_all(one, saga))
            await until(
                lambda: (
                    one._parts.state.shards.delegated
                    or two._parts.state.shards.delegated
                )
            )
        await shards_of(one, two)
        await until(
            lambda: (
                not one._parts.state.shards.delegated
                and not two._parts.state.shards.delegated
            )
        )
        await all_completed(
            await start_all(one, saga, [f"more-{n}" for n in range(40)])
        )


async def test_a_lease_of_single_sagas_is_released_for_a_holder_that_has_ended(
    openings, saga, other, monkeypatch
):
    """Also if none of its sagas is left: nobody would look at it any more."""
    async with eb.SagaCoordinator(openings[0], [saga]) as lasting:
        async with eb.SagaCoordinator(openings[1], [other]) as unable:
            await shards_of(lasting, unable)
            await all_completed(await start_all(lasting, saga))
            await until(lambda: lasting._parts.state.shards.delegated)
            leased = {*lasting._parts.state.table.delegated}
        await shards_of(lasting)
        await until(lambda: not lasting._parts.state.table.delegated)
        # As a coordinator leaves them that was killed.
        taken = [acquired(lease_of(*part), "0000000000000000.1") for part in leased]
        await openings[2].append(taken)
        await until(lambda: lasting._parts.state.table.delegated)
        await until(lambda: not lasting._parts.state.table.delegated)
        await all_completed(await start_all(lasting, saga, ["saga-after"]))


async def test_a_coordinator_that_was_given_no_sagas_takes_none(openings, saga):
    async with eb.SagaCoordinator(openings[0], []) as idle:
        head = await openings[0].head()
        async with eb.SagaCoordinator(openings[1], [saga]) as able:
            await shards_of(able)
            await all_completed(await start_all(able, saga))
            assert await idle.list() == []
        assert not idle._parts.state.shards.held
        assert head == 0


async def test_sagas_can_be_cancelled_and_retried_where_their_code_is_missing(
    openings, receiver
):
    receiver.plan = {
        "pay": ["drop"],
        "ship": ["decline"],
        "compensate pay": ["decline"],
    }
    sleeping = trip(inside("book"), outside(receiver, "pay", retry=SLEEPY))
    sticky = trip(
        outside(receiver, "take"),
        inside("book", compensate_unless="never", unless="no"),
        name="sticky",
    )
    receiver.plan["compensate take"] = ["decline", "ok"]
    async with (
        eb.SagaCoordinator(openings[0], [sleeping, sticky]) as able,
        eb.SagaCoordinator(openings[1], []) as script,
    ):
        handle = await able.start(sleeping, Trip("mia"), id="saga-1")
        with anyio.fail_after(SOON):
            while "step_unknown" not in await records(openings[0], "saga-1"):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        receiver.plan["compensate pay"] = ["ok"]
        await script.cancel("saga-1", reason="changed my mind")
        with anyio.fail_after(SOON):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
        stuck = await able.start(sticky, Trip("mia"), id="saga-2")
        with anyio.fail_after(SOON):
            assert (await stuck.result()).outcome is eb.SagaOutcome.STUCK
        assert [s.id for s in await script.stuck()] == ["saga-2"]
        await script.retry("saga-2", by="mia", note="again")
        with anyio.fail_after(SOON):
            while "compensated" not in await records(openings[0], "saga-2"):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        with pytest.raises(eb.errors.InvalidTransition):
            await script.cancel("saga-2", reason="too late")
        with pytest.raises(eb.errors.SagaNotFound):
            await script.cancel("saga-none", reason="never was")


@pytest.mark.parametrize(
    "text", ["half a character: \ud83d", "x" * 9_000_000], ids=["surrogate", "9 MB"]
)
async def test_a_decision_without_the_code_is_recorded_whatever_its_text(
    openings, receiver, text
):
    receiver.plan = {"pay": ["drop"]}
    saga = trip(inside("book"), outside(receiver, "pay", retry=SLEEPY))
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as able,
        eb.SagaCoordinator(openings[1], []) as script,
    ):
        handle = await able.start(saga, Trip("mia"), id="saga-1")
        await script.cancel("saga-1", reason=text)
        with anyio.fail_after(SOON):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED


async def test_a_saga_is_blocked_once_no_live_coordinator_has_its_code(
    openings, receiver, other
):
    """And is driven again as soon as one has it."""
    receiver.plan = {"pay": ["drop"]}
    saga = trip(inside("book"), outside(receiver, "pay", retry=PERSISTENT))
    async with (
        eb.SagaCoordinator(openings[1], [other]) as unable,
        eb.SagaCoordinator(openings[2], []) as script,
    ):
        async with eb.SagaCoordinator(openings[0], [saga]) as able:
            await shards_of(able, unable)
            await able.start(saga, Trip("mia"), id="saga-1")
            with anyio.fail_after(SOON):
                while "step_unknown" not in await records(openings[0], "saga-1"):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            assert await script.blocked() == await unable.blocked() == []
        for coordinator in (unable, script):
            with anyio.fail_after(SOON):
                while not (found := await coordinator.blocked()):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            [blocked] = found
            assert (blocked.id, blocked.blocked) == ("saga-1", True)
            assert blocked.failure.startswith("needs_code")
        receiver.plan["pay"] = ["ok"]
        async with eb.SagaCoordinator(openings[0], [saga]) as able:
            await all_completed([await able.get(saga, "saga-1")])
            # The other coordinators learn of it from the log.
            with anyio.fail_after(SOON):
                while await unable.blocked() or await script.blocked():  # noqa: ASYNC110
                    await anyio.sleep(0.005)


async def test_a_blocked_saga_is_overdue_after_its_deadline_and_not_compensated(
    openings, receiver, other, caplog
):
    receiver.plan = {"pay": ["drop"]}
    for n, deadline in enumerate(DEADLINES):
        saga = trip(
            inside("book"), outside(receiver, "pay", retry=SLEEPY), deadline=deadline
        )
        saga_id = f"saga-{n}"
        async with eb.SagaCoordinator(openings[0], [saga]) as able:
            await able.start(saga, Trip("mia"), id=saga_id)
            with anyio.fail_after(SOON):
                while (last := (await records(openings[0], saga_id))[-1]) not in {  # noqa: ASYNC110
                    "step_unknown",
                    "compensated",
                }:
                    await anyio.sleep(0.005)
        before = await records(openings[0], saga_id)
        if last == before[-1] == "step_unknown":
            break
    async with eb.SagaCoordinator(openings[1], [other]) as unable:
        with caplog.at_level(logging.ERROR, "eventbraid.saga"), anyio.fail_after(SOON):
            while not [s for s in await unable.blocked() if s.overdue]:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            while "overdue" not in caplog.text:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            while "overdue" not in str(await notices(openings[0])):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        assert await records(openings[0], saga_id) == before


async def notices(store):
    return [eb.decode_event(r) async for r in store.read_stream(ATTENTION)]


async def test_other_steps_under_one_version_are_refused_whoever_drives_the_sagas(
    openings,
):
    receiver = Receiver()
    receiver.plan = {"pay": ["stall"]}
    saga = trip(outside(receiver, "pay", timeout=30 * SECOND), inside("book"))
    with anyio.CancelScope() as block:
        async with eb.SagaCoordinator(openings[0], [saga]) as running:
            handles = await start_all(running, saga)
            with pytest.raises(eb.errors.GraphMismatch) as caught:
                async with eb.SagaCoordinator(openings[1], [trip(inside("book"))]):
                    pass
            assert caught.value.saga_ids == tuple(sorted(IDS))
            assert caught.value.difference[0].startswith("removed 'pay'")
            await shards_of(running)
            assert {handle.status for handle in handles} == {eb.saga.SagaStatus.RUNNING}
            block.cancel()


async def test_sagas_started_after_other_steps_came_in_stay_with_their_coordinator(
    openings, saga
):
    """Nothing was unfinished when it entered, so there was nothing to compare."""
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as one,
        eb.SagaCoordinator(openings[1], [trip(inside("book"))]) as two,
    ):
        await shards_of(one, two)
        await all_completed(await start_all(one, saga))
        assert await two.blocked() == []


async def test_the_store_refuses_what_a_stopped_coordinator_records_of_leased_sagas(
    openings, receiver, other, monkeypatch
):
    """Its lease of single sagas is as fenced as that of a shard."""
    receiver.plan = {"pay": ["drop"]}
    saga = trip(inside("book"), outside(receiver, "pay", retry=PERSISTENT))
    seen = _liveness.heartbeat_age
    async with (
        eb.SagaCoordinator(openings[0], [other]) as unable,
        eb.SagaCoordinator(openings[1], [saga]) as late,
    ):
        await shards_of(unable, late)
        saga_id = next(i for i in IDS if shard_of(i) in unable._parts.state.shards.held)
        handle = await late.start(saga, Trip("mia"), id=saga_id)
        await until(lambda: late._parts.state.shards.delegated)
        [lost] = late._parts.state.shards.delegated.values()
        owner = late._parts.state.live.own_id
        monkeypatch.setattr(
            _liveness,
            "heartbeat_age",
            lambda asked, *known: 60.0 if asked == owner else seen(asked, *known),
        )
        async with eb.SagaCoordinator(openings[2], [saga]) as fresh:
            shards = fresh._parts.state.shards
            await until(lambda: shards.delegated or shards.lease_for(saga_id))
            receiver.plan["pay"] = ["ok"]
            taken = await fresh.get(saga, saga_id)
            await all_completed([taken])
            monkeypatch.setattr(_liveness, "heartbeat_age", seen)
            with pytest.raises(eb.VersionConflict):
                await openings[1].append([("x-1", "x", b"")], expect=lost.fence)
            await all_completed([handle])
    assert (await records(openings[0], saga_id)).count("step_succeeded") == 2


async def system_records(store) -> Counter[str]:
    """How many records of the library's own streams there are, by type."""
    log = store.read_all(system=True)
    return Counter([r.type async for r in log if r.stream.startswith("$")])


async def test_the_librarys_records_are_bounded_whatever_the_number_of_sagas(
    openings, saga
):
    async with eb.SagaCoordinator(openings[0], [saga], ends_a_checkpoint=1) as one:
        await shards_of(one)
        await all_completed(await start_all(one, saga, [f"s-{n}" for n in range(300)]))
    found = await system_records(openings[2])
    assert found["lease.acquired"] == found["lease.released"] == SHARDS
    assert found["saga.coordinators"] == 2
    assert found["saga.checkpoint"] <= 13
    assert found.total() <= 100


async def test_the_librarys_records_are_bounded_when_sagas_are_leased_alone(
    openings, saga, other
):
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as able,
        eb.SagaCoordinator(openings[1], [other]) as unable,
    ):
        await shards_of(able, unable)
        await all_completed(await start_all(able, saga, [f"s-{n}" for n in range(300)]))
    # Two coordinators have joined, shared, leased and left.
    assert (await system_records(openings[2])).total() <= 2 * 60


async def test_coordinators_that_only_live_record_nothing(openings, saga, other):
    """Heartbeats are in the shared page, and leases aren't renewed."""
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as able,
        eb.SagaCoordinator(openings[1], [other]) as unable,
    ):
        await shards_of(able, unable)
        await all_completed(await start_all(able, saga))
        head = -1
        with anyio.fail_after(SOON):
            # They may still have to give back leases of the sagas that have ended.
            while head != (head := await openings[2].head()):  # noqa: ASYNC110
                await anyio.sleep(1.0)


async def test_a_coordinator_that_only_looks_records_nothing(openings, saga):
    async with eb.SagaCoordinator(openings[0], [saga]) as able:
        await all_completed(await start_all(able, saga))
    head = await openings[0].head()
    async with eb.SagaCoordinator(openings[1], []) as looking:
        assert await looking.list() == []
    assert await openings[0].head() == head


@pytest.mark.parametrize("seed", range(3))
async def test_each_saga_is_driven_once_whichever_code_comes_and_goes(openings, seed):
    """Coordinators with some of the sagas come and go; one with each always stays."""
    draw = Random(seed)
    receiver = Receiver()
    sagas = [
        trip(inside("book"), outside(receiver, "pay", timeout=30 * SECOND), name=name)
        for name in ("red", "green", "blue")
    ]

    async def come_and_go() -> None:
        for _ in range(5):
            given = draw.sample(sagas, draw.randint(0, 3))
            opening = draw.choice(openings)
            async with eb.SagaCoordinator(opening, given) as coordinator:
                await anyio.sleep(draw.uniform(0, 0.3))
                assert await coordinator.blocked() == []

    async with (
        eb.SagaCoordinator(openings[0], [sagas[0], sagas[1]]) as one,
        eb.SagaCoordinator(openings[1], [sagas[2]]) as two,
    ):
        handles = []
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(come_and_go)
            for n in range(90):
                saga = sagas[n % 3]
                starter = two if saga is sagas[2] else one
                handles.append(await starter.start(saga, Trip("mia"), id=f"saga-{n}"))
                await anyio.sleep(0.01)
        await all_completed(handles)
        await shards_of(one, two)
        assert await one.list() == await two.list() == []
    assert set(receiver.calls.values()) == {1}
    assert await openings[2].version(ATTENTION) == 0
