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
    Metrics,
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
_MINIMUM_SAMPLES = 3
_SLEEP = 0.001
_BUSY = 0.0003
_CONTROL_SHARE = 0.2
# The minimum rate of the disk, in commits per second, at which the target of 40,000
# appends per second applies.
_FAST_DISK = 8_000


def measure_appends(directory: Path, *, seconds: float = 10.0) -> Metrics:
    """Measure the time of an append: one writer, one event per commit.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baselines included.

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
    """Measure commits of 1,000 events of 200 bytes over 10 of 10,000 streams.

    The events are (stream, type, bytes) tuples, made before the time starts, here and
    for the baselines. The time of an append includes the ids and the checks of its
    events, and each commit expects the exact version of every stream that it writes.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baselines included.

    Returns:
        Events per second, beside raw `pwrite` + `fdatasync` of the same bytes and a
        plain SQLite table.
    """
    made = batches(_DISTINCT_BATCHES)
    return _batched("batched appends", directory, seconds, made, _as_they_are)


def measure_batches_of_objects(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure as `measure_batches` does, with `NewEvent` objects.

    The objects are made of the tuples within the time.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baselines included.

    Returns:
        As `measure_batches`.
    """
    made = batches(_DISTINCT_BATCHES)
    return _batched("batched appends, NewEvent", directory, seconds, made, _as_objects)


def measure_threads(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure 64 threads, one event per commit, each on a stream of its own.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baselines included.

    Returns:
        Events per second, beside raw `pwrite` + `fdatasync` from one thread and a bare
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
    return rate.with_targets(_times(rate, SQLITE, 4))


def measure_tasks(
    directory: Path,
    *,
    seconds: float = 10.0,
    backend: str = "asyncio",
    uvloop: bool = False,
) -> Rate:
    """Measure 256 tasks of an event loop, one event per commit, each on its own stream.

    Meanwhile one more task sleeps for a millisecond at a time and records how late it
    wakes up.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.
        backend: The event loop: ``"asyncio"`` or ``"trio"``.
        uvloop: Whether asyncio runs on uvloop.

    Returns:
        Events per second, beside raw `pwrite` + `fdatasync` from one thread, and the
        lag of the event loop, beside that of a loop that only computes.
    """
    events = single_events(TASKS)
    lateness: list[float] = []
    machine: list[float] = []
    options = {"use_uvloop": True} if uvloop else {}
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        raw = stack.enter_context(RawDisk(place, [bytes_of(events[:1])]))

        def append(seconds: float) -> float:
            anyio.run(_compute, machine, seconds * _CONTROL_SHARE)
            return anyio.run(
                _append_from_tasks,
                place / "tasks.braid",
                events,
                lateness,
                seconds * (1 - _CONTROL_SHARE),
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
    return replace(rate.with_targets(*_task_targets(rate, lateness)), notes=(control,))


# --- one after the other


def _timed(work: Callable[[], object]) -> Callable[[float], list[float]]:
    """Return a function that repeats the work and returns the time of each run."""

    def for_seconds(seconds: float) -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end or len(times) < _MINIMUM_SAMPLES:
            work()
            times.append(time.perf_counter() - start)
        return times

    return for_seconds


def _compared(
    contenders: Sequence[Callable[[float], list[float]]], seconds: float
) -> Metrics:
    """Measure the store, a raw sync and SQLite in short alternating rounds."""
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
    return Metrics(
        name="one writer, one event a commit",
        others={**percentiles, "samples": float(len(ours))},
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
    return rate.with_targets(_times(rate, SQLITE, 3))


def _appending(
    store: eb.EventStore,
    tuples: Sequence[list[Event]],
    ours: Callable[[list[Event]], Sequence[Event | eb.NewEvent]],
) -> Callable[[], None]:
    """Return a function that appends the next batch, with its exact versions."""
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
    """Return a function that appends an event per thread, repeatedly."""

    def for_seconds(seconds: float) -> float:
        ready = threading.Barrier(len(events))

        def work(event: Event) -> tuple[int, float]:
            ready.wait()
            return _until(time.perf_counter() + seconds, lambda: append(event))

        done = list(pool.map(work, events))
        return sum(count / elapsed for count, elapsed in done)

    return for_seconds


def _until(end: float, work: Callable[[], object]) -> tuple[int, float]:
    """Repeat the work until a time; return the number of runs and their duration."""
    start = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) < end or not count:
        work()
        count += 1
    return count, now - start


# --- from tasks


async def _append_from_tasks(
    path: Path, events: Sequence[Event], lateness: list[float], seconds: float
) -> float:
    """Append each event from a task of its own; return events per second."""
    done = 0
    async with eb.open_async(path) as store:
        start = time.perf_counter()
        end = start + seconds

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
    """Sleep for a millisecond at a time, and record by how much each sleep is late."""
    while (start := time.perf_counter()) < end:
        await anyio.sleep(_SLEEP)
        lateness.append(time.perf_counter() - start - _SLEEP)


async def _compute(lateness: list[float], seconds: float) -> None:
    """Keep the loop busy without a store: the lag is then the machine's."""
    end = time.perf_counter() + seconds

    async def work() -> None:
        while (now := time.perf_counter()) < end:
            while time.perf_counter() < now + _BUSY:
                pass
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as workers:
        workers.start_soon(_note_lateness, end, lateness)
        workers.start_soon(work)


def _task_targets(rate: Rate, lateness: list[float]) -> list[Target]:
    targets = [_times(rate, RAW, 5)]
    if rate.against(RAW).rate >= _FAST_DISK:
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
    """Return the 99th percentile, in milliseconds."""
    return percentile(sorted(lateness), 99) * 1e3


def _times(rate: Rate, baseline: str, bound: float) -> Target:
    """Build the target of a rate: a minimum multiple of a baseline's rate."""
    value = rate.against(baseline).ratio
    return Target(what=rate.unit, value=value, unit=f"x {baseline}", bound=bound)
