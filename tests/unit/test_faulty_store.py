"""A store with injected faults keeps its promises, and has the faults that were asked for.

A wrapper that loses an append, or fails at another call than the test says, makes a test
that proves nothing.
"""

from __future__ import annotations

import copy
import inspect
import threading
import time
from collections import Counter
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.testing import (
    AsyncFaultyStore,
    Conflict,
    Delay,
    Failure,
    FaultyStore,
    UnknownOutcome,
    on,
)
from tests.commands import Account, Deposit, Deposited, Money

A = Account("account-a")
EVENT = ("account-a", "x", b"")
RIVAL = on(A, Deposited(Money(1)))
MILLISECOND = timedelta(milliseconds=1)

pytestmark = pytest.mark.anyio


async def settled(result):
    return await result if inspect.isawaitable(result) else result


@pytest.fixture(params=["sync", "async"])
async def wrapped(request, anyio_backend):
    """A function that wraps one store in memory, with and without an event loop."""
    if request.param == "sync":
        with eb.open("memory:") as store:
            yield lambda *faults, **options: FaultyStore(store, *faults, **options)
    else:
        async with eb.open_async("memory:") as store:
            yield lambda *faults, **options: AsyncFaultyStore(store, *faults, **options)


async def test_without_faults_every_method_is_that_of_the_store(wrapped):
    store = wrapped()
    done = await settled(store.append([EVENT], expect={A.id: 0}, idempotency_key="k"))
    assert done == eb.Appended(1, 1, {A.id: 1}, replayed=False)
    assert (await settled(store.committed("k"))).replayed
    assert await settled(store.version(A.id)) == await settled(store.head()) == 1
    snapshot = await settled(store.read_streams([A.id], after={A.id: 1}))
    assert (snapshot.versions, snapshot.events) == ({A.id: 1}, [])
    for read in (store.read_stream(A.id, limit=5), store.read_all(category="account")):
        events = (
            list(read) if hasattr(read, "__iter__") else [one async for one in read]
        )
        assert [one.stream for one in events] == [A.id]
    assert store.coordination is store.inner.coordination
    assert store.streams is not None
    assert [(call.operation, call.number) for call in store.calls] == [
        *(("append", 1), ("committed", 1), ("version", 1), ("head", 1)),
        *(("read_streams", 1), ("read_stream", 1), ("read_all", 1)),
    ]
    assert store.calls[0].arguments["idempotency_key"] == "k"
    assert store.injected == []


async def test_a_conflict_is_that_of_another_writer(wrapped):
    store = wrapped(Conflict(by=[RIVAL, RIVAL], at=2))
    await settled(store.append([EVENT], expect={A.id: 0}))
    with pytest.raises(eb.VersionConflict) as raised:
        await settled(store.append([EVENT], expect={A.id: 1}))
    assert raised.value.failures == (eb.errors.ConflictedStream(A.id, 1, 3),)
    assert await settled(store.inner.version(A.id)) == 3
    await settled(store.append([EVENT], expect={A.id: 3}))
    assert [(call.number, type(fault)) for call, fault in store.injected] == [
        (2, Conflict)
    ]


async def test_a_conflict_without_events_writes_nothing(wrapped):
    store = wrapped(Conflict(times=1))
    await settled(store.append([EVENT]))
    with pytest.raises(eb.VersionConflict) as raised:
        await settled(store.append([EVENT], expect={A.id: 1}))
    assert raised.value.failures == (eb.errors.ConflictedStream(A.id, 1, 1),)
    assert await settled(store.append([EVENT], expect={A.id: 1}))
    assert await settled(store.head()) == 2


@pytest.mark.parametrize("committed", [True, False])
async def test_an_unknown_outcome_may_be_either(wrapped, committed):
    store = wrapped(UnknownOutcome(committed=committed, at=1))
    event_id = eb.store.uuid7()
    event = eb.NewEvent(A.id, "x", b"", event_id=event_id)
    with pytest.raises(eb.OutcomeUnknown) as raised:
        await settled(store.append([event], idempotency_key="k"))
    assert raised.value.idempotency_key == "k"
    assert raised.value.event_ids == (event_id,)
    found = await settled(store.committed("k"))
    assert (found is not None) is committed
    assert await settled(store.head()) == int(committed)


@pytest.mark.parametrize("after", [True, False])
async def test_a_failure_comes_before_or_after_the_effect(wrapped, after):
    error = ConnectionResetError("gone")
    store = wrapped(Failure(error=error, after=after, times=1))
    with pytest.raises(ConnectionResetError, match="gone"):
        await settled(store.append(iter([EVENT])))
    assert await settled(store.head()) == int(after)
    await settled(store.append([EVENT]))


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("committed", lambda store: store.committed("k")),
        ("read_streams", lambda store: store.read_streams([A.id])),
        ("version", lambda store: store.version(A.id)),
        ("head", lambda store: store.head()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("after", [True, False])
async def test_other_methods_fail_too(wrapped, operation, call, after):
    store = wrapped(Failure(error=TimeoutError, after=after, operation=operation, at=2))
    await settled(call(store))
    with pytest.raises(TimeoutError):
        await settled(call(store))
    await settled(call(store))
    await settled(store.append([EVENT]))


async def test_a_delay_lets_the_call_wait(wrapped):
    store = wrapped(Delay(duration=20 * MILLISECOND, times=1))
    began = time.monotonic()
    await settled(store.append([EVENT]))
    assert time.monotonic() - began >= 0.02


async def test_during_a_delay_other_tasks_run():
    async with eb.open_async("memory:") as inner:
        store = AsyncFaultyStore(inner, Delay(duration=5 * MILLISECOND))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, [EVENT])
            await anyio.lowlevel.checkpoint()
            await inner.append([("first", "x", b"")])
        assert [one.stream async for one in inner.read_all()] == ["first", A.id]


async def test_a_function_chooses_the_calls(wrapped):
    def is_keyed(call):
        return call.arguments["idempotency_key"] is not None

    store = wrapped(Failure(error=TimeoutError, where=is_keyed))
    await settled(store.append([EVENT]))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await settled(store.append([EVENT], idempotency_key="k"))


async def test_a_call_gets_several_faults_until_one_ends_it(wrapped):
    store = wrapped(
        Delay(duration=timedelta()),
        Conflict(by=[RIVAL]),
        UnknownOutcome(committed=True),
        Failure(error=TimeoutError),
    )
    with pytest.raises(eb.OutcomeUnknown):
        await settled(store.append([EVENT]))
    assert [type(fault) for _, fault in store.injected] == [
        *(Delay, Conflict, UnknownOutcome)
    ]
    assert await settled(store.head()) == 2


async def test_equal_seeds_give_equal_faults(wrapped):
    async def faults_of(seed):
        store = wrapped(
            Failure(error=TimeoutError, probability=0.2),
            Delay(duration=timedelta(), probability=0.5),
            seed=seed,
        )
        for _ in range(100):
            try:
                await settled(store.append([EVENT]))
            except TimeoutError:
                continue
        return [(call.number, type(fault)) for call, fault in store.injected]

    first = await faults_of(1)
    assert first == await faults_of(1)
    assert first != await faults_of(2)
    counts = Counter(kind for _, kind in first)
    assert 5 < counts[Failure] < 40
    assert 20 < counts[Delay] < 65


async def test_a_command_survives_every_fault_that_leaves_its_outcome_open(wrapped):
    """With a key, each command takes effect once, whatever answers are lost."""
    store = wrapped(
        Conflict(by=[RIVAL], probability=0.2),
        Conflict(probability=0.1),
        UnknownOutcome(committed=True, probability=0.2),
        UnknownOutcome(committed=False, probability=0.2),
        seed=11,
    )
    executor = (
        eb.Executor(
            store, retry=eb.RetryPolicy(maximum_attempts=20, initial_delay=timedelta())
        )
        if isinstance(store, FaultyStore)
        else eb.AsyncExecutor(
            store, retry=eb.RetryPolicy(maximum_attempts=20, initial_delay=timedelta())
        )
    )
    for number in range(40):
        deposit = Deposit(account=A, amount=Money(1000 + number))
        await settled(executor.execute(deposit, idempotency_key=str(number)))
    snapshot = await settled(store.inner.read_streams([A.id]))
    amounts = [int(eb.decode_event(one).amount) for one in snapshot.events]
    assert [amount for amount in amounts if amount >= 1000] == list(range(1000, 1040))
    rivals = [fault for _, fault in store.injected if getattr(fault, "by", ())]
    assert amounts.count(1) == len(rivals) > 0


def test_threads_share_one_count():
    with eb.open("memory:") as inner:
        store = FaultyStore(inner, Failure(error=TimeoutError, at=range(1, 101)))
        failures = []

        def append():
            for _ in range(50):
                try:
                    store.append([EVENT])
                except TimeoutError:
                    failures.append(1)

        threads = [threading.Thread(target=append) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(failures) == 100
        assert inner.head() == 100
        assert sorted(call.number for call in store.calls) == list(range(1, 201))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Conflict(at=0), "at of Conflict '0'.*numbered from 1"),
        (lambda: Conflict(at=[3, -1]), "numbered from 1"),
        (lambda: Conflict(probability=1.5), "probability of Conflict '1.5'"),
        (lambda: Delay(times=0), "times of Delay"),
        (lambda: Delay(duration=-MILLISECOND), "duration of Delay"),
        (lambda: Failure(error=5), "error of Failure '5'.*an exception or its class"),
        (lambda: Failure(error=int), "an exception or its class"),
        (
            lambda: Failure(error=OSError, operation="close"),
            "one of: append, committed",
        ),
        (lambda: Conflict(operation="head"), "it is one of: append"),
        (lambda: FaultyStore(None, OSError), "fault 'type'.*give a Conflict"),
    ],
    ids=[str(n) for n in range(10)],
)
def test_a_fault_that_can_not_be_is_refused(make, match):
    with pytest.raises(eb.errors.InvalidArgument, match=match):
        make()


def test_a_wrapper_has_the_attributes_of_its_store_and_no_others():
    with eb.open("memory:") as inner:
        store = FaultyStore(inner)
        assert store.stats().events == 0
        with pytest.raises(AttributeError):
            _ = store.nothing
        with pytest.raises(AttributeError):
            _ = store._nothing
        assert copy.copy(store).inner is inner
