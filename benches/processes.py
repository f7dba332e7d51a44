"""Throughput of several processes on one store, next to sqlite3 and the raw disk.

    python benches/processes.py --disk DIR [--seconds 6] [--processes 4]

Three rows, each with its baselines of the same run:

* several processes with one thread each, one event a commit: total events a second,
  the 99th percentile of a commit, and the smallest share of a process in any second;
* the same with 64 commits in flight in each process, on event loops;
* the time from an append in one process to its delivery in another, and the part of it
  after the flush.

Every commit is awaited until it is durable. sqlite3 is in WAL mode with
`synchronous=FULL`, one connection a process, and waits for its lock by its own means.
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
    from threading import Barrier

DATA = b'{"order": 12345, "customer": "%s"}' % (b"x" * 160)
STREAMS = 100
IN_FLIGHT = 64
WAIT_SECONDS = 120.0

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Worked:
    """The commits of one process.

    Attributes:
        waits: The seconds that each commit took.
        each_second: The number of commits that ended in each whole second.
    """

    waits: list[float]
    each_second: list[int]


@dataclass(frozen=True)
class Rates:
    """The commits of several processes at the same time.

    Attributes:
        rate: The commits a second of all processes.
        p50: The median of the seconds that a commit took.
        p99: Their 99th percentile.
        least_share: The smallest share of one process in the commits of a second.
    """

    rate: float
    p50: float
    p99: float
    least_share: float


def rates_of(worked: Sequence[Worked], seconds: float) -> Rates:
    """Summarise the commits of several processes."""
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
    """Return a percentile of numbers in ascending order."""
    return ordered[int(len(ordered) * part)] if ordered else 0.0


class Clock:
    """Counts the commits of one process, from the moment at which all processes begin.

    No process begins before all of them have opened the store: a process that began
    late would end after the others, and would measure a store that it does not share.
    """

    def __init__(self, begin: Barrier, seconds: float) -> None:
        begin.wait(WAIT_SECONDS)
        self.waits: list[float] = []
        self.each_second = [0] * (int(seconds) + 1)
        self._began = time.perf_counter()
        self._until = self._began + seconds

    def has_time_left(self) -> bool:
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
        """Return the commits that were counted."""
        return Worked(self.waits, self.each_second)


def one_at_a_time(path: str, number: int, seconds: float, begin: Barrier) -> Worked:
    """Append one event after the other."""
    with eb.open(path) as store:
        clock = Clock(begin, seconds)
        i = 0
        while clock.has_time_left():
            began = time.perf_counter()
            store.append([eb.NewEvent(f"s-{number}-{i % STREAMS}", "happened", DATA)])
            clock.commit_took(began)
            i += 1
        return clock.worked()


def many_in_flight(path: str, number: int, seconds: float, begin: Barrier) -> Worked:
    """Append from `IN_FLIGHT` tasks of an event loop."""

    async def work() -> Worked:
        async with eb.open_async(path) as store:
            clock = Clock(begin, seconds)

            async def append(task: int) -> None:
                while clock.has_time_left():
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
    """Create the table before another process opens it.

    The change to WAL fails at once while another connection is open.
    """
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


def in_sqlite(path: str, number: int, seconds: float, begin: Barrier) -> Worked:
    """Insert one event a transaction."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS)
    with closing(connection) as base:
        base.execute("PRAGMA synchronous = FULL")
        insert = "INSERT INTO events (stream, version, type, data) VALUES (?, ?, ?, ?)"
        clock = Clock(begin, seconds)
        i = 0
        while clock.has_time_left():
            began = time.perf_counter()
            stream, version = f"s-{number}-{i % STREAMS}", i // STREAMS + 1
            base.execute(insert, (stream, version, "happened", DATA))
            clock.commit_took(began)
            i += 1
        return clock.worked()


Work = "Callable[[str, int, float, Barrier], Worked]"


def work_together(works: Sequence[Work], path: Path, seconds: float) -> list[Worked]:
    """Run each of these in a process of its own, at the same time."""
    with SPAWN.Manager() as manager, SPAWN.Pool(len(works)) as pool:
        begin = manager.Barrier(len(works))
        results = [
            pool.apply_async(work, (str(path), number, seconds, begin))
            for number, work in enumerate(works)
        ]
        return [result.get(2 * WAIT_SECONDS + seconds) for result in results]


def together(work: Work, path: Path, processes: int, seconds: float) -> Rates:
    """Run the same work in several processes at the same time."""
    return rates_of(work_together([work] * processes, path, seconds), seconds)


def follow(path: str, count: int, ready: Signal) -> list[float]:
    """Return the time of each delivery, by the clock that all processes share."""
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
    """The seconds from an append to its delivery in another process.

    Attributes:
        p50: The median.
        p99: The 99th percentile.
        beyond_p50: The median of the seconds from the append's end to the delivery.
        beyond_p99: The 99th percentile of that time.
    """

    p50: float
    p99: float
    beyond_p50: float
    beyond_p99: float


def delivery(path: Path, count: int) -> Delivery:
    """Append an event every few milliseconds, while another process follows."""
    with SPAWN.Manager() as manager, SPAWN.Pool(1) as pool:
        ready = manager.Event()
        following = pool.apply_async(follow, (str(path), count, ready))
        if not ready.wait(WAIT_SECONDS):
            raise TimeoutError
        begun, acknowledged = [], []
        with eb.open(path) as store:
            time.sleep(0.5)
            for i in range(count):
                begun.append(time.monotonic())
                store.append([eb.NewEvent(f"s-{i % STREAMS}", "happened", DATA)])
                acknowledged.append(time.monotonic())
                time.sleep(0.002)
        seen = following.get(WAIT_SECONDS)
    whole = sorted(s - b for s, b in zip(seen, begun, strict=True))
    # A delivery before the append returns takes no time beyond the flush.
    beyond = sorted(max(s - a, 0.0) for s, a in zip(seen, acknowledged, strict=True))
    return Delivery(
        percentile(whole, 0.5),
        percentile(whole, 0.99),
        percentile(beyond, 0.5),
        percentile(beyond, 0.99),
    )


def raw_rate(directory: Path, seconds: float) -> float:
    """Return the flushes a second of blocks of this size."""
    done, until = 0, time.perf_counter() + seconds
    with RawDisk(directory, [DATA * 2]) as disk:
        began = time.perf_counter()
        while time.perf_counter() < until:
            disk.commit()
            done += 1
        return done / (time.perf_counter() - began)


@dataclass(frozen=True)
class Measurements:
    """All rows."""

    raw: float
    single: Rates
    flight: Rates
    sqlite: Rates
    delivery: Delivery


def measure(disk: Path, *, processes: int, seconds: float, count: int) -> Measurements:
    """Measure all rows on a disk."""
    with workplace(disk) as place:
        return Measurements(
            raw=raw_rate(place, seconds / 3),
            single=together(one_at_a_time, place / "single", processes, seconds),
            flight=together(many_in_flight, place / "flight", processes, seconds),
            sqlite=together(
                in_sqlite, make_table(place / "table.sqlite"), processes, seconds
            ),
            delivery=delivery(place / "delivery", count),
        )


def lines_of(found: Measurements, processes: int) -> list[str]:
    """Format the rows, each with its target."""

    def verdict(*, met: bool) -> str:
        return "met" if met else "MISSED"

    single, flight, sqlite = found.single, found.flight, found.sqlite
    delivered = found.delivery
    fair = 1 / (2 * processes)
    is_prompt = delivered.beyond_p50 <= 1e-4 and delivered.beyond_p99 <= 1e-3
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
            f"append to delivery elsewhere: p50 {delivered.p50 * 1e6:,.0f} us,"
            f" p99 {delivered.p99 * 1e6:,.0f} us"
        ),
        (
            f"    beyond the flush: p50 {delivered.beyond_p50 * 1e6:,.0f} us,"
            f" p99 {delivered.beyond_p99 * 1e6:,.0f} us"
            f" (at most 100 and 1,000: {verdict(met=is_prompt)})"
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
    """Print the measurements."""
    machine = describe_machine(disk)
    load = os.getloadavg()[0]
    click.echo(f"{machine}; load before {load:.1f}")
    found = measure(disk, processes=processes, seconds=seconds, count=1_000)
    lines = lines_of(found, processes)
    click.echo("\n".join(lines))
    sys.exit(any("MISSED" in line for line in lines))


if __name__ == "__main__":
    main()
