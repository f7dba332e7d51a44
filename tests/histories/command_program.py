"""A process that executes commands at random, and writes a line for each and its result.

    python -m tests.histories.command_program '{"path": "...", "seed": 7, ...}'

Its threads, or the tasks of its event loop, share an executor whose cache of states is
small, so that states are dropped all the time. The seed determines the commands, but not
their times.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import itertools
import random
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec

import eventbraid as eb
from eventbraid.store._coroutine import run_without_loop
from tests.histories import bank
from tests.histories.command_history import (
    CommandBegun,
    CommandDone,
    CommandFailed,
    CommandRejected,
    Line,
    StateLoaded,
    encode,
)
from tests.histories.history import Closed, Opened
from tests.histories.program import LineWriter

CACHE_BYTES = 2_500
"""Less than the states of all accounts as both kinds need."""

PATIENT = eb.RetryPolicy(maximum_attempts=200, maximum_delay=timedelta(milliseconds=20))


class CommandWorkload(msgspec.Struct, frozen=True, kw_only=True):
    """The commands of a process.

    Attributes:
        name: The name of the process, unique in its history.
        path: The path of the store, whose accounts have their opening balances.
        seed: The seed of the random choices.
        workers: The number of threads, or of tasks.
        on_loop: Whether the workers are tasks of an event loop.
        operations: The number of commands and loads of each worker.
        cache_bytes: The size of the cache of states.
        fault: `MODULE:NAME` of a function that plants a fault in this process, and returns
            the store to use.
    """

    name: str
    path: str
    seed: int
    workers: int = 4
    on_loop: bool = False
    operations: int = 60
    cache_bytes: int = CACHE_BYTES
    fault: str | None = None


class Worker:
    """The commands of one thread or task."""

    def __init__(
        self,
        number: int,
        workload: CommandWorkload,
        numbers: itertools.count[int],
        write: Callable[[Line], None],
        execute: Callable[..., Awaitable[eb.Executed]],
        load: Callable[[Any], Awaitable[eb.command.StreamState[Any]]],
    ) -> None:
        self.number = number
        self.workload = workload
        self.numbers = numbers
        self.write = write
        self.execute = execute
        self.load = load
        self.rng = random.Random(f"{workload.seed}/{number}")
        self.last_keyed: tuple[str, eb.Command] | None = None

    async def run(self) -> None:
        for _ in range(self.workload.operations):
            [work] = self.rng.choices(OPERATIONS, WEIGHTS)
            await work(self)

    def _new_id(self) -> str:
        return f"{self.workload.name}.{next(self.numbers)}"

    def _parts(self) -> dict[str, Any]:
        source, target = self.rng.sample(bank.NAMES, 2)
        return {"source": source, "target": target, "id": self._new_id()}

    def _amount(self) -> bank.Money:
        return bank.Money(self.rng.choice([1, 3, 10, 30, 300]))

    async def transfer(self) -> None:
        await self._run(bank.Transfer(**self._parts(), amount=self._amount()))

    async def transfer_if_guarded(self) -> None:
        parts = self._parts()
        others = [one for one in bank.NAMES if one not in parts.values()]
        command = bank.GuardedTransfer(
            **parts, guard=self.rng.choice(others), amount=self._amount()
        )
        await self._run(command)

    async def sweep(self) -> None:
        await self._run(bank.Sweep(**self._parts()))

    async def transfer_by_own_fold(self) -> None:
        await self._run(bank.FoldedTransfer(**self._parts(), amount=self._amount()))

    async def audit(self) -> None:
        await self._run(bank.Audit(accounts=bank.NAMES, id=self._new_id()))

    async def transfer_with_shared_key(self) -> None:
        """Execute a command that other processes execute, too, with the same key."""
        key, command = bank.shared_transfer(self.rng.randrange(bank.SHARED_KEYS))
        await self._run(command, key)

    async def transfer_twice(self) -> None:
        """Repeat the last command with its key, or begin with another one."""
        if self.last_keyed is None or self.rng.random() < 0.3:
            command = bank.Transfer(**self._parts(), amount=self._amount())
            self.last_keyed = f"key-{command.id}", command
        key, command = self.last_keyed
        await self._run(command, key)

    async def load_a_state(self) -> None:
        kind = self.rng.choice([bank.Account, bank.Journal])
        stream = kind(self.rng.choice(bank.NAMES))
        invoked = time.monotonic_ns()
        found = await self.load(stream)
        returned = time.monotonic_ns()
        name = kind.__name__
        amounts = [int(found.state)] if name == "Account" else list(found.state)
        if name == "Journal":
            # A faulty cache would keep this change.
            found.state.append(-7)
        numbers = bank.numbers_of(name, amounts)
        seen = name, stream.id, found.version, numbers
        self.write(StateLoaded(self.number, invoked, returned, seen))

    async def _run(self, command: Any, key: str | None = None) -> None:
        number = next(self.numbers)
        kind = type(command).__name__
        begun = time.monotonic_ns()
        self.write(CommandBegun(number, self.number, begun, kind, command.id, key))
        try:
            done = await self.execute(command, idempotency_key=key)
        except eb.CommandRejected as rejected:
            seen = rejected.facts["seen"]
            self.write(CommandRejected(number, time.monotonic_ns(), seen))
        except eb.EventbraidError as error:
            now = time.monotonic_ns()
            self.write(CommandFailed(number, now, type(error).__name__))
        else:
            self.write(
                CommandDone(
                    number,
                    time.monotonic_ns(),
                    done.first_position,
                    done.last_position,
                    dict(done.versions),
                    done.replayed,
                    bank.AUDITED.pop(command.id, ()),
                )
            )


WEIGHT_OF = {
    Worker.transfer: 20,
    Worker.transfer_if_guarded: 8,
    Worker.sweep: 8,
    Worker.transfer_by_own_fold: 6,
    Worker.transfer_with_shared_key: 8,
    Worker.transfer_twice: 8,
    Worker.audit: 5,
    Worker.load_a_state: 16,
}
OPERATIONS, WEIGHTS = list(WEIGHT_OF), list(WEIGHT_OF.values())


def run_in_threads(workload: CommandWorkload, write: Callable[[Line], None]) -> None:
    """Execute the commands in threads, on a store that blocks them."""
    failures: list[BaseException] = []
    numbers = itertools.count()
    with eb.open(workload.path) as opened:
        store = opened if workload.fault is None else planted(workload.fault, opened)
        write(Opened(time.monotonic_ns()))
        executor = eb.Executor(
            store, retry=PATIENT, state_cache_bytes=workload.cache_bytes
        )

        async def execute(command: Any, **options: Any) -> eb.Executed:
            return executor.execute(command, **options)

        async def load(stream: Any) -> Any:
            return executor.load(stream)

        def work(number: int) -> None:
            worker = Worker(number, workload, numbers, write, execute, load)
            try:
                run_without_loop(worker.run())
            except BaseException as error:  # noqa: BLE001 - raised in the main thread
                failures.append(error)

        threads = [
            threading.Thread(target=work, args=(number,))
            for number in range(workload.workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


async def run_in_tasks(
    workload: CommandWorkload, write: Callable[[Line], None]
) -> None:
    """Execute the commands in tasks of an event loop."""
    numbers = itertools.count()
    async with eb.open_async(workload.path) as store, asyncio.TaskGroup() as tasks:
        write(Opened(time.monotonic_ns()))
        executor = eb.AsyncExecutor(
            store, retry=PATIENT, state_cache_bytes=workload.cache_bytes
        )
        for number in range(workload.workers):
            worker = Worker(
                number, workload, numbers, write, executor.execute, executor.load
            )
            tasks.create_task(worker.run())


def planted(fault: str, store: eb.EventStore) -> Any:
    """Plant a fault in this process, and return the store to use."""
    module, _, name = fault.partition(":")
    return getattr(importlib.import_module(module), name)(store)


def main(argument: str) -> None:
    faulthandler.enable(all_threads=False)
    faulthandler.register(signal.SIGQUIT, chain=True)
    workload = msgspec.json.decode(argument, type=CommandWorkload)
    write = LineWriter(1, encode).write
    if workload.on_loop:
        asyncio.run(run_in_tasks(workload, write))
    else:
        run_in_threads(workload, write)
    write(Closed(time.monotonic_ns()))


if __name__ == "__main__":
    main(sys.argv[1])
