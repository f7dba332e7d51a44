"""Waits end once, with the first signal or with their time, in whatever process.

The hazards: a signal that is lost because the saga did not wait for it yet; a wait that ends
twice, or never, after a crash or a step of the clock; one that keeps others from running.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga import Signal, parallel, sequence, sleep, wait, when
from tests.saga_kit import (
    HOUR,
    SECOND,
    Crash,
    MortalStore,
    Receiver,
    inside,
    ledger_of,
    notes,
    outside,
    recorded,
    records,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ID = "saga-1"


@dataclass(frozen=True)
class Booking:
    """The state."""

    seats: int = 0
    note: str = ""


confirmed = Signal("confirmed", int)
declined = Signal("declined", str)
nudge = Signal("nudge")


def booked(state: Booking, seats: int) -> Booking:
    return replace(state, seats=state.seats + seats)


def saga_of(*nodes, **options) -> eb.Saga[Booking]:
    return eb.Saga("booking", Booking, steps=list(nodes), **options)


async def run(store, saga, *, id=ID):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Booking(), id=id)
        return await handle.result()


async def noted(store, what: str) -> None:
    """Wait until a command of the saga has noted something."""
    async with store.subscribe(stream=ledger_of(ID)) as news:
        async for found in news:
            if eb.decode_event(found).what == what:
                return


async def test_a_signal_ends_the_wait_and_is_folded():
    saga = saga_of(inside("first"), wait(confirmed, then=booked), inside("last"))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Booking(), id=ID)
        await recorded(store, ID, "wait_started")
        assert await notes(store, ID) == ["first"]
        await coordinator.signal(ID, confirmed, 3, by="ann", note="by phone")
        done = await handle.result()
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert done.state.seats == 3
        assert await notes(store, ID) == ["first", "last"]
        assert await records(store, ID) == [
            "started",
            "step_succeeded",
            "wait_started",
            "signal_received",
            "wait_ended",
            "step_succeeded",
            "completed",
        ]


async def test_a_signal_that_arrives_before_its_wait_is_kept():
    receiver = Receiver(plan={"first": ["stall"]})
    saga = saga_of(
        outside(receiver, "first", then=None),
        wait(confirmed, then=booked),
        wait(nudge),
        wait(confirmed, name="again", then=booked),
    )
    async with eb.open_async("memory:") as store:
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Booking(), id=ID)
            for seats in (3, 4):
                await coordinator.signal(ID, confirmed, seats)
            await coordinator.signal(ID, nudge)
        receiver.plan["first"] = ["ok"]
        done = await run(store, saga)
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert done.state.seats == 7
        assert "wait_started" not in await records(store, ID)


async def test_the_first_of_several_signals_ends_the_wait_and_the_other_is_kept():
    saga = saga_of(
        wait(
            confirmed.then(booked), declined.then(lambda s, why: replace(s, note=why))
        ),
        when("is declined", lambda s: bool(s.note), then=[inside("regret")]),
        wait(confirmed, name="then", then=booked),
    )
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Booking(), id=ID)
        await coordinator.signal(ID, declined, "full")
        await coordinator.signal(ID, confirmed, 2)
        done = await handle.result()
        assert done.state == Booking(2, "full")
        assert await notes(store, ID) == ["regret"]


async def test_the_saga_fails_when_the_time_has_come():
    receiver = Receiver()
    saga = saga_of(
        outside(receiver, "hold", then=None),
        wait(confirmed, timeout=0.05 * SECOND, then=booked),
        inside("last"),
    )
    async with eb.open_async("memory:") as store:
        done = await run(store, saga)
        assert done.outcome is eb.SagaOutcome.COMPENSATED
        assert "no signal confirmed within" in (done.failure or "")
        assert receiver.standing() == []


async def test_the_saga_continues_when_the_time_has_come():
    saga = saga_of(
        wait(
            confirmed,
            timeout=0.05 * SECOND,
            then=booked,
            on_timeout=lambda state: replace(state, note="nobody called"),
        ),
        inside("last"),
    )
    async with eb.open_async("memory:") as store:
        done = await run(store, saga)
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert done.state.note == "nobody called"
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            again = await coordinator.get(saga, ID)
            assert again.state.note == "nobody called"


async def test_a_sleep_ends_within_twenty_milliseconds_of_its_time():
    late: list[float] = []
    for _ in range(5):
        begun = time.monotonic()
        async with eb.open_async("memory:") as store:
            await run(store, saga_of(sleep("nap", 0.1 * SECOND)))
        late.append(time.monotonic() - begun - 0.1)
    assert min(late) >= 0
    assert min(late) < 0.05


async def test_a_sleep_until_a_time_of_the_state():
    begun = datetime.now(UTC)
    until = begun + 0.1 * SECOND
    async with eb.open_async("memory:") as store:
        done = await run(store, saga_of(sleep("until then", lambda _: until)))
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert datetime.now(UTC) >= until
        past = saga_of(sleep("until then", lambda _: begun - HOUR))
        assert (await run(store, past, id="saga-2")).outcome is eb.SagaOutcome.COMPLETED


@pytest.mark.parametrize(
    "until",
    [lambda _: datetime.now(), lambda _: 5, lambda state: state.missing],  # noqa: DTZ005 - the fault
    ids=["no zone", "no time", "raises"],
)
async def test_a_defect_of_until_blocks_the_saga(until):
    saga = saga_of(sleep("nap", until))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Booking(), id=ID)
        with pytest.raises(eb.errors.SagaBlocked, match="until of step 'nap'"):
            await handle.result()


async def test_a_payload_of_another_type_is_refused_and_the_wait_goes_on():
    other = Signal("confirmed", str)
    saga = saga_of(wait(confirmed, then=booked))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Booking(), id=ID)
        with pytest.raises(eb.errors.InvalidValue):
            await coordinator.signal(ID, confirmed, "three")  # type: ignore[call-overload]
        await coordinator.signal(ID, other, "three")
        await recorded(store, ID, "signal_refused")
        await coordinator.signal(ID, confirmed, 3)
        assert (await handle.result()).state.seats == 3


async def test_an_ended_saga_gets_no_signal():
    saga = saga_of(inside("only"))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Booking(), id=ID)
        await handle.result()
        with pytest.raises(eb.errors.InvalidTransition, match="completed"):
            await coordinator.signal(ID, nudge)
        with pytest.raises(eb.errors.SagaNotFound):
            await coordinator.signal("saga-2", nudge)


async def test_a_waiting_saga_reacts_to_cancel_at_once():
    receiver = Receiver()
    saga = saga_of(outside(receiver, "hold", then=None), wait(confirmed, timeout=HOUR))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Booking(), id=ID)
        await recorded(store, ID, "wait_started")
        await coordinator.cancel(ID, reason="no")
        with anyio.fail_after(10):
            done = await handle.result()
        assert done.outcome is eb.SagaOutcome.COMPENSATED
        assert receiver.standing() == []


async def test_waiting_sagas_hold_no_permit_and_record_nothing():
    saga = saga_of(wait(confirmed, then=booked), inside("last"))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga], concurrency=2) as coordinator,
    ):
        handles = [
            await coordinator.start(saga, Booking(), id=f"saga-{i}") for i in range(50)
        ]
        head = await store.head()
        await anyio.sleep(0.1)
        assert await store.head() == head
        for handle in handles:
            await coordinator.signal(handle.id, confirmed, 1)
        for handle in handles:
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


async def test_the_deadline_of_the_saga_ends_a_wait():
    saga = saga_of(inside("first"), wait(confirmed), deadline=0.2 * SECOND)
    async with eb.open_async("memory:") as store:
        with anyio.fail_after(20):
            done = await run(store, saga)
        assert done.outcome is eb.SagaOutcome.COMPENSATED


async def test_a_wait_outlives_its_process():
    saga = saga_of(wait(confirmed, timeout=0.3 * SECOND, on_timeout=lambda s: s))
    async with eb.open_async("memory:") as store:
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Booking(), id=ID)
            await recorded(store, ID, "wait_started")
        await anyio.sleep(0.4)
        begun = time.monotonic()
        done = await run(store, saga)
        assert time.monotonic() - begun < 1
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert (await records(store, ID)).count("wait_ended") == 1


async def test_a_branch_that_waits_holds_back_no_other_one():
    called, released = anyio.Event(), anyio.Event()

    async def slow(context: eb.StepContext[Booking]) -> None:
        called.set()
        await released.wait()

    saga = saga_of(
        parallel(
            sequence(wait(confirmed, then=booked), inside("after the signal")),
            sequence(sleep("nap", 0.05 * SECOND), inside("after the nap")),
            eb.step("slow", slow, timeout=HOUR).without_compensation(),
        )
    )
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Booking(), id=ID)
        await called.wait()
        with anyio.fail_after(20):
            await noted(store, "after the nap")
            assert "after the signal" not in await notes(store, ID)
            await coordinator.signal(ID, confirmed, 1)
            await noted(store, "after the signal")
        released.set()
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


@pytest.mark.parametrize("sent", ["before", "during"])
async def test_a_crash_at_any_append_loses_no_signal_and_uses_none_twice(sent):
    saga = saga_of(
        inside("first"),
        wait(confirmed, then=booked),
        sleep("nap", timedelta(milliseconds=1)),
        inside("last"),
    )
    for number in range(1, 40):
        for after in [False, True]:
            async with eb.open_async("memory:") as store:

                async def live(store, *, sends) -> None:
                    async with eb.SagaCoordinator(store, [saga]) as coordinator:
                        handle = await coordinator.start(saga, Booking(), id=ID)
                        if sent == "during":
                            await recorded(store, ID, "wait_started")
                        if sends:
                            await coordinator.signal(ID, confirmed, 3)
                        await handle.result()

                try:
                    await live(MortalStore(store, number, after=after), sends=True)
                except* Crash:
                    arrived = "signal_received" in await records(store, ID)
                    await live(store, sends=not arrived)
                else:
                    return
                assert await notes(store, ID) == ["first", "last"]
                found = await records(store, ID)
                assert found.count("wait_ended") == 2
                assert found.count("signal_received") == 1
    raise AssertionError("the saga has more appends than this test expects")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wait, "no signals"),
        (lambda: wait("confirmed"), "is not a signal"),
        (lambda: wait(confirmed, confirmed), "two signals of one name"),
        (lambda: wait(confirmed, declined, then=booked), "several signals"),
        (lambda: wait(confirmed, timeout=timedelta()), "confirmed.*above 0"),
        (lambda: wait(confirmed, on_timeout=lambda s: s), "no timeout="),
        (lambda: sleep("nap", timedelta()), "nap.*above 0"),
        (lambda: sleep("nap", 5), "give a timedelta"),
        (lambda: Signal("", int), "printable"),
        (lambda: Signal("x", object), "couldn't be read"),
        (
            lambda: saga_of(
                inside("a", kind=eb.StepKind.PIVOT), wait(confirmed, timeout=HOUR)
            ),
            "comes after 'a'",
        ),
    ],
)
def test_an_invalid_wait_is_refused(make, message):
    with pytest.raises(eb.errors.InvalidSaga, match=message):
        make()


async def test_a_wait_without_an_end_may_follow_the_pivot():
    saga = saga_of(
        inside("a", kind=eb.StepKind.PIVOT),
        wait(confirmed, timeout=0.05 * SECOND, on_timeout=lambda s: s),
        sleep("nap", 0.01 * SECOND),
    )
    async with eb.open_async("memory:") as store:
        assert (await run(store, saga)).outcome is eb.SagaOutcome.COMPLETED
