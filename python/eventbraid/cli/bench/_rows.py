"""The rows of `eventbraid bench`: for each its function and its share of the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from eventbraid.cli.bench._append import (
    measure_appends,
    measure_batches,
    measure_batches_of_objects,
    measure_tasks,
    measure_threads,
)
from eventbraid.cli.bench._cold_stream import (
    measure_cache_memory,
    measure_first_command,
)
from eventbraid.cli.bench._commands import (
    measure_commands,
    measure_concurrent_commands,
    measure_transfers,
)
from eventbraid.cli.bench._hot_stream import measure_hot_processes, measure_hot_stream
from eventbraid.cli.bench._order_event import measure_order_event
from eventbraid.cli.bench._replay import measure_opening, measure_replay
from eventbraid.cli.bench._sagas import measure_compensation, measure_sagas

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from eventbraid.cli.bench._results import Target


class Result(Protocol):
    """The result of a measurement."""

    @property
    def name(self) -> str:
        """The name of the measurement."""
        ...

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets that it is compared with."""
        ...

    def summary(self) -> str:
        """Return the most important number with its unit."""
        ...

    def numbers(self) -> dict[str, float]:
        """Return every number by its name, for programs."""
        ...

    def lines(self) -> list[str]:
        """Return the lines to print."""
        ...


class Measurement(Protocol):
    """A function that measures one row."""

    def __call__(self, directory: Path, *, seconds: float) -> Result:
        """Measure on the disk that holds a directory, for about these seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        key: Its name for `--only`.
        what: Its name in the output.
        measure: The function that measures it.
        weight: Its share of the time.
        stated: The number that EventCore states for it, if any.
    """

    key: str
    what: str
    measure: Measurement
    weight: float
    stated: str | None = None


ROWS = (
    Row("commands", "single-stream commands", measure_commands, 6, "86/s"),
    Row("sagas", "multi-stream sagas", measure_sagas, 10, "25-50/s (estimate)"),
    Row("batches", "batched events", measure_batches, 8, "9,000+/s"),
    Row("compensation", "compensation", measure_compensation, 10, "< 100 ms"),
    Row("append", "one writer", measure_appends, 6),
    Row("objects", "batches of NewEvent", measure_batches_of_objects, 6),
    Row("threads", "64 threads", measure_threads, 7),
    Row("tasks", "256 asyncio tasks", measure_tasks, 7),
    Row("replay", "replay", measure_replay, 8),
    Row("open", "open", measure_opening, 8),
    Row("concurrent", "128 tasks, one stream each", measure_concurrent_commands, 7),
    Row("transfers", "128 tasks, two streams each", measure_transfers, 7),
    Row("hot", "64 tasks, one stream", measure_hot_stream, 7),
    Row("hot-processes", "3 processes, one stream", measure_hot_processes, 7),
    Row("first", "first command", measure_first_command, 10),
    Row("cache", "memory of states", measure_cache_memory, 3),
    Row("codec", "order event", measure_order_event, 3),
)

# Seconds beyond a row's share: the events to replay and to open are written first.
_PREPARATION = {"replay": 9.0, "open": 8.0, "hot-processes": 2.0, "first": 2.0}


def chosen(keys: Collection[str]) -> list[Row]:
    """Return the rows with these keys; all rows if there are no keys."""
    return [row for row in ROWS if not keys or row.key in keys]


def seconds_each(rows: list[Row], seconds: float) -> list[tuple[Row, float]]:
    """Divide the time among rows."""
    whole = sum(row.weight + _PREPARATION.get(row.key, 0.0) for row in rows)
    return [(row, seconds * row.weight / whole) for row in rows]
