"""Measurements of commands: sequential and concurrent."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import cycle
from typing import TYPE_CHECKING

import anyio

import eventbraid as eb
from eventbraid.cli.bench._baseline import RawDisk, workplace
from eventbraid.cli.bench._results import RAW, Contender, Rate, alternate, repeated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONCURRENCY = 128

_ACCOUNTS = 1_000


def measure_commands(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure sequential commands of one stream: decide on its state, durable append.

    The state is read by the first command of each account, and cached for the others.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Commands per second, beside raw `pwrite` + `fdatasync` of the same bytes.
    """
    commands = cycle(_deposits(_ACCOUNTS))
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "commands.braid"))
        raw = stack.enter_context(RawDisk(place, [_command_bytes()]))
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
    """Measure commands of one stream, 128 in flight on distinct streams, on asyncio.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Commands per second, beside raw `pwrite` + `fdatasync` of the bytes of one.
    """
    shares = [
        _deposits(_ACCOUNTS // 10, owner=f"w{worker}") for worker in range(CONCURRENCY)
    ]
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        raw = stack.enter_context(RawDisk(place, [_command_bytes()]))

        def execute(seconds: float) -> float:
            return anyio.run(
                _execute_concurrently, place / "concurrent.braid", shares, seconds
            )

        return alternate(
            f"{CONCURRENCY} concurrent commands",
            "commands",
            execute,
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
        )


class Amount(eb.Int, gt=0):
    """Cents of a measured deposit."""


@eb.event("bench.deposited")
class Deposited:
    """The event of a measured command."""

    amount: Amount


class Account(eb.Stream[Deposited, int], category="benchaccount"):
    """A stream of deposits; the state is their sum."""

    def initial(self) -> int:
        """Return the balance of an empty account."""
        return 0

    def apply(self, state: int, event: Deposited, /) -> int:
        """Add a deposit."""
        return state + int(event.amount)


class Deposit(eb.Command):
    """The measured command: deposit on one account, depending on its balance."""

    account: eb.Declared[Account]
    amount: Amount

    def decide(self) -> Iterator[eb.Write]:
        """Deposit, as long as the balance fits."""
        balance = self.account.state
        eb.require(balance < 1 << 60, "account_full", balance=balance)
        yield self.account.write(Deposited(amount=self.amount))


def _deposits(accounts: int, *, owner: str = "a") -> list[Deposit]:
    return [
        Deposit(account=f"benchaccount-{owner}.{n}", amount=Amount(n + 1))
        for n in range(accounts)
    ]


def _command_bytes() -> bytes:
    new = eb.new_event("benchaccount-a.500", Deposited(amount=Amount(500)))
    return new.stream.encode() + new.type.encode() + new.data


async def _execute_concurrently(
    path: Path, shares: Sequence[Sequence[Deposit]], seconds: float
) -> float:
    """Run a worker for each share of the commands; return commands per second."""
    done = 0
    async with eb.open_async(path) as store:
        executor = eb.AsyncExecutor(store)
        start = time.perf_counter()
        end = start + seconds

        async def work(commands: Sequence[Deposit]) -> None:
            nonlocal done
            for command in cycle(commands):
                await executor.execute(command)
                done += 1
                if time.perf_counter() >= end:
                    return

        async with anyio.create_task_group() as workers:
            for commands in shares:
                workers.start_soon(work, commands)
        return done / (time.perf_counter() - start)
