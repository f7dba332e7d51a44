"""Waits for a turn on a stream never depend on a command that can't run.

The hazard: the turn of a command whose event loop was closed, was stopped, hangs, or is
blocked by the very call that waits; and a wake-up that raises out of a command whose
events are in the log.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Self

import anyio
import anyio.lowlevel
import pytest
import trio

import eventbraid as eb
from eventbraid.command._queue import queues_of
from tests.commands import Account, AccountEvent, Deposit, Deposited, Money, raw

A = "account-a"
ONE = Deposit(account=A, amount=Money(1))
RETRY_TIMEOUT = timedelta(minutes=20)
SOON = 30.0
"""Seconds: far more than a turn lasts, far less than a command may take in all."""
WAITING = 200
"""Commands that wait in a loop that hangs: their turns together last far longer."""


class Gated(eb.StatefulCommand[int, AccountEvent]):
    """Signals each call of `decide`, and waits in it until it may continue."""

    account: eb.Declared[Account]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + 1

    def decide(self, state, /):
        arrived, may_continue = gates.pop(0) if gates else (None, None)
        if arrived is not None:
            arrived.set()
            assert may_continue.wait(240)
        yield self.account.write(Deposited(Money(1)))


gates: list[tuple[threading.Event, threading.Event]] = []


class HeldTurn:
    """A command in a thread that has the turn on a stream until it is let go."""

    def __init__(self, store: eb.EventStore) -> None:
        self._store = store
        self._gates = [(threading.Event(), threading.Event()) for _ in range(2)]
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        gates[:] = self._gates
        executor = eb.Executor(self._store, retry_timeout=RETRY_TIMEOUT)
        self.done = self._pool.submit(executor.execute, Gated(account=A))
        assert self._gates[0][0].wait(60)
        # It conflicts, and has the turn in its second attempt.
        self._store.append([raw(A, Deposited(Money(1)))])
        self._gates[0][1].set()
        assert self._gates[1][0].wait(60)
        # A slow machine may need longer than a turn lasts until other commands wait.
        for place in queues_of(self._store.coordination).get()._queues[A]._holders:
            place.hold.expires_at = math.inf
        return self

    def let_go(self) -> None:
        self._gates[1][1].set()

    def __exit__(self, *_: object) -> None:
        for _, may_continue in self._gates:
            may_continue.set()
        self._pool.shutdown()


@pytest.fixture
def store(tmp_path):
    with eb.open(tmp_path / "turns.braid") as opened:
        yield opened


def waiting_in(store: eb.EventStore, loop: asyncio.AbstractEventLoop, count: int):
    """Run a loop until commands of it wait for their turn; give their tasks."""
    queue = queues_of(store.coordination).get()._queues[A]
    before = len(queue)
    executor = eb.AsyncExecutor(store.as_async(), retry_timeout=RETRY_TIMEOUT)
    tasks = [loop.create_task(executor.execute(ONE)) for _ in range(count)]

    async def until_they_wait() -> None:
        # The queue signals no arrivals.
        while len(queue) < before + count:  # noqa: ASYNC110
            await anyio.sleep(0.001)

    loop.run_until_complete(until_they_wait())
    return tasks


def in_thread(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result(60)


def executes_soon(store: eb.EventStore) -> eb.Executed:
    began = time.monotonic()
    done = in_thread(eb.Executor(store, retry_timeout=RETRY_TIMEOUT).execute, ONE)
    assert time.monotonic() - began < SOON
    return done


@pytest.mark.parametrize("ending", ["closed", "stopped"])
def test_a_turn_is_not_passed_to_a_loop_that_does_not_run(store, ending):
    def leave_behind() -> list[object]:
        loop = asyncio.new_event_loop()
        tasks = waiting_in(store, loop, 5)
        for task in tasks:
            task._log_destroy_pending = False
        if ending == "closed":
            loop.close()
        return [loop, tasks]

    with HeldTurn(store) as held:
        left = in_thread(leave_behind)
        held.let_go()
        assert held.done.result(SOON).versions == {A: 2}
        assert executes_soon(store).versions == {A: 3}
    loop = left[0]
    assert isinstance(loop, asyncio.AbstractEventLoop)
    if ending == "stopped":
        done = loop.run_until_complete(asyncio.gather(*left[1]))
        assert {one.versions[A] for one in done} == {4, 5, 6, 7, 8}
        loop.close()


def test_a_turn_is_not_passed_to_a_run_of_trio_that_is_over(store):
    """The waiter of a run that has ended, as a cancelled command could leave one."""
    from eventbraid.command._queue import Hold, Place
    from eventbraid.command._waiter import TaskWaiter

    async def make() -> TaskWaiter:
        return TaskWaiter()

    waiter = trio.run(make)
    assert not waiter.can_run()
    with HeldTurn(store) as held:
        queues_of(store.coordination).get().join(
            A, Place(waiter, writes=True, hold=Hold()), 0.0
        )
        held.let_go()
        assert held.done.result(SOON).versions == {A: 2}
        assert executes_soon(store).versions == {A: 3}


def test_a_hung_loop_delays_the_others_only_briefly(store):
    hangs, may_end = threading.Event(), threading.Event()

    def hang() -> list[eb.Executed]:
        loop = asyncio.new_event_loop()
        tasks = waiting_in(store, loop, WAITING)
        loop.call_soon(hangs.set)
        loop.call_soon(may_end.wait, 240)
        try:
            return loop.run_until_complete(asyncio.gather(*tasks))
        finally:
            loop.close()

    with ThreadPoolExecutor(1) as pool, HeldTurn(store) as held:
        hanging = pool.submit(hang)
        try:
            assert hangs.wait(60)
            held.let_go()
            held.done.result(SOON)
            assert executes_soon(store).versions == {A: 3}
        finally:
            may_end.set()
        assert len(hanging.result(120)) == WAITING
        assert store.version(A) == WAITING + 3


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_blocking_command_beside_tasks_of_its_loop_does_not_stop_the_loop(
    tmp_path, library
):
    async def main() -> tuple[float, int]:
        async with eb.open_async(tmp_path / "beside.braid") as store:
            tasks = 20
            later = eb.AsyncExecutor(store, retry_timeout=RETRY_TIMEOUT)
            now = eb.Executor(store.as_sync(), retry_timeout=RETRY_TIMEOUT)
            longest, executed = 0.0, 0
            async with anyio.create_task_group() as group:
                for _ in range(tasks):
                    group.start_soon(later.execute, ONE)
                for _ in range(50):
                    await anyio.lowlevel.checkpoint()
                    began = time.monotonic()
                    with suppress(eb.errors.RetriesExhausted):
                        executed += not now.execute(ONE).replayed
                    longest = max(longest, time.monotonic() - began)
            return longest, await store.version(A) - tasks - executed

    longest, missing = anyio.run(main, backend=library)
    assert longest < SOON
    assert missing == 0


def test_a_blocking_command_inside_of_a_command_that_has_the_turn_does_not_wait(store):
    class Nested(Deposit):
        def decide(self, state, /):
            if state == 0:
                store.append([raw(A, Deposited(Money(1)))])
            if state == 1:
                began = time.monotonic()
                eb.Executor(store, retry_timeout=RETRY_TIMEOUT).execute(ONE)
                times.append(time.monotonic() - began)
            return super().decide(state)

    times: list[float] = []
    done = eb.Executor(store).execute(Nested(account=A, amount=Money(1)))
    assert done.attempts == 3
    assert times[0] < SOON


def test_loops_in_many_threads_may_come_and_go(store):
    """Each with its own `asyncio.run`, some of them cancelled in the queue."""

    async def some(count: int) -> int:
        executor = eb.AsyncExecutor(store.as_async(), retry_timeout=RETRY_TIMEOUT)
        tasks = [asyncio.create_task(executor.execute(ONE)) for _ in range(count)]
        await asyncio.sleep(0.001)
        tasks[-1].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(isinstance(one, eb.Executed) for one in done)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asyncio.run(some(5)), range(12)))
    assert queues_of(store.coordination).get().contended([A]) == []
