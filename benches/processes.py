"""What several processes make of one store, beside sqlite3 and the raw disk.

    python benches/processes.py --disk DIR [--seconds 6] [--processes 4]

Three rows, each with its yardsticks of the same run:

* so many processes with one thread each, one event a commit: events a second in all,
  the 99th percentile of a commit, and the smallest share of a process in any second;
* the same with 64 commits in flight each, on event loops;
* from an append in one process to its delivery in another, and how much of that is not
  the flush.

Every commit is waited for until it is durable. sqlite3 is in WAL mode with
`synchronous=FULL`, one connection a process, and waits for its lock in its own way.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

import eventbraid as eb
from eventbraid.cli.bench._baseline import RawDisk, workplace
from eventbraid.cli.bench._machine import describe_machine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.synchronize import Event as Signal

DATA = b'{"order": 12345, "customer": "%s"}' % (b"x" * 160)
STREAMS = 100
IN_FLIGHT = 64
PATIENCE = 120.0

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Worked:
    """What one process did.

    Attributes:
        waits: How long each commit took, in seconds.
        each_second: How many commits ended in each whole second.
    """

    waits: list[float]
    each_second: list[int]


@dataclass(frozen=True)
class Rates:
    """What several processes did together.

    Attributes:
        rate: Commits a second in all.
        p50: The median of a commit, in seconds.
        p99: Its 99th percentile.
        least_share: The smallest part of a second's commits that one process made.
    """

    rate: float
    p50: float
    p99: float
    least_share: float


def rates_of(worked: Sequence[Worked], seconds: float) -> Rates:
    """Sum up what the processes did."""
    waits = sorted(wait for one in worked for wait in one.waits)
    whole = zip(*(one.each_second[: int(seconds)] for one in worked), strict=False)
    shares = [min(second) / sum(second) for second in whole if sum(second)]
    return Rates(
        rate=len(waits) / seconds,
        p50=percentile(waits, 0.50),
        p99=percentile(waits, 0.99),
        least_share=min(shares, default=0.0),
    )


def percentile(ordered: Sequence[float], part: float) -> float:
    """Look up a percentile of numbers in ascending order."""
    return ordered[int(len(ordered) * part)] if ordered else 0.0


class Clock:
    """Counts the commits of one process from the moment that all begin."""

    def __init__(self, ready: Signal, seconds: float) -> None:
        if not ready.wait(PATIENCE):
            raise TimeoutError
        self.waits: list[float] = []
        self.each_second = [0] * (int(seconds) + 1)
        self._began = time.perf_counter()
        self._until = self._began + seconds

    def goes_on(self) -> bool:
        """Return whether there is time for another commit."""
        return time.perf_counter() < self._until

    def commit_took(self, began: float) -> None:
        """Count a commit that ends now."""
        now = time.perf_counter()
        self.waits.append(now - began)
        second = int(now - self._began)
        if second < len(self.each_second):
            self.each_second[second] += 1

    def worked(self) -> Worked:
        """Sum up."""
        return Worked(self.waits, self.each_second)


def one_at_a_time(path: str, number: int, seconds: float, ready: Signal) -> Worked:
    """Append one event after the other."""
    with eb.open(path) as store:
        clock = Clock(ready, seconds)
        i = 0
        while clock.goes_on():
            began = time.perf_counter()
            store.append([eb.NewEvent(f"s-{number}-{i % STREAMS}", "happened", DATA)])
            clock.commit_took(began)
            i += 1
        return clock.worked()


def many_in_flight(path: str, number: int, seconds: float, ready: Signal) -> Worked:
    """Append from so many tasks of an event loop."""

    async def work() -> Worked:
        async with eb.open_async(path) as store:
            clock = Clock(ready, seconds)

            async def append(task: int) -> None:
                while clock.goes_on():
                    began = time.perf_counter()
                    event = eb.NewEvent(f"s-{number}-{task}", "happened", DATA)
                    await store.append([event])
                    clock.commit_took(began)

            async with asyncio.TaskGroup() as tasks:
                for task in range(IN_FLIGHT):
                    tasks.create_task(append(task))
            return clock.worked()

    return asyncio.run(work())


def make_table(path: Path) -> Path:
    """Make the table before anybody else has it: the change to WAL waits for nobody."""
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute(
            """
            CREATE TABLE events (
                position INTEGER PRIMARY KEY,
                stream TEXT NOT NULL,
                version INTEGER NOT NULL,
                type TEXT NOT NULL,
                data BLOB NOT NULL,
                UNIQUE (stream, version)
            )
            """
        )
    return path


def in_sqlite(path: str, number: int, seconds: float, ready: Signal) -> Worked:
    """Insert one event a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)) as base:
        base.execute("PRAGMA synchronous = FULL")
        insert = "INSERT INTO events (stream, version, type, data) VALUES (?, ?, ?, ?)"
        clock = Clock(ready, seconds)
        i = 0
        while clock.goes_on():
            began = time.perf_counter()
            stream, version = f"s-{number}-{i % STREAMS}", i // STREAMS + 1
            base.execute(insert, (stream, version, "happened", DATA))
            clock.commit_took(began)
            i += 1
        return clock.worked()


Work = "Callable[[str, int, float, Signal], Worked]"


def work_together(works: Sequence[Work], path: Path, seconds: float) -> list[Worked]:
    """Have a process do each of these at the same time, once all of them are ready."""
    with SPAWN.Manager() as manager, SPAWN.Pool(len(works)) as pool:
        ready = manager.Event()
        asked = [
            pool.apply_async(work, (str(path), number, seconds, ready))
            for number, work in enumerate(works)
        ]
        time.sleep(2.0)
        ready.set()
        return [one.get(PATIENCE + seconds) for one in asked]


def together(work: Work, path: Path, processes: int, seconds: float) -> Rates:
    """Have so many processes do the same."""
    return rates_of(work_together([work] * processes, path, seconds), seconds)


def follow(path: str, count: int, ready: Signal) -> list[float]:
    """Note when each event is delivered, by the clock that all processes share."""
    seen: list[float] = []
    with eb.open(path) as store:
        ready.set()
        for _event in store.subscribe(after=0):
            seen.append(time.monotonic())
            if len(seen) == count:
                return seen
    return seen


@dataclass(frozen=True)
class Delivery:
    """From the append to the delivery in another process, in seconds.

    Attributes:
        p50: The median.
        p99: The 99th percentile.
        beyond_p50: The median of what comes after the append has been answered.
        beyond_p99: The 99th percentile of that.
    """

    p50: float
    p99: float
    beyond_p50: float
    beyond_p99: float


def delivery(path: Path, count: int) -> Delivery:
    """Append now and then, while another process follows."""
    with SPAWN.Manager() as manager, SPAWN.Pool(1) as pool:
        ready = manager.Event()
        following = pool.apply_async(follow, (str(path), count, ready))
        if not ready.wait(PATIENCE):
            raise TimeoutError
        begun, answered = [], []
        with eb.open(path) as store:
            time.sleep(0.5)
            for i in range(count):
                begun.append(time.monotonic())
                store.append([eb.NewEvent(f"s-{i % STREAMS}", "happened", DATA)])
                answered.append(time.monotonic())
                time.sleep(0.002)
        seen = following.get(PATIENCE)
    whole = sorted(s - b for s, b in zip(seen, begun, strict=True))
    # Delivered before the append was answered, it took nothing beyond the flush.
    beyond = sorted(max(s - a, 0.0) for s, a in zip(seen, answered, strict=True))
    return Delivery(
        percentile(whole, 0.5),
        percentile(whole, 0.99),
        percentile(beyond, 0.5),
        percentile(beyond, 0.99),
    )


def raw_rate(directory: Path, seconds: float) -> float:
    """Measure how often the disk flushes a block."""
    done, until = 0, time.perf_counter() + seconds
    with RawDisk(directory, [DATA * 2]) as disk:
        began = time.perf_counter()
        while time.perf_counter() < until:
            disk.commit()
            done += 1
        return done / (time.perf_counter() - began)


@dataclass(frozen=True)
class Figures:
    """All rows."""

    raw: float
    single: Rates
    flight: Rates
    sqlite: Rates
    delivery: Delivery


def measure(disk: Path, *, processes: int, seconds: float, count: int) -> Figures:
    """Take all figures on a disk."""
    with workplace(disk) as place:
        return Figures(
            raw=raw_rate(place, seconds / 3),
            single=together(one_at_a_time, place / "single", processes, seconds),
            flight=together(many_in_flight, place / "flight", processes, seconds),
            sqlite=together(
                in_sqlite, make_table(place / "table.sqlite"), processes, seconds
            ),
            delivery=delivery(place / "delivery", count),
        )


def lines_of(found: Figures, processes: int) -> list[str]:
    """Put the figures into words, each with what it is held to."""

    def verdict(*, met: bool) -> str:
        return "met" if met else "MISSED"

    single, flight, sqlite, told = (
        found.single,
        found.flight,
        found.sqlite,
        found.delivery,
    )
    fair = 1 / (2 * processes)
    return [
        f"raw write + fdatasync: {found.raw:,.0f}/s",
        (
            f"{processes} processes, one event a commit: {single.rate:,.0f} events/s"
            f" (at least 10,000: {verdict(met=single.rate >= 10_000)})"
        ),
        (
            f"    p50 {single.p50 * 1e6:,.0f} us, p99 {single.p99 * 1e6:,.0f} us"
            f" (p99 at most 3 ms: {verdict(met=single.p99 < 0.003)})"
        ),
        (
            f"    least share of a process in any second: {single.least_share:.1%}"
            f" (at least {fair:.1%}: {verdict(met=single.least_share >= fair)})"
        ),
        (
            f"{processes} processes, {IN_FLIGHT} in flight each:"
            f" {flight.rate:,.0f} events/s"
            f" (at least 80,000: {verdict(met=flight.rate >= 80_000)})"
        ),
        f"    p50 {flight.p50 * 1e6:,.0f} us, p99 {flight.p99 * 1e6:,.0f} us",
        (
            f"sqlite3, WAL, FULL, {processes} processes: {sqlite.rate:,.0f} events/s,"
            f" p99 {sqlite.p99 * 1e6:,.0f} us,"
            f" least share in any second {sqlite.least_share:.1%}"
        ),
        f"    one event a commit: {single.rate / max(sqlite.rate, 1):.2f} x sqlite3",
        (
            f"    {IN_FLIGHT} in flight:"
            f" {flight.rate / max(sqlite.rate, 1):.2f} x sqlite3"
            f" (at least 5 x: {verdict(met=flight.rate >= 5 * sqlite.rate)})"
        ),
        (
            f"append to delivery elsewhere: p50 {told.p50 * 1e6:,.0f} us,"
            f" p99 {told.p99 * 1e6:,.0f} us"
        ),
        (
            f"    beyond the flush: p50 {told.beyond_p50 * 1e6:,.0f} us,"
            f" p99 {told.beyond_p99 * 1e6:,.0f} us"
            f" (at most 100 and 1,000:"
            f" {verdict(met=told.beyond_p50 <= 1e-4 and told.beyond_p99 <= 1e-3)})"
        ),
    ]


@click.command(help=__doc__)
@click.option(
    "--disk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="A directory on the disk to measure; the current one if not given.",
)
@click.option("--seconds", type=float, default=6.0, show_default=True)
@click.option("--processes", type=int, default=4, show_default=True)
def main(disk: Path, seconds: float, processes: int) -> None:
    """Print the figures."""
    machine = describe_machine(disk)
    load = os.getloadavg()[0]
    click.echo(f"{machine}; load before {load:.1f}")
    found = measure(disk, processes=processes, seconds=seconds, count=1_000)
    lines = lines_of(found, processes)
    click.echo("\n".join(lines))
    sys.exit(any("MISSED" in line for line in lines))


if __name__ == "__main__":
    main()
