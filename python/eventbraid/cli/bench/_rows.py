"""The rows of `eventbraid bench`: what is measured, by which function, for how long."""

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
from eventbraid.cli.bench._commands import measure_commands
from eventbraid.cli.bench._replay import measure_opening, measure_replay
from eventbraid.cli.bench._sagas import measure_compensation, measure_sagas

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from eventbraid.cli.bench._results import Target


class Measured(Protocol):
    """What a measurement found out."""

    @property
    def name(self) -> str:
        """What was measured."""
        ...

    @property
    def targets(self) -> tuple[Target, ...]:
        """What its figures are to be."""
        ...

    def summary(self) -> str:
        """Say the one figure that matters most."""
        ...

    def figures(self) -> dict[str, float]:
        """Name every figure, for a machine to read."""
        ...

    def lines(self) -> list[str]:
        """Say it to people."""
        ...


class Measurement(Protocol):
    """A function that measures."""

    def __call__(self, directory: Path, *, seconds: float) -> Measured:
        """Measure on the disk that holds a directory, for about so long."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        key: What `--only` calls it.
        what: What people call it.
        measure: Measures it.
        weight: Its share of the time.
        stated: What EventCore states for it, if it states anything.
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
)

# What rows take beyond their shares: what is replayed and opened is written first.
_FILLING = {"replay": 9.0, "open": 8.0}


def chosen(keys: Collection[str]) -> list[Row]:
    """Find the rows of these keys; all, if there are none."""
    return [row for row in ROWS if not keys or row.key in keys]


def seconds_each(rows: list[Row], seconds: float) -> list[tuple[Row, float]]:
    """Share the time out among rows."""
    whole = sum(row.weight + _FILLING.get(row.key, 0.0) for row in rows)
    return [(row, seconds * row.weight / whole) for row in rows]
