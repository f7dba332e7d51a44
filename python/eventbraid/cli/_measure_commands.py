"""Measurements of the store and of commands: appends in batches, commands in turn.

`eventbraid bench` and the benchmark suite call the same functions.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from itertools import cycle
from typing import TYPE_CHECKING

import anyio

import eventbraid as eb
from eventbraid.cli._figures import Contender, Rate, alternate, repeated
from eventbraid.cli._yardstick import RawDisk, SqliteTable, workplace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

BATCH = 1_000
BATCH_STREAMS = 10
STREAMS = 10_000
CONCURRENCY = 128

_EVENT_TYPE = "account.deposited"
_EVENT_BYTES = 200
_DISTINCT_BATCHES = 32
_ACCOUNTS = 1_000


def measure_batches(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Commits of 1,000 events of 200 bytes over 10 of 10,000 streams at random.

    The events are (stream, type, bytes) tuples; each commit expects the exact version
    of every stream it writes.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardsticks included.

    Returns:
        Events a second, beside raw `pwrite` + `fdatasync` of the same bytes and a bare
        SQLite table.
    """
    batches = _batches(random.Random(7))
    blocks = [
        b"".join(s.encode() + t.encode() + data for s, t, data in batch)
        for batch in batches
    ]
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "batches.braid"))
        raw = stack.enter_context(RawDisk(place, blocks))
        sqlite = stack.enter_context(SqliteTable(place, batches))
        return alternate(
            "batched appends",
            "events",
            repeated(_appending(store, batches), each=BATCH),
            [
                Contender("raw write + fdatasync", repeated(raw.commit, each=BATCH)),
                Contender("sqlite3, WAL, FULL", repeated(sqlite.commit, each=BATCH)),
            ],
            seconds=seconds,
        )


def measure_commands(directory: Path, *, seconds: float = 10.0) -> Rate:
    """One-stream commands, one after the other: read, fold, decide, durable append.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardstick included.

    Returns:
        Commands a second, beside raw `pwrite` + `fdatasync` of the same bytes.
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
            [Contender("raw write + fdatasync", repeated(raw.commit))],
            seconds=seconds,
        )


def measure_concurrent_commands(directory: Path, *, seconds: float = 10.0) -> Rate:
    """One-stream commands, 128 of them in flight on distinct streams, on asyncio.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardstick included.

    Returns:
        Commands a second, beside raw `pwrite` + `fdatasync` of the bytes of one.
    """
    shares = [
        _deposits(_ACCOUNTS // 10, owner=f"w{worker}") for worker in range(CONCURRENCY)
    ]
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        raw = stack.enter_context(RawDisk(place, [_command_bytes()]))

        def execute(wanted: float) -> float:
            return anyio.run(
                _execute_concurrently, place / "concurrent.braid", shares, wanted
            )

        return alternate(
            f"{CONCURRENCY} concurrent commands",
            "commands",
            execute,
            [Contender("raw write + fdatasync", repeated(raw.commit))],
            seconds=seconds,
        )


# --- batches


def _batches(chance: random.Random) -> list[list[tuple[str, str, bytes]]]:
    return [_batch(chance) for _ in range(_DISTINCT_BATCHES)]


def _batch(chance: random.Random) -> list[tuple[str, str, bytes]]:
    streams = [f"account-{n:05}" for n in chance.sample(range(STREAMS), BATCH_STREAMS)]
    return [(chance.choice(streams), _EVENT_TYPE, _data(chance)) for _ in range(BATCH)]


def _data(chance: random.Random) -> bytes:
    amount = chance.randrange(1_000_000)
    note = chance.randbytes(_EVENT_BYTES).hex()
    body = f'{{"amount":{amount},"currency":"USD","note":"{note}'
    return (body[: _EVENT_BYTES - 2] + '"}').encode()


def _appending(
    store: eb.EventStore, batches: Sequence[Sequence[tuple[str, str, bytes]]]
) -> Callable[[], None]:
    """Append the batches in turn, expecting the versions that came of the last time."""
    versions = {stream: 0 for batch in batches for stream, _, _ in batch}
    written = [sorted({stream for stream, _, _ in batch}) for batch in batches]
    turn = cycle(zip(batches, written, strict=True))

    def append() -> None:
        batch, streams = next(turn)
        done = store.append(batch, expect={s: versions[s] for s in streams})
        versions.update(done.versions)

    return append


# --- commands


class Amount(eb.Int, gt=0):
    """Cents of a measured deposit."""


@eb.event("bench.deposited")
class Deposited:
    """What a measured command writes."""

    amount: Amount


class Account(eb.Stream[Deposited], category="benchaccount"):
    """A stream of deposits."""


class Deposit(eb.Command[int, Deposited]):
    """The measured command: folds one account's balance and deposits."""

    account: eb.Declared[Deposited] = eb.stream(Account)
    amount: Amount

    def initial(self) -> int:
        """An account starts empty."""
        return 0

    def apply(self, state: int, recorded: eb.Recorded[Deposited], /) -> int:
        """Add a deposit."""
        return state + int(recorded.event.amount)

    def decide(self, state: int, /) -> Iterator[eb.Write]:
        """Deposit, as long as the balance fits."""
        eb.require(state < 1 << 60, "account_full", balance=state)
        yield self.account.write(Deposited(amount=self.amount))


def _deposits(accounts: int, *, owner: str = "a") -> list[Deposit]:
    return [
        Deposit(account=f"benchaccount-{owner}.{n}", amount=Amount(n + 1))
        for n in range(accounts)
    ]


def _command_bytes() -> bytes:
    name, data = eb.encode_event(Deposited(amount=Amount(500)))
    return b"benchaccount-a.500" + name.encode() + data


async def _execute_concurrently(
    path: Path, shares: Sequence[Sequence[Deposit]], wanted: float
) -> float:
    """Run one worker a share until the time is over; answer commands a second."""
    done = 0
    async with eb.open_async(path) as store:
        executor = eb.AsyncExecutor(store)
        start = time.perf_counter()
        end = start + wanted

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
