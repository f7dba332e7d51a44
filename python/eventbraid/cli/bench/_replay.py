"""Measurements of what is there already: reading all of it, and opening it."""

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
    Findings,
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

_EVENTS_A_SECOND = 125_000
_DISTINCT_BATCHES = 100
_ROUNDS = 3
_COMMIT = 10
_MIB = 1 << 20


class Told(msgspec.Struct, frozen=True):
    """What a process says of its life with the store.

    Attributes:
        opened: How long opening took, in seconds.
        events: How many it found.
        peak: The most memory that it had, in bytes.
    """

    opened: float
    events: int
    peak: int


def affordable(seconds: float) -> int:
    """Say how many events a row of this length can do with: a million from 8 s on."""
    return max(BATCH, min(EVENTS, int(seconds * _EVENTS_A_SECOND)) // BATCH * BATCH)


def measure_replay(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Read a million events in global order; fewer, if there is little time.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the reading may take, the yardstick's included; what is read
            is written before.

    Returns:
        Events a second, beside fetching the same events from a bare SQLite table.
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
    return plain.held_to(
        _times_sqlite("events", plain, 1.6),
        _times_sqlite("reading .data of each", bodies, 1.1),
    )


def measure_opening(directory: Path, *, seconds: float = 10.0) -> Findings:
    """Open a store of a million events; fewer, if there is little time.

    A process fills the store in commits of ten events and kills itself. Others then
    open it, read all of it and end by a kill after one more append, or close it.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long it may take, roughly; it says how many events there are.

    Returns:
        How long opening took after a kill and after a clean end, and the most memory
        that a process had which opened the store and read all of it.
    """
    count = affordable(seconds)
    with workplace(directory) as place:
        path = place / "opened.braid"
        _lived("fill", path, str(count), str(_COMMIT))
        killed = [_told("kill", path, count) for _ in range(_ROUNDS)]
        _told("close", path, count)
        clean = [_told("close", path, count) for _ in range(_ROUNDS)]
        size, reading = _read_plainly(path)
    peak = max(told.peak for told in killed + clean) / _MIB
    return Findings(
        name=f"opening {count:,} events",
        numbers={"log, MiB": size / _MIB, "plain read of the log, s": reading},
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
    """Replay, and make sure that it was all."""

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


def _lived(*arguments: str | Path) -> bytes:
    """Let a fresh process do something with a store; answer what it says."""
    # By its path and not by its name: so it imports the library and nothing else of it.
    program = [sys.executable, "-P", _store_process.__file__, *map(str, arguments)]
    done = run(program, capture_output=True, check=False)  # noqa: S603 - ours
    if done.returncode not in {0, _store_process.KILLED}:
        message = f"{arguments}: {done.stderr.decode(errors='replace')}"
        raise RuntimeError(message)
    return done.stdout


def _told(end: str, path: Path, least: int) -> Told:
    told = msgspec.json.decode(_lived(end, path), type=Told)
    if told.events < least:
        message = f"{told.events} events left of {least}"
        raise AssertionError(message)
    return told


def _opened(end: str, lives: list[Told]) -> Target:
    opened = median(told.opened for told in lives)
    return Target(what=end, value=opened, unit="s", bound=0.5, at_most=True)


def _read_plainly(path: Path) -> tuple[int, float]:
    """Read every byte of the log's files; answer how many, and how long it took."""
    start = time.perf_counter()
    size = 0
    for part in (path / "log").iterdir():
        with part.open("rb", buffering=0) as file:
            while chunk := file.read(_MIB):
                size += len(chunk)
    return size, time.perf_counter() - start
