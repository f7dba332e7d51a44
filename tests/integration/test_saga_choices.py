"""Choices are made by the state when the saga reaches them, and never again.

The hazard: a choice that is made anew after a crash, with another state or other code;
and one whose other sequence is executed or compensated, too.
"""

from __future__ import annotations

import pytest

import eventbraid as eb
from eventbraid.saga import parallel, when
from tests.saga_kit import (
    Receiver,
    Trip,
    inside,
    notes,
    outside,
    recorded,
    records,
    trip,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ID = "saga-1"


async def run(store, saga, who: str = "ann"):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip(who), id=ID)
        return await handle.result()


def by_name(receiver: Receiver, condition=lambda state: state.who == "ann"):
    return trip(
        inside("first"),
        when(
            "is ann",
            condition,
            then=[inside("for ann"), outside(receiver, "gift")],
            otherwise=[inside("for others")],
        ),
        outside(receiver, "last"),
    )


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("ann", ["first", "for ann", "gift", "last"]),
        ("bob", ["first", "for others", "last"]),
    ],
)
async def test_the_state_chooses_one_of_two_sequences(who, expected):
    async with eb.open_async("memory:") as store:
        done = await run(store, by_name(Receiver()), who)
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert await notes(store, ID) == expected


async def test_only_the_chosen_sequence_is_compensated():
    receiver = Receiver(plan={"last": ["decline"]})
    async with eb.open_async("memory:") as store:
        done = await run(store, by_name(receiver))
        assert done.outcome is eb.SagaOutcome.COMPENSATED
        assert [one for one in await notes(store, ID) if "compensate" in one] == [
            "compensate for ann",
            "compensate first",
        ]
        assert receiver.standing() == []


async def test_a_choice_without_steps_is_passed():
    saga = trip(
        when("never", lambda _: False, then=[inside("a")]),
        parallel(
            when("one", lambda _: True, then=[inside("b")], otherwise=[inside("c")]),
            when("none", lambda _: False, then=[inside("d")]),
        ),
    )
    async with eb.open_async("memory:") as store:
        done = await run(store, saga)
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert await notes(store, ID) == ["b"]
        assert (await records(store, ID)).count("branch_chosen") == 3


async def test_a_choice_is_recorded_and_not_made_again():
    asked: list[bool] = []
    receiver = Receiver(plan={"gift": ["stall"]})

    def condition(state: Trip) -> bool:
        asked.append(True)
        return len(asked) == 1

    async with eb.open_async("memory:") as store:
        saga = by_name(receiver, condition)
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Trip("ann"), id=ID)
            await recorded(store, ID, "step_started")
        receiver.plan["gift"] = ["ok"]
        done = await run(store, saga)
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert asked == [True]
        assert "for others" not in await notes(store, ID)


@pytest.mark.parametrize(
    "condition",
    [lambda state: "yes", lambda state: state.missing],
    ids=["no truth value", "raises"],
)
async def test_a_defect_of_a_condition_blocks_the_saga(condition):
    async with eb.open_async("memory:") as store:
        saga = by_name(Receiver(), condition)
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("ann"), id=ID)
            with pytest.raises(eb.errors.SagaBlocked, match="is ann"):
                await handle.result()
        done = await run(store, by_name(Receiver()))
        assert done.outcome is eb.SagaOutcome.COMPLETED


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: when("x", lambda s: True), "no steps"),
        (lambda: when("", lambda s: True, then=[inside("a")]), "printable"),
        (lambda: trip(when("a", lambda s: True, then=[inside("a")])), "several"),
        (
            lambda: trip(
                when(
                    "x",
                    lambda s: True,
                    then=[inside("p", kind=eb.StepKind.PIVOT)],
                )
            ),
            "put it after",
        ),
        (lambda: parallel(inside("a")), "two branches"),
        (
            lambda: trip(parallel(inside("a"), inside("p", kind=eb.StepKind.PIVOT))),
            "put it after",
        ),
        (lambda: trip(parallel(inside("a"), "b")), "not a step"),
    ],
    ids=["empty", "unnamed", "double", "pivot", "lone", "pivot in group", "text"],
)
async def test_a_graph_that_cannot_work_is_refused(make, reason):
    with pytest.raises(eb.errors.InvalidSaga, match=reason):
        make()
