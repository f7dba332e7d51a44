"""Sagas that start other sagas, wait for them and cancel them from their own steps.

The hazard: a step holds a slot of its coordinator while it waits for a saga that needs
one, until both time out and healthy sagas are compensated.
"""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from tests.saga_kit import SECOND

pytestmark = pytest.mark.anyio

ONCE = eb.RetryPolicy(maximum_attempts=1)
# Far longer than any of it takes on a busy machine, and short enough for the test to end.
TIMEOUT = timedelta(seconds=60)


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


class Family:
    """Sagas whose steps use the coordinator that drives them.

    The state is a number of generations; `acting` is called by the step of each saga
    that has descendants.
    """

    def __init__(self, acting):
        self.acting = acting
        self.at_work = self.most_at_work = 0
        self.compensated = []
        step = eb.step("act", self.act, timeout=TIMEOUT, retry=ONCE)
        step = step.compensated_by(self.compensate, retry=ONCE, timeout=TIMEOUT)
        self.saga = eb.Saga("family", int, steps=[step])
        self.coordinator = None

    async def act(self, context: eb.StepContext[int]) -> str:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await anyio.sleep(0.02)
        self.at_work -= 1
        if context.state:
            return await self.acting(self, context)
        return context.saga_id

    async def compensate(self, context, did):
        self.compensated.append(context.saga_id)

    async def start(self, context):
        child = f"{context.saga_id}-{context.state - 1}"
        return await self.coordinator.start(self.saga, context.state - 1, id=child)

    async def run(self, store, number, generations=1, *, concurrency):
        """Start some sagas at once, and return how they and all others ended."""
        ends = []

        async def one(index):
            handle = await self.coordinator.start(
                self.saga, generations, id=f"saga-{index}"
            )
            ends.append(await handle.result())

        coordinator = eb.SagaCoordinator(store, [self.saga], concurrency=concurrency)
        with anyio.fail_after(TIMEOUT.total_seconds() - 2):
            async with coordinator as self.coordinator:
                async with anyio.create_task_group() as tasks:
                    for index in range(number):
                        tasks.start_soon(one, index)
                while await coordinator.list():  # noqa: ASYNC110 - the descendants' ends
                    await anyio.sleep(0.005)
        return ends


def all_completed(ends, number):
    return [end.outcome for end in ends] == [eb.SagaOutcome.COMPLETED] * number


async def ended(store):
    found = store.read_all(types=["saga.completed"])
    return {recorded.stream async for recorded in found}


async def test_a_step_starts_a_saga_while_steps_like_it_hold_all_slots(store):
    async def acting(family, context):
        return (await family.start(context)).id

    family = Family(acting)
    assert all_completed(await family.run(store, 4, concurrency=4), 4)
    children = {f"saga-{index}-0" for index in range(4)}
    assert children <= await ended(store)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_step_waits_for_the_result_of_a_saga_that_needs_a_slot(
    store, concurrency
):
    """Four generations, each of which waits for the next one."""

    async def acting(family, context):
        handle = await family.start(context)
        result = await handle.result()
        assert result.outcome is eb.SagaOutcome.COMPLETED
        return handle.id

    family = Family(acting)
    ends = await family.run(store, 3, generations=3, concurrency=concurrency)
    assert all_completed(ends, 3)
    assert len(await ended(store)) == 12
    assert family.most_at_work <= concurrency


async def test_a_step_waits_for_several_sagas_at_once(store):
    async def acting(family, context):
        async def one(index):
            child = f"{context.saga_id}-{index}"
            handle = await family.coordinator.start(family.saga, 0, id=child)
            await handle.result()

        async with anyio.create_task_group() as tasks:
            for index in range(5):
                tasks.start_soon(one, index)
        return "all"

    family = Family(acting)
    assert all_completed(await family.run(store, 2, concurrency=2), 2)
    assert len(await ended(store)) == 12
    assert family.most_at_work <= 2


async def test_the_slots_are_all_there_after_steps_have_waited(store):
    """A slot that is released twice, or never again, would show here."""

    async def acting(family, context):
        await (await family.start(context)).result()
        return "waited"

    family = Family(acting)
    assert all_completed(await family.run(store, 4, concurrency=2), 4)
    slots = family.coordinator._parts.work.workers._permits
    assert (slots._free, len(slots._waiting)) == (2, 0)


async def test_a_compensation_starts_a_saga_and_waits_for_it(store):
    async def fail(context: eb.StepContext[int]) -> str:
        raise PermissionError

    async def act(context: eb.StepContext[int]) -> str:
        return "done"

    async def compensate(context, did):
        handle = await service.start(other, 0, id=f"{context.saga_id}-refund")
        await handle.result()

    steps = [
        eb.step("act", act, timeout=TIMEOUT).compensated_by(
            compensate, retry=ONCE, timeout=TIMEOUT
        ),
        eb.step(
            "fail", fail, timeout=TIMEOUT, refusals=(PermissionError,)
        ).without_compensation(),
    ]
    saga = eb.Saga("failing", int, steps=steps)
    other = eb.Saga("refund", int, steps=[steps[0]])
    async with eb.SagaCoordinator(store, [saga, other], concurrency=2) as service:
        handles = [await service.start(saga, 0, id=f"saga-{i}") for i in range(4)]
        for handle in handles:
            end = await handle.result(timeout=TIMEOUT - 2 * SECOND)
            assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert {f"saga-{i}-refund" for i in range(4)} <= await ended(store)


@pytest.mark.parametrize("what", ["start", "get", "cancel"])
async def test_a_step_needs_a_saga_whose_start_waits_for_the_steps_own_slot(
    store, what
):
    async def acting(family, context):
        begun.set()
        while "saga-1" not in family.coordinator._parts.state.starts._waits:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        match what:
            case "start":
                await family.coordinator.start(family.saga, 0, id="saga-1")
            case "get":
                await family.coordinator.get(family.saga, "saga-1")
            case "cancel":
                await family.coordinator.cancel("saga-1", reason="not needed")
        return "done"

    begun = anyio.Event()
    family = Family(acting)
    coordinator = eb.SagaCoordinator(store, [family.saga], concurrency=1)
    with anyio.fail_after(TIMEOUT.total_seconds() - 2):
        async with coordinator as family.coordinator:
            first = await coordinator.start(family.saga, 1, id="saga-0")
            await begun.wait()
            second = await coordinator.start(family.saga, 0, id="saga-1")
            assert (await first.result()).outcome is eb.SagaOutcome.COMPLETED
            end = await second.result()
    cancelled = what == "cancel"
    assert end.outcome is (
        eb.SagaOutcome.COMPENSATED if cancelled else eb.SagaOutcome.COMPLETED
    )


async def test_a_step_cancels_its_own_saga(store):
    async def acting(family, context):
        await family.coordinator.cancel(context.saga_id, reason="not needed")
        return "done"

    family = Family(acting)
    [end] = await family.run(store, 1, concurrency=1)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert family.compensated == ["saga-0"]


async def test_a_step_starts_a_saga_while_its_coordinator_is_left(store):
    """Refused, the start would cost the step its only attempt."""

    async def acting(family, context):
        begun.set()
        await go.wait()
        return (await family.start(context)).id

    begun, go = anyio.Event(), anyio.Event()
    family = Family(acting)
    async with (
        anyio.create_task_group() as tasks,
        eb.SagaCoordinator(store, [family.saga]) as family.coordinator,
    ):
        await family.coordinator.start(family.saga, 1, id="saga-0")
        await begun.wait()
        tasks.start_soon(_later, go)
    async with eb.SagaCoordinator(store, [family.saga]) as coordinator:
        for saga_id in ("saga-0", "saga-0-0"):
            handle = await coordinator.get(family.saga, saga_id)
            end = await handle.result(timeout=TIMEOUT)
            assert end.outcome is eb.SagaOutcome.COMPLETED


async def test_a_step_that_waits_does_not_hold_back_the_end_of_its_coordinator(store):
    """What it waits for is driven by nobody once the coordinator is left."""

    async def acting(family, context):
        if context.attempt == 1:
            leave.set()
        return (await (await family.start(context)).result()).outcome.value

    leave = anyio.Event()
    family = Family(acting)
    step = eb.step(
        "act", family.act, timeout=TIMEOUT, retry=eb.RetryPolicy(maximum_attempts=2)
    )
    family.saga = eb.Saga("family", int, steps=[step.without_compensation()])
    with anyio.fail_after(TIMEOUT.total_seconds() / 2):
        async with eb.SagaCoordinator(store, [family.saga]) as family.coordinator:
            await family.coordinator.start(family.saga, 1, id="saga-0")
            await leave.wait()
        async with eb.SagaCoordinator(store, [family.saga]) as family.coordinator:
            handle = await family.coordinator.get(family.saga, "saga-0")
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


async def _later(event):
    await anyio.sleep(0.1)
    event.set()


async def test_a_task_that_outlives_its_step_waits_for_a_slot_like_any_other(store):
    """Its start is no step's, so the bound on sagas at work holds for it."""

    async def acting(family, context):
        if context.saga_id == "saga-0":
            tasks.start_soon(outlive)
        else:
            await busy.wait()
        return "done"

    async def outlive():
        await ended_first.wait()
        await family.coordinator.start(family.saga, 0, id="saga-late")
        started.set()

    busy, ended_first, started = anyio.Event(), anyio.Event(), anyio.Event()
    family = Family(acting)
    async with (
        anyio.create_task_group() as tasks,
        eb.SagaCoordinator(store, [family.saga], concurrency=1) as family.coordinator,
    ):
        first = await family.coordinator.start(family.saga, 1, id="saga-0")
        await first.result(timeout=TIMEOUT)
        second = await family.coordinator.start(family.saga, 1, id="saga-1")
        ended_first.set()
        with anyio.fail_after(TIMEOUT.total_seconds()):
            while "saga-late" not in family.coordinator._parts.state.starts._waits:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            assert not started.is_set()
            busy.set()
            await started.wait()
            await second.result()


async def test_slots_are_given_in_the_order_of_asking_and_survive_cancellation():
    from eventbraid.saga.running._permits import Permits

    slots, order = Permits(1), []

    async def take(name):
        await slots.acquire()
        order.append(name)

    await take("first")
    async with anyio.create_task_group() as tasks:
        scopes = []

        async def cancellable():
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await take("cancelled")

        tasks.start_soon(cancellable)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(take, "second")
        await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        slots.reclaim()
        slots.release()
        await anyio.wait_all_tasks_blocked()
        assert order == ["first"]  # One more than there may be still has one.
        slots.release()
        await anyio.wait_all_tasks_blocked()
        assert order == ["first", "second"]
