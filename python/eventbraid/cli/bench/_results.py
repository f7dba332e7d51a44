"""Figures of durable work, each beside a yardstick taken in the same run.

A measurement alternates short rounds of our work and of its yardsticks, so that a
neighbour who slows the disk slows all of them, and answers medians.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 5

RAW = "raw write + fdatasync"
SQLITE = "sqlite3, WAL, FULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What something else did on the same machine, in the same minute.

    Attributes:
        name: What was measured.
        rate: Its median rate per second, in the unit of the measurement.
        ratio: The median of our rate divided by its rate, round by round.
    """

    name: str
    rate: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure, and what it is to be.

    Attributes:
        what: What the figure says, such as ``"event-loop lag, p99"``.
        value: The figure.
        unit: Of the figure and of its bound.
        bound: The least that it may be; with `at_most`, the most.
        at_most: Whether the bound is an upper one.
        digits: How many decimal places are shown.
    """

    what: str
    value: float
    unit: str
    bound: float
    at_most: bool = False
    digits: int = 2

    @property
    def met(self) -> bool:
        """Whether the figure is what it is to be."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def shown(self) -> str:
        """Say the figure with its unit."""
        return f"{self.value:,.{self.digits}f} {self.unit}"

    def wanted(self) -> str:
        """Say the bound, with as much of the unit as it needs beside the figure."""
        side = "at most" if self.at_most else "at least"
        unit = self.unit.split()[0]
        return f"{side} {self.bound:,.10g} {unit}"

    def verdict(self) -> str:
        """Say in a word whether it is met."""
        return "met" if self.met else "MISSED"

    def facts(self) -> dict[str, object]:
        """Name every fact, for a machine to read."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "at_most" if self.at_most else "at_least": self.bound,
            "met": self.met,
        }

    def line(self) -> str:
        """Say it to people."""
        return f"    {self.what}: {self.shown()} ({self.wanted()}: {self.verdict()})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How much was done a second.

    Attributes:
        name: What was done.
        unit: What is counted, in the plural.
        rate: The median rate per second.
        yardsticks: What it is held against.
        targets: What the figures are to be.
        notes: What people should know besides.
    """

    name: str
    unit: str
    rate: float
    yardsticks: tuple[Yardstick, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()

    def against(self, name: str) -> Yardstick:
        """Find a yardstick by its name."""
        return next(
            yardstick for yardstick in self.yardsticks if yardstick.name == name
        )

    def held_to(self, *targets: Target) -> Rate:
        """Add targets."""
        return replace(self, targets=(*self.targets, *targets))

    def summary(self) -> str:
        """Say the one figure that matters most."""
        return f"{self.rate:,.0f}/s"

    def figures(self) -> dict[str, float]:
        """Name every figure, for a machine to read."""
        return {
            f"{self.unit}/s": self.rate,
            **{f"{y.name}, {self.unit}/s": y.rate for y in self.yardsticks},
            **{f"ratio to {y.name}": y.ratio for y in self.yardsticks},
            **{
                f"{target.what}, {target.unit}": target.value for target in self.targets
            },
        }

    def lines(self) -> list[str]:
        """Say it to people: one line, and one for each yardstick."""
        return [
            f"{self.name}: {self.rate:,.0f} {self.unit}/s",
            *(
                f"    {y.ratio:.2f} x {y.name} ({y.rate:,.0f} {self.unit}/s)"
                for y in self.yardsticks
            ),
            *(target.line() for target in self.targets),
            *(f"    {note}" for note in self.notes),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found out where no single rate says it.

    Attributes:
        name: What was measured.
        numbers: The figures by name, beside those of the targets.
        notes: What people should know besides.
        targets: What the figures are to be; the first one is the row's summary.
    """

    name: str
    numbers: dict[str, float]
    notes: tuple[str, ...]
    targets: tuple[Target, ...]

    def summary(self) -> str:
        """Say the one figure that matters most."""
        return self.targets[0].shown()

    def figures(self) -> dict[str, float]:
        """Name every figure, for a machine to read."""
        found = {
            f"{target.what}, {target.unit}": target.value for target in self.targets
        }
        return {**found, **self.numbers}

    def lines(self) -> list[str]:
        """Say it to people."""
        return [
            f"{self.name}: {self.summary()}",
            *(f"    {note}" for note in self.notes),
            *(target.line() for target in self.targets),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long something took, over many times.

    Attributes:
        name: What was timed.
        count: How often.
        p50: The median, in seconds.
        p99: The 99th percentile, in seconds.
        rate: At which rate the work arrived, a second.
        sync_p50: The median of a raw write and `fdatasync` in the same run, in seconds.
        sync_p99: Its 99th percentile, in seconds.
        targets: What the figures are to be; none so far.
    """

    name: str
    count: int
    p50: float
    p99: float
    rate: float
    sync_p50: float
    sync_p99: float
    targets: tuple[Target, ...] = ()

    def summary(self) -> str:
        """Say the figures that matter most."""
        return f"p50 {self.p50 * 1e3:.1f} ms, p99 {self.p99 * 1e3:.1f} ms"

    def figures(self) -> dict[str, float]:
        """Name every figure, for a machine to read."""
        return {
            "p50 ms": self.p50 * 1e3,
            "p99 ms": self.p99 * 1e3,
            "samples": self.count,
            "arrivals/s": self.rate,
            "raw write + fdatasync p50 ms": self.sync_p50 * 1e3,
            "raw write + fdatasync p99 ms": self.sync_p99 * 1e3,
        }

    def lines(self) -> list[str]:
        """Say it to people: how long, how often, and how long a bare sync takes."""
        arrivals = f"{self.count:,} times, {self.rate:,.0f} sagas/s arriving"
        return [
            f"{self.name}: {_milliseconds(self.p50, self.p99)} ({arrivals})",
            f"    raw write + fdatasync: {_milliseconds(self.sync_p50, self.sync_p99)}",
        ]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that is measured in rounds.

    Attributes:
        name: What it is called among the yardsticks.
        work: Goes on for about the given seconds; answers how much it did a second.
    """

    name: str
    work: Callable[[float], float]


def alternate(
    name: str,
    unit: str,
    ours: Callable[[float], float],
    others: Sequence[Contender],
    *,
    seconds: float,
    rounds: int = ROUNDS,
) -> Rate:
    """Measure all contenders in short rounds, turn about; ours gets half of the time.

    Args:
        name: What is measured.
        unit: What is counted, in the plural.
        ours: Goes on for about the given seconds; answers how much it did a second.
        others: The yardsticks.
        seconds: How long all rounds together may take.
        rounds: How many there are; few, where the work takes time to get going.

    Returns:
        Medians over the rounds, of rates and of ratios within a round.
    """
    our_share = seconds / rounds / 2
    their_share = our_share / len(others)
    our_rates: list[float] = []
    their_rates: list[list[float]] = [[] for _ in others]
    for _ in range(rounds):
        for contender, rates in zip(others, their_rates, strict=True):
            rates.append(contender.work(their_share))
        our_rates.append(ours(our_share))
    return Rate(
        name=name,
        unit=unit,
        rate=median(our_rates),
        yardsticks=tuple(
            Yardstick(
                name=contender.name,
                rate=median(rates),
                ratio=median(a / b for a, b in zip(our_rates, rates, strict=True)),
            )
            for contender, rates in zip(others, their_rates, strict=True)
        ),
    )


def repeated(work: Callable[[], None], *, each: int = 1) -> Callable[[float], float]:
    """Make a contender's `work` of something that does `each` units a call."""

    def for_seconds(wanted: float) -> float:
        done = 0
        start = time.perf_counter()
        end = start + wanted
        while (now := time.perf_counter()) < end or not done:
            work()
            done += each
        return done / (now - start)

    return for_seconds


def percentile(times: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of sorted times; of none, not a number."""
    return times[len(times) * percent // 100] if times else math.nan


def _milliseconds(p50: float, p99: float) -> str:
    return f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"
