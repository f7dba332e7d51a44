"""Measurements of appends: one by one, in batches, from threads, from tasks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

import eventbraid as eb
from eventbraid.cli.bench._baseline import RawDisk, SqliteTable, workplace
from eventbraid.cli.bench._results import (
    RAW,
    ROUNDS,
    SQLITE,
    Contender,
    Findings,
    Rate,
    Target,
    alternate,
    percentile,
    repeated,
)
from eventbraid.cli.bench._workload import BATCH, batches, bytes_of, single_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from eventbraid.cli.bench._workload import Event

THREADS = 64
TASKS = 256

_DISTINCT_BATCHES = 32
_LONE_STREAMS = 1_000
_FEWEST = 3
_NAP = 0.001
_STINT = 0.0003
_CONTROL = 0.2
# Only where the disk itself does so many commits a second are 40,000 appends asked for.
_QUICK_DISK = 8_000


def measure_appends(directory: Path, *, seconds: float = 10.0) -> Findings:
    """One writer, one event a commit: how long each append takes.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardsticks included.

    Returns:
        The median and the 99th percentile, beside those of raw `pwrite` + `fdatasync`
        of the same bytes and of a bare SQLite table.
    """
    events = single_events(_LONE_STREAMS)
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "appends.braid"))
        raw = stack.enter_context(RawDisk(place, [bytes_of(events[:1])]))
        sqlite = stack.enter_context(SqliteTable(place))
        ours, rows = cycle([[event] for event in events]), cycle(events)
        return _compared(
            [
                _timed(lambda: store.append(next(ours))),
                _timed(raw.commit),
                _timed(lambda: sqlite.commit_one(next(rows))),
            ],
            seconds,
        )


def measure_batches(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Commits of 1,000 events of 200 bytes over 10 of 10,000 streams at random.

    The events are (stream, type, bytes) tuples, which stand ready on both sides. What
    is timed of ours is the append of them, with the ids and the checks of each event;
    each commit expects the exact version of every stream it writes.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardsticks included.

    Returns:
        Events a second, beside raw `pwrite` + `fdatasync` of the same bytes and a bare
        SQLite table.
    """
    made = batches(_DISTINCT_BATCHES)
    return _batched("batched appends", directory, seconds, made, _as_they_are)


def measure_batches_of_objects(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Like `measure_batches`, but the events are `NewEvent` objects.

    They are made of the tuples within the time.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardsticks included.

    Returns:
        As `measure_batches`.
    """
    made = batches(_DISTINCT_BATCHES)
    return _batched("batched appends, NewEvent", directory, seconds, made, _as_objects)


def measure_threads(directory: Path, *, seconds: float = 10.0) -> Rate:
    """64 threads, one event a commit, each on a stream of its own.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardsticks included.

    Returns:
        Events a second, beside raw `pwrite` + `fdatasync` from one thread and a bare
        SQLite table whose one connection 64 threads share.
    """
    events = single_events(THREADS)
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "threads.braid"))
        raw = stack.enter_context(RawDisk(place, [bytes_of(events[:1])]))
        sqlite = stack.enter_context(SqliteTable(place))
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        rate = alternate(
            f"{THREADS} threads, one event a commit",
            "events",
            _from_threads(pool, events, lambda event: store.append([event])),
            [
                Contender(SQLITE, _from_threads(pool, events, sqlite.commit_one)),
                Contender(RAW, repeated(raw.commit)),
            ],
            seconds=seconds,
        )
    return rate.held_to(_times(rate, SQLITE, 4))


def measure_tasks(
    directory: Path,
    *,
    seconds: float = 10.0,
    backend: str = "asyncio",
    uvloop: bool = False,
) -> Rate:
    """256 tasks of one event loop, one event a commit, each on a stream of its own.

    Meanwhile one more task sleeps for a millisecond at a time and notes how late it
    wakes up.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardstick included.
        backend: The event loop: ``"asyncio"`` or ``"trio"``.
        uvloop: Whether asyncio runs on uvloop.

    Returns:
        Events a second, beside raw `pwrite` + `fdatasync` from one thread, and the lag
        of the event loop, beside that of a loop that only computes.
    """
    events = single_events(TASKS)
    lateness: list[float] = []
    machine: list[float] = []
    options = {"use_uvloop": True} if uvloop else {}
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        raw = stack.enter_context(RawDisk(place, [bytes_of(events[:1])]))

        def append(wanted: float) -> float:
            anyio.run(_compute, machine, wanted * _CONTROL)
            return anyio.run(
                _append_from_tasks,
                place / "tasks.braid",
                events,
                lateness,
                wanted * (1 - _CONTROL),
                backend=backend,
                backend_options=options,
            )

        rate = alternate(
            f"{TASKS} {'uvloop' if uvloop else backend} tasks, one event a commit",
            "events",
            append,
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
        )
    control = f"lag of a loop that only computes, p99: {_p99(machine):.2f} ms"
    return replace(rate.held_to(*_task_targets(rate, lateness)), notes=(control,))


# --- one after the other


def _timed(work: Callable[[], object]) -> Callable[[float], list[float]]:
    """Do it again and again for some seconds; answer how long each time took."""

    def for_seconds(wanted: float) -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + wanted
        while (start := time.perf_counter()) < end or len(times) < _FEWEST:
            work()
            times.append(time.perf_counter() - start)
        return times

    return for_seconds


def _compared(
    contenders: Sequence[Callable[[float], list[float]]], seconds: float
) -> Findings:
    """Time ours, a raw sync and SQLite in short rounds, turn about."""
    share = seconds / ROUNDS / len(contenders)
    rounds = [[contender(share) for contender in contenders] for _ in range(ROUNDS)]
    ratio = median(median(ours) / median(raw) for ours, raw, _ in rounds)
    ours, raw, sqlite = (
        sorted(time for times in contender for time in times)
        for contender in zip(*rounds, strict=True)
    )
    percentiles = {
        f"{name} p{percent}, us": percentile(times, percent) * 1e6
        for name, times in (("ours", ours), (RAW, raw), (SQLITE, sqlite))
        for percent in (50, 99)
    }
    return Findings(
        name="one writer, one event a commit",
        numbers={**percentiles, "samples": float(len(ours))},
        notes=tuple(
            f"{name}: p50 {percentiles[f'{name} p50, us']:,.0f} us, "
            f"p99 {percentiles[f'{name} p99, us']:,.0f} us"
            for name in ("ours", RAW, SQLITE)
        ),
        targets=(
            Target(what="p50", value=ratio, unit=f"x {RAW}", bound=1.6, at_most=True),
        ),
    )


# --- in batches


def _as_they_are(batch: list[Event]) -> list[Event]:
    return batch


def _as_objects(batch: list[Event]) -> list[eb.NewEvent]:
    return [eb.NewEvent(*event) for event in batch]


def _batched(
    name: str,
    directory: Path,
    seconds: float,
    tuples: Sequence[list[Event]],
    ours: Callable[[list[Event]], Sequence[Event | eb.NewEvent]],
) -> Rate:
    rows = cycle(tuples)
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "batches.braid"))
        raw = stack.enter_context(RawDisk(place, [bytes_of(b) for b in tuples]))
        sqlite = stack.enter_context(SqliteTable(place))
        rate = alternate(
            name,
            "events",
            repeated(_appending(store, tuples, ours), each=BATCH),
            [
                Contender(RAW, repeated(raw.commit, each=BATCH)),
                Contender(
                    SQLITE, repeated(lambda: sqlite.commit(next(rows)), each=BATCH)
                ),
            ],
            seconds=seconds,
        )
    return rate.held_to(_times(rate, SQLITE, 3))


def _appending(
    store: eb.EventStore,
    tuples: Sequence[list[Event]],
    ours: Callable[[list[Event]], Sequence[Event | eb.NewEvent]],
) -> Callable[[], None]:
    """Append the batches in turn, expecting the versions that came of the last time."""
    written = [sorted({stream for stream, _, _ in batch}) for batch in tuples]
    versions = dict.fromkeys((stream for streams in written for stream in streams), 0)
    turn = cycle(zip(tuples, written, strict=True))

    def append() -> None:
        batch, streams = next(turn)
        expected = {stream: versions[stream] for stream in streams}
        done = store.append(ours(batch), expect=expected)
        versions.update(done.versions)

    return append


# --- from threads


def _from_threads(
    pool: ThreadPoolExecutor, events: Sequence[Event], append: Callable[[Event], object]
) -> Callable[[float], float]:
    """Let every thread of the pool append its event, over and over."""

    def for_seconds(wanted: float) -> float:
        ready = threading.Barrier(len(events))

        def work(event: Event) -> tuple[int, float]:
            ready.wait()
            return _until(time.perf_counter() + wanted, lambda: append(event))

        done = list(pool.map(work, events))
        return sum(count / elapsed for count, elapsed in done)

    return for_seconds


def _until(end: float, work: Callable[[], object]) -> tuple[int, float]:
    """Do it until then; answer how often, and how long that took in the end."""
    start = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) < end or not count:
        work()
        count += 1
    return count, now - start


# --- from tasks


async def _append_from_tasks(
    path: Path, events: Sequence[Event], lateness: list[float], wanted: float
) -> float:
    """Let a task an event append it until the time is over; answer events a second."""
    done = 0
    async with eb.open_async(path) as store:
        start = time.perf_counter()
        end = start + wanted

        async def work(event: Event) -> None:
            nonlocal done
            while time.perf_counter() < end:
                await store.append([event])
                done += 1

        async with anyio.create_task_group() as workers:
            workers.start_soon(_note_lateness, end, lateness)
            for event in events:
                workers.start_soon(work, event)
        return done / (time.perf_counter() - start)


async def _note_lateness(end: float, lateness: list[float]) -> None:
    """Sleep for a millisecond at a time, and note how much later it was each time."""
    while (start := time.perf_counter()) < end:
        await anyio.sleep(_NAP)
        lateness.append(time.perf_counter() - start - _NAP)


async def _compute(lateness: list[float], wanted: float) -> None:
    """Keep the loop busy without a store: what it lags then is the machine's."""
    end = time.perf_counter() + wanted

    async def work() -> None:
        while (now := time.perf_counter()) < end:
            while time.perf_counter() < now + _STINT:
                pass
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as workers:
        workers.start_soon(_note_lateness, end, lateness)
        workers.start_soon(work)


def _task_targets(rate: Rate, lateness: list[float]) -> list[Target]:
    targets = [_times(rate, RAW, 5)]
    if rate.against(RAW).rate >= _QUICK_DISK:
        targets.append(
            Target(
                what="appends", value=rate.rate, unit="events/s", bound=4e4, digits=0
            )
        )
    lag = _p99(lateness)
    targets.append(
        Target(
            what="event-loop lag, p99", value=lag, unit="ms", bound=5.0, at_most=True
        )
    )
    return targets


def _p99(lateness: list[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return percentile(sorted(lateness), 99) * 1e3


def _times(rate: Rate, yardstick: str, bound: float) -> Target:
    """A rate is to be so many times that of a yardstick."""
    value = rate.against(yardstick).ratio
    return Target(what=rate.unit, value=value, unit=f"x {yardstick}", bound=bound)
