"""Measurements of states: the first command on a long stream, the cache's memory."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

import eventbraid as eb
from eventbraid.cli.bench._accounts import (
    Account,
    Amount,
    Deposit,
    SavedAccount,
    SavedDeposit,
    account_id,
    deposits,
)
from eventbraid.cli.bench._baseline import workplace
from eventbraid.cli.bench._results import Metrics, Target

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 1_000_000
STREAMS = 20_000

_LONG = account_id(0)
_OTHER = account_id(1)
_BATCH = 10_000
_EVENTS_PER_SECOND = 100_000
_STREAMS_PER_SECOND = 4_000
_ROUNDS = 2
_OPENINGS = 9
# Events that follow the newest snapshot: half of the interval between two of them.
_TAIL = 500


def measure_first_command(directory: Path, *, seconds: float = 10.0) -> Metrics:
    """Measure the first command on a stream of a million events, with nothing cached.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The approximate duration of the reading; there are fewer events if
            there is little time. The writing of the events is not counted.

    Returns:
        The events per second of the command, compared with a read of the same stream as
        typed events; and the duration of the first command with a snapshot, without the
        duration of a cached command, most of which is the commit.
    """
    count = max(1, min(EVENTS, int(seconds * _EVENTS_PER_SECOND)) // _BATCH) * _BATCH
    with workplace(directory) as place:
        path = place / "long.braid"
        with eb.open(path) as store:
            for _ in range(count // _BATCH):
                store.append(deposits(_LONG, _BATCH))
            store.append(deposits(_OTHER, 1))
        rounds = [(_decode(path, count), _first(path)) for _ in range(_ROUNDS)]
        with eb.open(path) as store:
            # It records a snapshot.
            eb.Executor(store).load(SavedAccount(_LONG))
            store.append(deposits(_LONG, _TAIL))
        with_snapshot = [_first_with_snapshot(path) for _ in range(_OPENINGS)]
    snapshot = median(first for first, _ in with_snapshot) * 1e3
    cached = median(second for _, second in with_snapshot) * 1e3
    decoding = median(decoded for decoded, _ in rounds)
    first = median(first for _, first in rounds)
    ratio = median(decoded / first for decoded, first in rounds)
    return Metrics(
        name=f"first command on a stream of {count:,} events",
        others={
            "events/s": count / first,
            "typed events/s": count / decoding,
            "with a snapshot, ms": snapshot,
            "cached, ms": cached,
        },
        notes=(
            f"with a snapshot and {_TAIL} events after it: {snapshot:.2f} ms",
            f"the next command, which is cached: {cached:.2f} ms",
            f"without a snapshot: {first:.2f} s, {count / first:,.0f} events/s",
            f"typed read of the stream: {count / decoding:,.0f} events/s",
        ),
        targets=(
            Target(
                what="without a snapshot",
                value=ratio,
                unit="x a typed read",
                bound=0.7,
            ),
            Target(
                what="with a snapshot, more than a cached one",
                value=median(one - two for one, two in with_snapshot) * 1e3,
                unit="ms",
                bound=5.0,
                at_most=True,
            ),
        ),
    )


def measure_cache_memory(directory: Path, *, seconds: float = 10.0) -> Metrics:
    """Measure the memory of the cache for each stream, besides the state itself.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The approximate duration; it determines the number of streams.

    Returns:
        The bytes that a stream with an `Int` state takes.
    """
    count = max(1_000, min(STREAMS, int(seconds * _STREAMS_PER_SECOND)))
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        store = stack.enter_context(eb.open(place / "streams.braid"))
        for begin in range(0, count, 1_000):
            store.append(
                event
                for number in range(begin, begin + 1_000)
                for event in deposits(account_id(number), 1, 10**12 + number)
            )
        executor = eb.Executor(store)
        executor.load(Account(account_id(0)))
        gc.collect()
        tracemalloc.start()
        try:
            sizes, loaded = 0, None
            before, _ = tracemalloc.get_traced_memory()
            for number in range(1, count):
                loaded = executor.load(Account(account_id(number)))
                sizes += sys.getsizeof(loaded.state)
            del loaded
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    each = (after - before - sizes) / (count - 1)
    return Metrics(
        name=f"memory of the cache for {count:,} streams",
        others={"a state, bytes": sizes / (count - 1)},
        notes=(f"the state itself: {sizes / (count - 1):.0f} bytes",),
        targets=(
            Target(
                what="a stream, besides its state",
                value=each,
                unit="bytes",
                bound=300.0,
                at_most=True,
                digits=0,
            ),
        ),
    )


def _decode(path: Path, count: int) -> float:
    """Read all events of the stream as typed events; return the seconds."""
    with eb.open(path) as store:
        store.version(_LONG)
        start = time.perf_counter()
        found = sum(1 for _ in store.read_stream(Account(_LONG)))
        elapsed = time.perf_counter() - start
    if found < count:
        message = f"read {found} events of {count}"
        raise AssertionError(message)
    return elapsed


def _first(path: Path) -> float:
    """Return the seconds of the first command after the store was opened."""
    with eb.open(path) as store:
        executor = eb.Executor(store)
        executor.execute(Deposit(account=_OTHER, amount=Amount(1)))
        start = time.perf_counter()
        executor.execute(Deposit(account=_LONG, amount=Amount(1)))
        return time.perf_counter() - start


def _first_with_snapshot(path: Path) -> tuple[float, float]:
    """Return the seconds of the first command, and of the next: it is durable, too."""
    with eb.open(path) as store:
        executor = eb.Executor(store)
        executor.execute(SavedDeposit(account=_OTHER, amount=Amount(1)))
        start = time.perf_counter()
        executor.execute(SavedDeposit(account=_LONG, amount=Amount(1)))
        middle = time.perf_counter()
        executor.execute(SavedDeposit(account=_LONG, amount=Amount(1)))
        return middle - start, time.perf_counter() - middle
