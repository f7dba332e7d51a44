"""Measurements of commands whose streams are cached: sequential and concurrent."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle, islice
from typing import TYPE_CHECKING

import eventbraid as eb
from eventbraid.cli.bench._accounts import (
    Account,
    Amount,
    Deposit,
    Deposited,
    Transfer,
    Withdrawn,
    account_id,
    bytes_of_commit,
    deposits,
)
from eventbraid.cli.bench._baseline import RawDisk, workplace
from eventbraid.cli.bench._results import (
    RAW,
    Contender,
    Rate,
    Target,
    alternate,
    repeated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

CONCURRENCY = 128
ACCOUNTS = 10_000

_SEQUENTIAL_ACCOUNTS = 1_000
_FUNDS = 1_000_000_000
_SEED = 3
# The targets of these rows were stated for a disk with this rate.
_STATED_DISK = 7_500


def measure_commands(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure sequential commands of one stream: decide on its state, durable append.

    The state is read by the first command of each account, and cached for the others.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Commands per second, beside raw `pwrite` + `fdatasync` of the same bytes.
    """
    commands = cycle(
        Deposit(account=account_id(n), amount=Amount(n + 1))
        for n in range(_SEQUENTIAL_ACCOUNTS)
    )
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "commands.braid"))
        raw = stack.enter_context(RawDisk(place, [_bytes_of_deposit()]))
        executor = eb.Executor(store)

        def execute() -> None:
            executor.execute(next(commands))

        return alternate(
            "sequential commands",
            "commands",
            repeated(execute),
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
        )


def measure_concurrent_commands(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure commands of one stream each, from 128 tasks on 10,000 accounts.

    Each task chooses an account at random, so some of the commands conflict.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Commands per second, beside raw `pwrite` + `fdatasync` of the bytes of one.
    """

    def choose(chance: random.Random) -> Deposit:
        account = account_id(chance.randrange(ACCOUNTS))
        return Deposit(account=account, amount=Amount(1))

    return _concurrent(
        f"{CONCURRENCY} tasks, commands of one stream",
        directory,
        choose,
        _bytes_of_deposit(),
        target=20_000,
        seconds=seconds,
    )


def measure_transfers(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure transfers between two accounts, from 128 tasks on 10,000 accounts.

    Each task chooses both accounts at random, so some of the commands conflict.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Transfers per second, beside raw `pwrite` + `fdatasync` of the bytes of one.
    """

    def choose(chance: random.Random) -> Transfer:
        source, target = chance.sample(range(ACCOUNTS), 2)
        return Transfer(
            source=account_id(source), target=account_id(target), amount=Amount(1)
        )

    return _concurrent(
        f"{CONCURRENCY} tasks, transfers between two streams",
        directory,
        choose,
        bytes_of_commit(
            eb.new_event(account_id(1), Withdrawn(amount=Amount(1))),
            eb.new_event(account_id(2), Deposited(amount=Amount(1))),
        ),
        target=12_000,
        seconds=seconds,
    )


def times_raw(rate: Rate, commands: int) -> Target:
    """Build the target of a rate that was stated for a disk of 7,500 syncs a second."""
    bound = round(commands / _STATED_DISK, 2)
    value = rate.against(RAW).ratio
    return Target(what=rate.unit, value=value, unit=f"x {RAW}", bound=bound)


class TaskRounds:
    """Rounds of commands from many tasks of one event loop, on one open store.

    Attributes:
        attempts: The attempts of each command that was executed.
        processor_times: The processor time of the event loop's thread at each of their
            ends, in order.
    """

    def __init__(self, runner: asyncio.Runner, store: eb.AsyncEventStore) -> None:
        self._runner = runner
        self._executor = eb.AsyncExecutor(store)
        self.attempts: list[int] = []
        self.processor_times: list[float] = []

    def load(self, accounts: Iterable[str]) -> None:
        """Read the states of accounts into the cache, before the time starts."""
        self._runner.run(self._load(accounts))

    async def _load(self, accounts: Iterable[str]) -> None:
        for account in accounts:
            await self._executor.load(Account(account))

    def run(
        self, commands: Sequence[Callable[[], eb.Command]], seconds: float
    ) -> list[list[float]]:
        """Run one task for each of these, and return the times at which it committed.

        Args:
            commands: For each task, a function that returns its next command.
            seconds: The duration; the commands that then run are finished.
        """
        return self._runner.run(self._run(commands, seconds))

    async def _run(
        self, commands: Sequence[Callable[[], eb.Command]], seconds: float
    ) -> list[list[float]]:
        done: list[list[float]] = [[] for _ in commands]
        end = time.perf_counter() + seconds

        async def work(choose: Callable[[], eb.Command], times: list[float]) -> None:
            now = 0.0
            while now < end:
                executed = await self._executor.execute(choose())
                now = time.perf_counter()
                times.append(now)
                self.processor_times.append(time.thread_time())
                self.attempts.append(executed.attempts)

        async with asyncio.TaskGroup() as tasks:
            for choose, times in zip(commands, done, strict=True):
                tasks.create_task(work(choose, times))
        return done


@contextmanager
def task_rounds(path: Path) -> Generator[TaskRounds]:
    """Open a store in an event loop that stays between the rounds."""
    with asyncio.Runner() as runner:
        store = runner.run(_opened(path))
        try:
            yield TaskRounds(runner, store)
        finally:
            runner.run(store.close())


async def _opened(path: Path) -> eb.AsyncEventStore:
    return await eb.open_async(path)


def _concurrent(
    name: str,
    directory: Path,
    choose: Callable[[random.Random], eb.Command],
    block: bytes,
    *,
    target: int,
    seconds: float,
) -> Rate:
    chance = random.Random(_SEED)
    # Made before the time starts, and enough that a task rarely repeats one.
    chosen = [choose(chance) for _ in range(2 * ACCOUNTS)]
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        _open_accounts(place / "concurrent.braid")
        rounds = stack.enter_context(task_rounds(place / "concurrent.braid"))
        rounds.load(map(account_id, range(ACCOUNTS)))
        raw = stack.enter_context(RawDisk(place, [block]))
        share = len(chosen) // CONCURRENCY
        commands = [
            cycle(islice(chosen, number * share, (number + 1) * share)).__next__
            for number in range(CONCURRENCY)
        ]

        def execute(seconds: float) -> float:
            start = time.perf_counter()
            times = rounds.run(commands, seconds)
            return sum(map(len, times)) / (time.perf_counter() - start)

        rate = alternate(
            name,
            "commands",
            execute,
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
        )
        again = sum(attempts - 1 for attempts in rounds.attempts)
    share_again = again / len(rounds.attempts)
    note = (
        f"{share_again:.2%} further attempts after conflicts, at most "
        f"{max(rounds.attempts)} attempts for a command"
    )
    return replace(rate.with_targets(times_raw(rate, target)), notes=(note,))


def _open_accounts(path: Path) -> None:
    with eb.open(path) as store:
        for begin in range(0, ACCOUNTS, 1_000):
            store.append(
                event
                for number in range(begin, begin + 1_000)
                for event in deposits(account_id(number), 1, _FUNDS)
            )


def _bytes_of_deposit() -> bytes:
    return bytes_of_commit(*deposits(account_id(500), 1, 500))
