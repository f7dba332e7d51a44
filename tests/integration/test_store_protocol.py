"""Commands, leases and sagas work on any store that implements the public protocol.

The hazard: a layer that reaches into the engine's store, so that no other backend can
host it. The store here is on SQLite and shares no code with the engine.
"""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import anyio
import pytest

import eventbraid as eb
from eventbraid.command._queue import queues_of
from tests.contract.backends import SyncFace
from tests.contract.sqlite_store import SqliteStore

pytestmark = pytest.mark.anyio
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@eb.event("protocol-test.raised")
class Raised:
    by: int


class Counter(eb.Stream[Raised], category="counter"): ...


class Raise(eb.StatefulCommand[int, Raised]):
    counter: eb.Declared[Counter]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + recorded.event.by

    def decide(self, state, /):
        eb.require(state < 2, "high_enough")
        yield self.counter.write(Raised(1))


class Declined(Exception):
    """The receiver says no."""


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "store.sqlite", synchronous="OFF") as opened:
        yield opened


def test_commands_run_on_any_store(store):
    executor = eb.Executor(store)
    assert executor.execute(Raise(counter="counter-1")).versions["counter-1"] == 1
    again = executor.execute(Raise(counter="counter-1"), idempotency_key="a")
    assert executor.execute(
        Raise(counter="counter-1"), idempotency_key="a"
    ).versions == dict(again.versions)
    with pytest.raises(eb.CommandRejected):
        executor.execute(Raise(counter="counter-1"))


async def test_commands_in_an_event_loop_run_on_any_store(store):
    executor = eb.AsyncExecutor(SyncFace(store))
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(executor.execute, Raise(counter="counter-1"))
    assert store.version("counter-1") == 2


def test_the_faces_of_a_store_share_the_queues_of_its_commands(store):
    with eb.open("memory:") as opened:
        coordination = opened.coordination
        assert opened.as_async().coordination is coordination
        assert opened.as_async().as_sync().coordination is coordination
        assert queues_of(coordination) is queues_of(opened.coordination)
    assert queues_of(store.coordination) is queues_of(SyncFace(store).coordination)


def test_a_command_needs_no_coordination(store):
    """A stand-in of a test has what commands call, and nothing else."""
    stand_in = SimpleNamespace(
        append=store.append,
        committed=store.committed,
        read_streams=store.read_streams,
        read_all=store.read_all,
    )
    executor = eb.Executor(stand_in)
    assert executor.execute(Raise(counter="counter-1")).versions["counter-1"] == 1


async def test_a_store_that_wraps_another_one_is_read_by_its_own_methods():
    """`__getattr__` offers the other store's reads without a checkpoint, too."""
    read = []

    class Wrapping:
        def __init__(self, inner):
            self._inner = inner

        async def read_streams(self, streams, **options):
            read.append(list(streams))
            return await self._inner.read_streams(streams, **options)

        def __getattr__(self, name):
            return getattr(self._inner, name)

    async with eb.open_async("memory:") as opened:
        await eb.AsyncExecutor(Wrapping(opened)).execute(Raise(counter="counter-1"))
    assert read == [["counter-1"]]


def test_leases_exclude_each_other_on_any_store(store):
    with eb.Lease(store, "importer") as lease:
        with pytest.raises(eb.LeaseHeld):
            eb.Lease(store, "importer").__enter__()
        lease.append([("order-1", "imported", b"")])
    with eb.Lease(store, "importer") as lease:
        assert lease.token == 3


async def test_a_lease_in_an_event_loop_works_on_any_store(store):
    face = SyncFace(store)
    async with eb.AsyncLease(face, "importer") as lease:
        with pytest.raises(eb.LeaseHeld):
            await eb.AsyncLease(face, "importer").__aenter__()
        await lease.append([("order-1", "imported", b"")])
    assert store.version("order-1") == 1


@pytest.mark.parametrize("is_declined", [False, True])
async def test_a_saga_completes_or_is_compensated_on_any_store(store, is_declined):
    calls = []

    async def pay(context) -> str:
        calls.append("pay")
        return "paid"

    async def refund(context, outcome) -> None:
        calls.append("refund")

    async def ship(context) -> None:
        calls.append("ship")
        if is_declined:
            raise Declined

    saga = eb.Saga(
        "protocol-test",
        str,
        steps=[
            eb.step("pay", pay, timeout=MINUTE).compensated_by(refund),
            eb.local_step(
                "count", lambda context: Raise(counter="counter-1")
            ).without_compensation(),
            eb.step(
                "ship",
                ship,
                timeout=MINUTE,
                retry=eb.RetryPolicy(maximum_attempts=1),
                refusals=(Declined,),
            ).without_compensation(),
        ],
    )
    with anyio.fail_after(60):
        async with eb.SagaCoordinator(SyncFace(store), [saga]) as coordinator:
            handle = await coordinator.start(saga, "mia", id="saga-1")
            ended = await handle.result()
    if is_declined:
        assert ended.outcome is eb.SagaOutcome.COMPENSATED
        assert calls == ["pay", "ship", "refund"]
    else:
        assert ended.outcome is eb.SagaOutcome.COMPLETED
        assert calls == ["pay", "ship"]
    assert store.version("counter-1") == 1


async def test_a_coordinator_resumes_sagas_of_another_one_on_any_store(store):
    attempts = []

    async def act(context) -> None:
        attempts.append(context.attempt)
        if len(attempts) == 1:
            raise ConnectionError

    slow = eb.RetryPolicy(maximum_attempts=5, initial_delay=SECOND / 10, jitter="none")
    saga = eb.Saga(
        "protocol-test-resumed",
        str,
        steps=[eb.step("act", act, timeout=MINUTE, retry=slow).without_compensation()],
    )
    face = SyncFace(store)
    with anyio.fail_after(60):
        async with eb.SagaCoordinator(face, [saga]) as coordinator:
            await coordinator.start(saga, "mia", id="saga-1")
            while not attempts:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        async with eb.SagaCoordinator(face, [saga]) as coordinator:
            handle = await coordinator.get(saga, "saga-1")
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    assert attempts == [1, 2]
