"""What may have happened is compensated, and one saga's accident is no other saga's.

Each test stands for a way in which a coordinator lost an effect, or a whole saga.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb

MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.anyio


@eb.event("saga_doubts.noted")
class Noted:
    what: str


class Note(eb.Stream[Noted], category="doubtnote"):
    """What commands of these sagas write."""


class Write(eb.StatefulCommand[None, Noted]):
    note: eb.Declared[Note]
    is_allowed: bool = True

    def initial(self):
        return None

    def apply(self, state, recorded, /):
        return None

    def decide(self, state, /):
        eb.require(self.is_allowed, "refused")
        yield self.note.write(Noted("done"))


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as store:
        yield store


async def test_a_step_in_doubt_that_was_replaced_is_compensated_all_the_same(store):
    booked: set[str] = set()
    compensated: list[object] = []

    async def book(context: eb.StepContext[str]) -> str:
        booked.add(context.idempotency_key)
        raise ConnectionResetError("the answer was lost")

    async def unbook(
        context: eb.StepContext[str], did: eb.StepCompleted[str] | eb.StepInDoubt
    ) -> None:
        compensated.append(did)
        booked.discard(context.forward_key)

    saga = eb.Saga(
        "replaced",
        str,
        steps=[
            eb.step(
                "book",
                book,
                timeout=MINUTE,
                retry=eb.RetryPolicy(maximum_attempts=1),
                otherwise=lambda _c, _f: Write(note="doubtnote-1"),
            ).compensated_by(unbook),
            eb.local_step(
                "fails", lambda _: Write(note="doubtnote-2", is_allowed=False)
            ).without_compensation(),
        ],
    )
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, "x", id="saga-x")
        ended = await handle.result(timeout=MINUTE)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert compensated == [eb.StepInDoubt("lost")]
    assert not booked


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_inner_task_that_was_cancelled_is_a_lost_answer(store):
    async def act(context: eb.StepContext[str]) -> str:
        if context.state == "bad":
            inner = asyncio.ensure_future(asyncio.sleep(10))
            await asyncio.sleep(0)
            inner.cancel()
            await inner
        await anyio.sleep(0.05)
        return context.state

    saga = eb.Saga(
        "inner",
        str,
        steps=[
            eb.step(
                "act", act, timeout=MINUTE, retry=eb.RetryPolicy(maximum_attempts=1)
            ).without_compensation()
        ],
    )
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        good = await coordinator.start(saga, "good", id="saga-good")
        bad = await coordinator.start(saga, "bad", id="saga-bad")
        outcomes = [
            (await handle.result(timeout=MINUTE)).outcome for handle in (good, bad)
        ]
    assert outcomes == [eb.SagaOutcome.COMPLETED, eb.SagaOutcome.COMPENSATED]


async def test_a_start_that_was_cancelled_leaves_the_id_free(store):
    release = anyio.Event()

    async def hold(context: eb.StepContext[str]) -> str:
        await release.wait()
        return context.state

    saga = eb.Saga(
        "places",
        str,
        steps=[eb.step("hold", hold, timeout=MINUTE).without_compensation()],
    )
    handles = []
    async with eb.SagaCoordinator(store, [saga], concurrency=1) as coordinator:
        await coordinator.start(saga, "first", id="saga-1")
        async with anyio.create_task_group() as tasks:
            waiting = anyio.CancelScope()

            async def starts_and_is_cancelled() -> None:
                with waiting:
                    await coordinator.start(saga, "second", id="saga-2")

            async def starts_too() -> None:
                handles.append(await coordinator.start(saga, "second", id="saga-2"))

            tasks.start_soon(starts_and_is_cancelled)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(starts_too)
            await anyio.wait_all_tasks_blocked()
            waiting.cancel()
            await anyio.wait_all_tasks_blocked()
            release.set()
        ended = await handles[0].result(timeout=MINUTE)
    assert ended.outcome is eb.SagaOutcome.COMPLETED


async def test_keys_of_two_sagas_never_meet(store):
    keys: list[str] = []

    async def act(context: eb.StepContext[str]) -> str:
        keys.append(context.idempotency_key)
        return context.state

    def saga(name: str, step: str) -> eb.Saga[str]:
        return eb.Saga(
            name, str, steps=[eb.step(step, act, timeout=MINUTE).without_compensation()]
        )

    one, other = saga("one", "eu/pay"), saga("other", "pay")
    async with eb.SagaCoordinator(store, [one, other]) as coordinator:
        for each, saga_id in ((one, "order-1"), (other, "order-1/eu")):
            handle = await coordinator.start(each, "x", id=saga_id)
            await handle.result(timeout=MINUTE)
    assert len(set(keys)) == 2


async def test_a_failure_that_is_no_text_is_recorded_all_the_same(store):
    async def act(context: eb.StepContext[str]) -> str:
        raise ConnectionError("b\udcffill")

    saga = eb.Saga(
        "odd-text",
        str,
        steps=[
            eb.step(
                "act", act, timeout=MINUTE, retry=eb.RetryPolicy(maximum_attempts=1)
            ).without_compensation()
        ],
    )
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, "x", id="saga-odd")
        ended = await handle.result(timeout=MINUTE)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert r"b\udcffill" in str(ended.failure)
