"""Measurements of an existing store: reading all of it, and opening it."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from statistics import median
from subprocess import run
from typing import TYPE_CHECKING

import msgspec

import eventbraid as eb
from eventbraid.cli.bench import _store_process
from eventbraid.cli.bench._baseline import SqliteTable, workplace
from eventbraid.cli.bench._results import (
    SQLITE,
    Contender,
    Metrics,
    Rate,
    Target,
    alternate,
    repeated,
)
from eventbraid.cli.bench._workload import BATCH, batches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENTS = 1_000_000

_EVENTS_PER_SECOND = 125_000
_DISTINCT_BATCHES = 100
_ROUNDS = 3
_COMMIT = 10
_MIB = 1 << 20


class OpenReport(msgspec.Struct, frozen=True):
    """The report of a process that opened the store.

    Attributes:
        opened: The duration of opening, in seconds.
        events: The number of events that it read.
        peak: Its peak memory, in bytes.
    """

    opened: float
    events: int
    peak: int


def affordable(seconds: float) -> int:
    """Return the number of events for a duration: a million from 8 s on."""
    return max(BATCH, min(EVENTS, int(seconds * _EVENTS_PER_SECOND)) // BATCH * BATCH)


def measure_replay(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Read a million events in global order; fewer, if there is little time.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the reading, the baseline's included. The
            writing of the events is not counted.

    Returns:
        Events per second, beside fetching the same events from a bare SQLite table.
    """
    count = affordable(seconds)
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "replay.braid"))
        sqlite = stack.enter_context(SqliteTable(place))
        _fill(count, store, sqlite)

        def beside_sqlite(name: str, replay: Callable[[], int]) -> Rate:
            return alternate(
                name,
                "events",
                repeated(_whole(replay, count), each=count),
                [Contender(SQLITE, repeated(_whole(sqlite.replay, count), each=count))],
                seconds=seconds / 2,
                rounds=_ROUNDS,
            )

        plain = beside_sqlite(f"replay of {count:,} events", lambda: _replayed(store))
        bodies = beside_sqlite("with .data", lambda: _replayed_with_data(store))
    return plain.with_targets(
        _times_sqlite("events", plain, 1.6),
        _times_sqlite("reading .data of each", bodies, 1.1),
    )


def measure_opening(directory: Path, *, seconds: float = 10.0) -> Metrics:
    """Open a store of a million events; fewer, if there is little time.

    A process fills the store in commits of ten events and kills itself. Others then
    open it, read all of it and end by a kill after one more append, or close it.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The approximate duration; it determines the number of events.

    Returns:
        The duration of opening after a kill and after a clean end, and the peak memory
        of a process that opened the store and read all of it.
    """
    count = affordable(seconds)
    with workplace(directory) as place:
        path = place / "opened.braid"
        _run_process("fill", path, str(count), str(_COMMIT))
        killed = [_open_report("kill", path, count) for _ in range(_ROUNDS)]
        _open_report("close", path, count)
        clean = [_open_report("close", path, count) for _ in range(_ROUNDS)]
        size, reading = _read_plainly(path)
    peak = max(report.peak for report in killed + clean) / _MIB
    return Metrics(
        name=f"opening {count:,} events",
        others={"log, MiB": size / _MIB, "plain read of the log, s": reading},
        notes=(f"plain read of its {size / _MIB:,.0f} MiB: {reading:.2f} s",),
        targets=(
            _opened("after a clean end", clean),
            _opened("after a kill", killed),
            Target(
                what="peak memory, opened and replayed",
                value=peak,
                unit="MiB",
                bound=250.0,
                at_most=True,
                digits=0,
            ),
        ),
    )


# --- replay


def _fill(count: int, store: eb.EventStore, sqlite: SqliteTable) -> None:
    made = batches(min(_DISTINCT_BATCHES, count // BATCH))
    for turn in range(count // BATCH):
        batch = made[turn % len(made)]
        store.append(batch)
        sqlite.commit(batch)


def _whole(replay: Callable[[], int], count: int) -> Callable[[], None]:
    """Return a function that replays and checks the number of events."""

    def work() -> None:
        found = replay()
        if found != count:
            message = f"replayed {found} events of {count}"
            raise AssertionError(message)

    return work


def _replayed(store: eb.EventStore) -> int:
    found = 0
    for _ in store.read_all():
        found += 1
    return found


def _replayed_with_data(store: eb.EventStore) -> int:
    found = 0
    for recorded in store.read_all():
        found += bool(recorded.data)
    return found


def _times_sqlite(what: str, rate: Rate, bound: float) -> Target:
    ratio = rate.against(SQLITE).ratio
    return Target(what=what, value=ratio, unit=f"x {SQLITE}", bound=bound)


# --- opening


def _run_process(*arguments: str | Path) -> bytes:
    """Run a process that opens a store, and return what it prints."""
    # By its path and not by its module: so it imports the library and nothing else.
    program = [sys.executable, "-P", _store_process.__file__, *map(str, arguments)]
    done = run(program, capture_output=True, check=False)  # noqa: S603 - ours
    if done.returncode not in {0, _store_process.KILLED}:
        message = f"{arguments}: {done.stderr.decode(errors='replace')}"
        raise RuntimeError(message)
    return done.stdout


def _open_report(end: str, path: Path, minimum: int) -> OpenReport:
    report = msgspec.json.decode(_run_process(end, path), type=OpenReport)
    if report.events < minimum:
        message = f"read {report.events} events, expected at least {minimum}"
        raise AssertionError(message)
    return report


def _opened(end: str, reports: list[OpenReport]) -> Target:
    opened = median(report.opened for report in reports)
    return Target(what=end, value=opened, unit="s", bound=0.5, at_most=True)


def _read_plainly(path: Path) -> tuple[int, float]:
    """Read every byte of the log's files; return their number and the duration."""
    start = time.perf_counter()
    size = 0
    for part in (path / "log").iterdir():
        with part.open("rb", buffering=0) as file:
            while chunk := file.read(_MIB):
                size += len(chunk)
    return size, time.perf_counter() - start
