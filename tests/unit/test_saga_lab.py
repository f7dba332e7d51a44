"""The lab runs sagas as a coordinator does, on virtual time and with faults."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

import eventbraid as eb
from eventbraid.saga import ItemState, Signal, each, parallel, sleep, wait
from eventbraid.testing import SagaLab
from tests.saga_kit import (
    HOUR,
    MINUTE,
    SECOND,
    Declined,
    Receiver,
    Trip,
    inside,
    outside,
    trip,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

confirmed = Signal("confirmed", str)


def confirmation(**options):
    return wait(
        confirmed,
        timeout=24 * HOUR,
        then=lambda state, by: replace(state, who=by),
        **options,
    )


async def test_a_day_passes_at_once():
    begun = time.monotonic()
    with SagaLab(trip(sleep("nap", 24 * HOUR), inside("last"))) as lab:
        at = lab.time
        await lab.start(Trip("ann"))
        result = await lab.run()
        assert result.outcome is eb.SagaOutcome.COMPLETED
        assert lab.time - at == 24 * HOUR
    assert time.monotonic() - begun < 5


async def test_a_signal_within_the_time():
    with SagaLab(trip(inside("first"), confirmation())) as lab:
        await lab.start(Trip("ann"))
        await lab.run_until("wait for confirmed")
        await lab.advance(hours=23, seconds=3599)
        await lab.signal(confirmed, "bob")
        result = await lab.run()
        assert result.outcome is eb.SagaOutcome.COMPLETED
        assert result.state.who == "bob"


async def test_the_time_passes_without_a_signal():
    receiver = Receiver()
    saga = trip(outside(receiver, "hold"), confirmation())
    with SagaLab(saga) as lab:
        await lab.start(Trip("ann"))
        await lab.run_until("wait for confirmed")
        await lab.advance(days=1)
        result = await lab.run()
        assert result.outcome is eb.SagaOutcome.COMPENSATED
        assert receiver.standing() == []


async def test_failures_are_retried_with_their_delays():
    receiver = Receiver()
    slow = eb.RetryPolicy(
        maximum_attempts=4, initial_delay=HOUR, maximum_delay=HOUR, jitter="none"
    )
    saga = trip(outside(receiver, "pay", retry=slow))
    with SagaLab(saga) as lab:
        await lab.start(Trip("ann"))
        lab.fail("pay", times=3)
        at = lab.time
        result = await lab.run()
        assert result.outcome is eb.SagaOutcome.COMPLETED
        assert 3 * HOUR <= lab.time - at < 3 * HOUR + MINUTE
        assert len(receiver.effects) == 1
        lab.fail("pay")


async def test_too_many_failures_compensate():
    receiver = Receiver()
    saga = trip(outside(receiver, "hold"), outside(receiver, "pay"), inside("last"))
    with SagaLab(saga) as lab:
        lab.fail("pay", times=9)
        await lab.start(Trip("ann"))
        assert (await lab.run()).outcome is eb.SagaOutcome.COMPENSATED
        assert receiver.standing() == []
    with SagaLab(saga) as lab:
        lab.fail("last")
        await lab.start(Trip("ann"), id="saga-2")
        assert (await lab.run()).outcome is eb.SagaOutcome.COMPENSATED
        assert "the test lets 'last' fail" in str(lab.timeline.failure)


async def test_a_lost_answer_has_one_effect():
    receiver = Receiver()
    with SagaLab(trip(outside(receiver, "pay"))) as lab:
        lab.lose_answer("pay", times=2)
        await lab.start(Trip("ann"))
        assert (await lab.run()).outcome is eb.SagaOutcome.COMPLETED
        assert len(receiver.effects) == 1
        assert max(receiver.calls.values()) == 3


async def test_the_process_ends_after_a_record():
    receiver = Receiver()
    with SagaLab(trip(outside(receiver, "hold"), outside(receiver, "pay"))) as lab:
        lab.crash_after("pay", "started")
        await lab.start(Trip("ann"))
        assert (await lab.run()).outcome is eb.SagaOutcome.COMPLETED
        assert lab.ends == 1
        assert len(receiver.effects) == 2
        assert "unknown (crash)" in [one.what for one in lab.timeline.entries]


async def test_a_cancelled_saga():
    receiver = Receiver()
    with SagaLab(trip(outside(receiver, "hold"), confirmation())) as lab:
        await lab.start(Trip("ann"))
        await lab.run_until("wait for confirmed")
        await lab.cancel(reason="no")
        result = await lab.run()
        assert result.outcome is eb.SagaOutcome.COMPENSATED
        assert result.failure == "cancelled: no"


async def test_branches_wait_at_the_same_virtual_time():
    saga = trip(
        parallel(sleep("one hour", HOUR), sleep("two hours", 2 * HOUR), inside("now"))
    )
    with SagaLab(saga) as lab:
        at = lab.time
        await lab.start(Trip("ann"))
        await lab.advance(hours=1)
        assert lab.time - at == HOUR
        assert [one.step for one in lab.timeline.entries if one.what == "waited"] == [
            "one hour"
        ]
        await lab.run()
        assert lab.time - at == 2 * HOUR


async def test_a_wait_that_is_not_reached_or_has_no_end():
    with SagaLab(trip(inside("only"))) as lab:
        await lab.start(Trip("ann"))
        with pytest.raises(AssertionError, match="is completed and doesn't wait at"):
            await lab.run_until("nap")
    with SagaLab(trip(wait(confirmed))) as lab:
        await lab.start(Trip("ann"))
        with pytest.raises(AssertionError, match="waits for a signal"):
            await lab.run()
        await lab.advance(days=400)
        await lab.signal(confirmed, "ann")
        assert (await lab.run()).outcome is eb.SagaOutcome.COMPLETED


async def test_a_defect_is_raised():
    with SagaLab(trip(inside("a", skip_if=lambda state: state.missing))) as lab:
        await lab.start(Trip("ann"))
        with pytest.raises(eb.errors.SagaBlocked, match="skip_if of step 'a'"):
            await lab.run()


@pytest.mark.parametrize("declined", [False, True])
async def test_every_crash_point(declined):
    receivers: list[Receiver] = []

    def make():
        receivers.append(Receiver(plan={"pay": ["decline"]} if declined else {}))
        receiver = receivers[-1]
        book = outside(receiver, "book", then=None, record=None)
        return trip(
            inside("first"),
            parallel(
                outside(receiver, "fly", record=None),
                each(lambda _: {"rome": 1, "pisa": 2}, book),
            ),
            confirmation(),
            outside(receiver, "pay", maximum_crashes=3),
        )

    async def play(lab):
        await lab.run_until("wait for confirmed")
        await lab.signal(confirmed, "bob")
        return await lab.run()

    def check(lab, result):
        receiver = receivers[-1]
        if declined:
            assert result.outcome is eb.SagaOutcome.COMPENSATED
            assert receiver.standing() == []
        else:
            assert result.outcome is eb.SagaOutcome.COMPLETED
            assert sorted(receiver.effects.values()) == [
                "book[pisa]",
                "book[rome]",
                "fly",
                "pay",
            ]

    count = await SagaLab.every_crash_point(make, Trip("ann"), check, play=play)
    assert count == len(receivers) - 1
    assert count > 20


async def test_a_wrong_saga_is_found():
    """A receiver that ignores the key has the effect twice, at some of the points."""
    effects: list[str] = []

    def make():
        effects.clear()

        async def pay(context: eb.StepContext[Trip]) -> None:
            effects.append(context.idempotency_key)

        return trip(eb.step("pay", pay, timeout=SECOND).without_compensation())

    def check(lab, result):
        assert len(effects) == 1

    with pytest.raises(AssertionError):
        await SagaLab.every_crash_point(make, Trip("ann"), check)


async def test_the_state_of_items_is_passed_on():
    seen: list[str] = []

    async def see(context: eb.StepContext[ItemState[Trip, int]]) -> None:
        seen.append(context.state.key)
        if context.state.key == "b" and context.attempt < 2:
            raise Declined

    step = eb.step("see", see, timeout=timedelta(seconds=1)).without_compensation()
    with SagaLab(trip(each(lambda _: {"a": 1, "b": 2}, step))) as lab:
        lab.fail("see[a]")
        await lab.start(Trip("ann"))
        assert (await lab.run()).outcome is eb.SagaOutcome.COMPLETED
    assert sorted(seen) == ["a", "b", "b"]
