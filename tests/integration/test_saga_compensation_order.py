"""A compensation that is stuck holds back none of the others, unless that is asked for.

The hazard: one receiver refuses to compensate its step, and the money of all steps before it
stays where it is until a person has dealt with the one.
"""

from __future__ import annotations

import pytest

import eventbraid as eb
from tests.saga_kit import SECOND, Receiver, Trip, inside, notes, outside, records, trip

pytestmark = pytest.mark.anyio
SOON = 10 * SECOND


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def receiver():
    return Receiver(plan={"end": ["decline"]})


def journey(receiver, **options):
    """External and local steps, in turn; the last one is refused."""
    return trip(
        outside(receiver, "pay"),
        inside("book"),
        outside(receiver, "ship"),
        inside("pack"),
        outside(receiver, "end"),
        **options,
    )


async def stuck(coordinator, saga):
    handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
    ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.STUCK
    return ended


async def ended(coordinator, saga):
    handle = await coordinator.get(saga, "saga-1")
    return await handle.result(timeout=SOON)


async def test_a_stuck_compensation_holds_back_none_of_the_others(store, receiver):
    receiver.plan["compensate ship"] = ["decline"]
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        end = await stuck(coordinator, saga)
        assert end.failure == "can't be compensated: ship: Declined: ship declined"
        assert receiver.standing() == ["ship"]
        assert await notes(store, "saga-1") == [
            *("pay", "book", "ship", "pack", "compensate pack", "compensate book"),
        ]
        [summary] = await coordinator.stuck()
        assert summary.step == "ship"


@pytest.mark.parametrize("how", ["retry", "skip"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_decision_finishes_what_is_stuck(store, receiver, how, restarted):
    receiver.plan["compensate ship"] = ["decline", "ok"]
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await stuck(coordinator, saga)
        if not restarted:
            await decide(coordinator, how)
            assert (
                await ended(coordinator, saga)
            ).outcome is eb.SagaOutcome.COMPENSATED
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        if restarted:
            await decide(coordinator, how)
        assert (await ended(coordinator, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.standing() == ([] if how == "retry" else ["ship"])
    assert receiver.calls["saga-1/pay/1/compensation"] == 1


async def decide(coordinator, how: str, step: str = "ship") -> None:
    if how == "retry":
        await coordinator.retry("saga-1", by="mia", note="the carrier is back")
    else:
        await coordinator.skip("saga-1", step, by="mia", note="by phone")


async def test_a_strict_order_stops_at_a_stuck_compensation(store, receiver):
    receiver.plan["compensate ship"] = ["decline", "ok"]
    saga = journey(receiver, compensation_order="strict")
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await stuck(coordinator, saga)
        assert receiver.standing() == ["pay", "ship"]
        assert "compensate book" not in await notes(store, "saga-1")
        await decide(coordinator, "retry")
        assert (await ended(coordinator, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.standing() == []
    assert (await notes(store, "saga-1"))[-1] == "compensate book"


async def test_several_stuck_compensations_are_retried_together(store, receiver):
    receiver.plan |= {
        "compensate ship": ["decline", "ok"],
        "compensate pay": ["decline", "ok"],
    }
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await stuck(coordinator, saga)
        assert receiver.standing() == ["pay", "ship"]
        await decide(coordinator, "retry")
        assert (await ended(coordinator, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.standing() == []


async def test_several_stuck_compensations_are_skipped_one_by_one(store, receiver):
    receiver.plan |= {"compensate ship": ["decline"], "compensate pay": ["decline"]}
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await stuck(coordinator, saga)
        await decide(coordinator, "skip", "pay")
        end = await ended(coordinator, saga)
        assert end.outcome is eb.SagaOutcome.STUCK
        assert "ship" in end.failure
        [summary] = await coordinator.stuck()
        assert summary.step == "ship"
        with pytest.raises(
            eb.errors.InvalidTransition, match="stuck at 'ship', not 'book'"
        ):
            await decide(coordinator, "skip", "book")
        await decide(coordinator, "skip")
        assert (await ended(coordinator, saga)).outcome is eb.SagaOutcome.COMPENSATED


async def test_compensations_keep_their_order_while_one_is_retried(store, receiver):
    receiver.plan["compensate ship"] = ["drop", "drop", "ok"]
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert (await handle.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.log == ["pay", "ship", "compensate ship", "compensate pay"]


async def test_each_attempt_to_compensate_is_recorded_before_it_is_made(
    store, receiver
):
    receiver.plan["compensate ship"] = ["drop", "ok"]
    seen = []

    async def compensate(context, did):
        seen.append((await records(store, "saga-1"))[-1])

    first = outside(receiver, "pay").compensated_by(compensate)
    saga = trip(first, outside(receiver, "ship"), outside(receiver, "end"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert (await handle.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPENSATED
    assert seen == ["compensation_attempted"]
    recorded = await records(store, "saga-1")
    assert recorded.count("compensation_attempted") == 3


def test_another_order_is_refused(receiver):
    with pytest.raises(eb.errors.InvalidSaga, match="'relaxed' or 'strict', not 'any'"):
        journey(receiver, compensation_order="any")


async def test_the_order_is_no_part_of_the_graph(store, receiver):
    """It may be changed for sagas that are under way."""
    receiver.plan["compensate ship"] = ["decline"]
    strict = journey(receiver, compensation_order="strict")
    async with eb.SagaCoordinator(store, [strict]) as coordinator:
        await stuck(coordinator, strict)
    relaxed = journey(receiver)
    assert relaxed.graph_hash == strict.graph_hash
    async with eb.SagaCoordinator(store, [relaxed]) as coordinator:
        await decide(coordinator, "retry")
        assert (await ended(coordinator, relaxed)).outcome is eb.SagaOutcome.STUCK
    assert receiver.standing() == ["ship"]
