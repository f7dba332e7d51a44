"""A step for each item: bounded, exactly once per item, and compensated per item.

The hazards: an item that is forgotten or taken twice after a crash; an item whose step
is compensated with the data of another one; a group that costs the square of its size.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga import ItemState, each, parallel, when
from tests.saga_kit import (
    QUICK,
    SECOND,
    Crash,
    Declined,
    MortalStore,
    Receiver,
    inside,
    notes,
    outside,
    recorded,
    records,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

ID = "saga-1"


@dataclass(frozen=True)
class Tour:
    """The state: the towns of a tour, each with its hotel, and what was booked."""

    who: str
    hotels: dict[str, str]
    booked: dict[str, str]


def tour(*towns: str) -> Tour:
    return Tour("ann", {town: f"hotel of {town}" for town in towns}, {})


def booking(receiver: Receiver, *, concurrency: int = 3, **options):
    """Book a hotel in each town; the receiver's plan may name a town's step."""
    return each(
        lambda state: state.hotels,
        outside(receiver, "book", then=None, **options),
        concurrency=concurrency,
        then=lambda state, results: replace(state, booked={**results}),
    )


def saga_of(*nodes) -> eb.Saga[Tour]:
    return eb.Saga("tour", Tour, steps=list(nodes))


async def run(store, saga, state):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, state, id=ID)
        return await handle.result()


async def test_the_step_is_executed_for_each_item_and_the_results_are_folded():
    receiver = Receiver()
    async with eb.open_async("memory:") as store:
        saga = saga_of(inside("first"), booking(receiver), inside("last"))
        done = await run(store, saga, tour("rome", "pisa", "bari", "como"))
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert done.state.booked == {
            town: f"receipt {ID}/book%5B{town}%5D/1"
            for town in ["rome", "pisa", "bari", "como"]
        }
        marks = await notes(store, ID)
        assert (marks[0], marks[-1]) == ("first", "last")
        assert sorted(marks[1:-1]) == [
            "book[bari]",
            "book[como]",
            "book[pisa]",
            "book[rome]",
        ]


async def test_each_item_is_passed_with_the_state_and_its_key():
    seen: list[tuple[str, str, str]] = []

    async def act(context: eb.StepContext[ItemState[Tour, str]]) -> None:
        seen.append((context.state.key, context.state.item, context.state.state.who))

    step = eb.step("see", act, timeout=SECOND).without_compensation()
    async with eb.open_async("memory:") as store:
        await run(
            store, saga_of(each(lambda state: state.hotels, step)), tour("rome", "pisa")
        )
    assert sorted(seen) == [
        ("pisa", "hotel of pisa", "ann"),
        ("rome", "hotel of rome", "ann"),
    ]


async def test_no_more_items_than_the_limit_are_executed_at_the_same_time():
    now, most = 0, 0

    async def act(_: eb.StepContext[ItemState[Tour, str]]) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(0.005)
        now -= 1

    async def compensate(_, did) -> None:
        await act(_)

    step = eb.step("see", act, timeout=30 * SECOND).compensated_by(compensate)
    group = each(lambda state: state.hotels, step, concurrency=4)
    failing = outside(Receiver(plan={"pay": ["decline"]}), "pay", then=None)
    async with eb.open_async("memory:") as store:
        towns = [f"t{i}" for i in range(20)]
        assert (await run(store, saga_of(group), tour(*towns))).state
        assert most == 4
    most = 0
    async with eb.open_async("memory:") as store:
        done = await run(store, saga_of(group, failing), tour(*towns))
        assert done.outcome is eb.SagaOutcome.COMPENSATED
        assert most == 4


async def test_a_group_without_items_is_passed():
    async with eb.open_async("memory:") as store:
        done = await run(store, saga_of(booking(Receiver()), inside("last")), tour())
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert await notes(store, ID) == ["last"]
        assert await records(store, ID) == [
            "started",
            "items_listed",
            "items_completed",
            "step_succeeded",
            "completed",
        ]


async def test_a_failure_starts_no_further_item_and_compensates_those_booked():
    receiver = Receiver(plan={"book[como]": ["decline"]})
    async with eb.open_async("memory:") as store:
        saga = saga_of(booking(receiver, concurrency=1), inside("last"))
        done = await run(store, saga, tour("bari", "como", "lodi", "pisa"))
        assert done.outcome is eb.SagaOutcome.COMPENSATED
        assert receiver.standing() == []
        assert "last" not in await notes(store, ID)
        assert receiver.log == ["book[bari]", "compensate book[bari]"]


async def test_skipped_and_replaced_items_have_no_result():
    receiver = Receiver(plan={"book[como]": ["decline"]})

    def instead(context, failure):
        return inside("cancel").make(context)

    group = booking(
        receiver,
        otherwise=instead,
        skip_if=lambda state: state.key == "pisa" and "a friend is there",
    )
    async with eb.open_async("memory:") as store:
        done = await run(store, saga_of(group), tour("rome", "como", "pisa"))
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert list(done.state.booked) == ["rome"]
        assert sorted(await notes(store, ID)) == ["book[como]", "book[rome]"]


async def test_a_local_step_is_executed_for_each_item():
    group = each(lambda state: state.hotels, inside("pack"))
    async with eb.open_async("memory:") as store:
        await run(store, saga_of(group), tour("rome", "pisa"))
        assert sorted(await notes(store, ID)) == ["pack[pisa]", "pack[rome]"]


async def test_groups_stand_in_parallel_branches_and_in_choices():
    receiver = Receiver(plan={"pay": ["decline"]})
    saga = saga_of(
        parallel(
            booking(receiver),
            when(
                "has hotels",
                lambda state: bool(state.hotels),
                then=[each(lambda state: state.hotels, inside("pack"))],
            ),
        ),
        outside(receiver, "pay", then=None),
    )
    async with eb.open_async("memory:") as store:
        done = await run(store, saga, tour("rome", "pisa"))
        assert done.outcome is eb.SagaOutcome.COMPENSATED
        assert receiver.standing() == []
        marks = await notes(store, ID)
        assert {one for one in marks if one.startswith("compensate")} == {
            "compensate pack[rome]",
            "compensate pack[pisa]",
        }


@pytest.mark.parametrize("declined", [False, True])
async def test_a_crash_at_any_append_neither_forgets_nor_repeats_an_item(declined):
    towns = ["rome", "pisa", "bari", "como"]
    for number in range(1, 60):
        for after in [False, True]:
            receiver = Receiver(plan={"pay": ["decline"]} if declined else {})
            async with eb.open_async("memory:") as store:
                saga = saga_of(booking(receiver), outside(receiver, "pay", then=None))
                mortal = MortalStore(store, number, after=after)
                try:
                    await run(mortal, saga, tour(*towns))
                except* Crash:
                    done = await run(store, saga, tour(*towns))
                else:
                    return
                if declined:
                    assert done.outcome is eb.SagaOutcome.COMPENSATED
                    assert receiver.standing() == []
                else:
                    assert done.outcome is eb.SagaOutcome.COMPLETED
                    assert len(receiver.effects) == 1 + len(towns)
                    assert set(done.state.booked) == set(towns)
    raise AssertionError("the saga has more appends than this test expects")


async def test_the_items_are_those_of_the_state_before_the_group():
    """Another branch changes the state meanwhile; attempts and compensations ignore it."""
    receiver = Receiver(plan={"pay": ["decline"]})
    seen: list[str] = []

    async def see(context: eb.StepContext[ItemState[Tour, str]]) -> None:
        await anyio.sleep(0.02)
        seen.append(context.state.item)

    async def unsee(context: eb.StepContext[ItemState[Tour, str]], did) -> None:
        assert context.state.state.hotels == {}
        seen.append(f"no {context.state.item}")

    async def clear(_: eb.StepContext[Tour]) -> None:
        return None

    saga = saga_of(
        parallel(
            each(
                lambda state: state.hotels,
                eb.step("see", see, timeout=SECOND).compensated_by(unsee),
                concurrency=1,
            ),
            eb.step(
                "clear",
                clear,
                timeout=SECOND,
                then=lambda state, _: replace(state, hotels={}),
            ).without_compensation(),
        ),
        outside(receiver, "pay", then=None),
    )
    async with eb.open_async("memory:") as store:
        done = await run(store, saga, tour("rome", "pisa"))
        assert done.outcome is eb.SagaOutcome.COMPENSATED
    assert sorted(seen[:2]) == ["hotel of pisa", "hotel of rome"]
    assert sorted(seen[2:]) == ["no hotel of pisa", "no hotel of rome"]


@pytest.mark.parametrize(
    "items",
    [
        lambda state: state.missing,
        lambda state: [*state.hotels],
        lambda state: {7: "x"},
        lambda state: {"": "x"},
        lambda state: {"k" * 300: "x"},
        lambda state: {f"{i:0>100}": "x" for i in range(11_000)},
    ],
    ids=["raises", "no mapping", "no text", "empty", "too long", "too many"],
)
async def test_a_defect_of_items_blocks_the_saga(items):
    step = outside(Receiver(), "book", then=None)
    saga = saga_of(each(items, step))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, tour("rome"), id=ID)
        with pytest.raises(eb.errors.SagaBlocked, match="items of step 'book'"):
            await handle.result()


async def test_a_defect_of_then_blocks_the_saga_and_the_correction_resumes_it():
    receiver = Receiver()

    def saga(then):
        step = outside(receiver, "book", then=None)
        return saga_of(each(lambda state: state.hotels, step, then=then))

    async with eb.open_async("memory:") as store:
        broken = saga(lambda state, results: results["nowhere"])
        async with eb.SagaCoordinator(store, [broken]) as coordinator:
            handle = await coordinator.start(broken, tour("rome", "pisa"), id=ID)
            with pytest.raises(eb.errors.SagaBlocked, match="then of step 'book'"):
                await handle.result()
        right = saga(lambda state, results: replace(state, booked={**results}))
        done = await run(store, right, tour("rome", "pisa"))
        assert done.outcome is eb.SagaOutcome.COMPLETED
        assert set(done.state.booked) == {"rome", "pisa"}
        assert max(receiver.calls.values()) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: each(len, "book"), "needs a step"),
        (lambda: each(len, outside(Receiver(), "book")), "give the `then` to each"),
        (lambda: each(len, inside("a[b]")), "contains '\\['"),
        (lambda: each(len, inside("a"), concurrency=0), "at least 1, not 0"),
        (lambda: saga_of(each(len, inside("a")), inside("a[b]")), "looks like"),
        (lambda: saga_of(each(len, inside("a")), inside("a")), "several steps named"),
        (
            lambda: saga_of(
                each(len, inside("a", kind=eb.StepKind.PIVOT)), inside("b")
            ),
            "'a' is pivot",
        ),
    ],
)
def test_an_invalid_group_is_refused(make, message):
    with pytest.raises(eb.errors.InvalidSaga, match=message):
        make()


async def test_a_person_retries_the_step_of_one_item():
    async def act(context: eb.StepContext[ItemState[Tour, str]]) -> str:
        if context.state.key == "como" and context.attempt < 4:
            raise Declined("full")
        return context.state.item

    step = eb.step(
        "book",
        act,
        timeout=SECOND,
        kind=eb.StepKind.RETRIABLE,
        refusals=(Declined,),
        retry=QUICK,
    )
    saga = saga_of(each(lambda state: state.hotels, step))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, tour("rome", "como"), id=ID)
        await recorded(store, ID, "stuck")
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK


@pytest.mark.parametrize("declined", [False, True])
async def test_a_thousand_items_take_time_in_proportion(declined):
    async def seconds(count: int) -> float:
        receiver = Receiver(plan={"pay": ["decline"]} if declined else {})
        step = outside(receiver, "book", then=None, record=None)
        group = each(lambda state: state.hotels, step)
        saga = saga_of(group, outside(receiver, "pay", then=None))
        async with eb.open_async("memory:") as store:
            begin = time.process_time()
            await run(store, saga, tour(*[f"town {i}" for i in range(count)]))
            return time.process_time() - begin

    few = min([await seconds(100) for _ in range(2)])
    many = await seconds(1_000)
    assert many < 45 * few
