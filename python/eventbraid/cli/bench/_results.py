"""Results of measurements, each beside a baseline of the same run.

A measurement alternates short rounds of the store's work and of its baselines, so that
another program that slows the disk slows all of them, and returns medians.
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
class Baseline:
    """The result of something else on the same machine, in the same minute.

    Attributes:
        name: The name of the measurement.
        rate: Its median rate per second, in the unit of the measurement.
        ratio: The median of the store's rate divided by this rate, round by round.
    """

    name: str
    rate: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A measured value, and its bound.

    Attributes:
        what: The name of the value, such as ``"event-loop lag, p99"``.
        value: The value.
        unit: The unit of the value and of its bound.
        bound: The minimum of the value; with `at_most`, the maximum.
        at_most: Whether the bound is a maximum.
        digits: The number of decimal places to print.
    """

    what: str
    value: float
    unit: str
    bound: float
    at_most: bool = False
    digits: int = 2

    @property
    def met(self) -> bool:
        """Whether the value is within the bound."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def formatted(self) -> str:
        """Return the value with its unit."""
        return f"{self.value:,.{self.digits}f} {self.unit}"

    def formatted_bound(self) -> str:
        """Return the bound with the first word of its unit."""
        side = "at most" if self.at_most else "at least"
        unit = self.unit.split()[0]
        return f"{side} {self.bound:,.10g} {unit}"

    def status(self) -> str:
        """Return in a word whether it is met."""
        return "met" if self.met else "MISSED"

    def json(self) -> dict[str, object]:
        """Return all attributes by name, for programs."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "at_most" if self.at_most else "at_least": self.bound,
            "met": self.met,
        }

    def line(self) -> str:
        """Return the line to print."""
        comparison = f"{self.formatted_bound()}: {self.status()}"
        return f"    {self.what}: {self.formatted()} ({comparison})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate per second.

    Attributes:
        name: The name of the measurement.
        unit: What is counted, in the plural.
        rate: The median rate per second.
        baselines: The measurements that it is compared with.
        targets: The targets of the numbers.
        notes: Further lines to print.
    """

    name: str
    unit: str
    rate: float
    baselines: tuple[Baseline, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()

    def against(self, name: str) -> Baseline:
        """Return the baseline with a name."""
        return next(baseline for baseline in self.baselines if baseline.name == name)

    def with_targets(self, *targets: Target) -> Rate:
        """Return the rate with further targets."""
        return replace(self, targets=(*self.targets, *targets))

    def summary(self) -> str:
        """Return the most important number with its unit."""
        return f"{self.rate:,.0f}/s"

    def numbers(self) -> dict[str, float]:
        """Return every number by its name, for programs."""
        return {
            f"{self.unit}/s": self.rate,
            **{f"{b.name}, {self.unit}/s": b.rate for b in self.baselines},
            **{f"ratio to {b.name}": b.ratio for b in self.baselines},
            **{
                f"{target.what}, {target.unit}": target.value for target in self.targets
            },
        }

    def lines(self) -> list[str]:
        """Return the lines to print: one, and one for each baseline."""
        return [
            f"{self.name}: {self.rate:,.0f} {self.unit}/s",
            *(
                f"    {b.ratio:.2f} x {b.name} ({b.rate:,.0f} {self.unit}/s)"
                for b in self.baselines
            ),
            *(target.line() for target in self.targets),
            *(f"    {note}" for note in self.notes),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Several numbers, where no single rate is the result.

    Attributes:
        name: The name of the measurement.
        others: The numbers by name, beside those of the targets.
        notes: Further lines to print.
        targets: The targets; the first one is the row's summary.
    """

    name: str
    others: dict[str, float]
    notes: tuple[str, ...]
    targets: tuple[Target, ...]

    def summary(self) -> str:
        """Return the most important number with its unit."""
        return self.targets[0].formatted()

    def numbers(self) -> dict[str, float]:
        """Return every number by its name, for programs."""
        found = {
            f"{target.what}, {target.unit}": target.value for target in self.targets
        }
        return {**found, **self.others}

    def lines(self) -> list[str]:
        """Return the lines to print."""
        return [
            f"{self.name}: {self.summary()}",
            *(f"    {note}" for note in self.notes),
            *(target.line() for target in self.targets),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The duration of something, over many samples.

    Attributes:
        name: The name of the measurement.
        count: The number of samples.
        p50: The median, in seconds.
        p99: The 99th percentile, in seconds.
        rate: The rate per second at which the work arrived.
        sync_p50: The median of a raw write and `fdatasync` in the same run, in seconds.
        sync_p99: Its 99th percentile, in seconds.
        targets: The targets; none so far.
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
        """Return the most important numbers with their units."""
        return f"p50 {self.p50 * 1e3:.1f} ms, p99 {self.p99 * 1e3:.1f} ms"

    def numbers(self) -> dict[str, float]:
        """Return every number by its name, for programs."""
        return {
            "p50 ms": self.p50 * 1e3,
            "p99 ms": self.p99 * 1e3,
            "samples": self.count,
            "arrivals/s": self.rate,
            "raw write + fdatasync p50 ms": self.sync_p50 * 1e3,
            "raw write + fdatasync p99 ms": self.sync_p99 * 1e3,
        }

    def lines(self) -> list[str]:
        """Return the lines to print: durations, samples, and those of a raw sync."""
        arrivals = f"{self.count:,} times, {self.rate:,.0f} sagas/s arriving"
        return [
            f"{self.name}: {_milliseconds(self.p50, self.p99)} ({arrivals})",
            f"    raw write + fdatasync: {_milliseconds(self.sync_p50, self.sync_p99)}",
        ]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that is measured in rounds.

    Attributes:
        name: Its name among the baselines.
        work: Runs for about the given seconds, and returns its rate per second.
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
    """Measure in short alternating rounds; the store gets half of the time.

    Args:
        name: What is measured.
        unit: What is counted, in the plural.
        ours: The store's work: runs for about the given seconds, and returns its rate.
        others: The baselines.
        seconds: The maximum duration of all rounds together.
        rounds: The number of rounds; few if the work needs time to start.

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
        baselines=tuple(
            Baseline(
                name=contender.name,
                rate=median(rates),
                ratio=median(a / b for a, b in zip(our_rates, rates, strict=True)),
            )
            for contender, rates in zip(others, their_rates, strict=True)
        ),
    )


def repeated(work: Callable[[], None], *, each: int = 1) -> Callable[[float], float]:
    """Return a contender's `work` that repeats calls of `each` units."""

    def for_seconds(seconds: float) -> float:
        count = 0
        start = time.perf_counter()
        end = start + seconds
        while (now := time.perf_counter()) < end or not count:
            work()
            count += each
        return count / (now - start)

    return for_seconds


def percentile(times: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile of sorted times; NaN if there are none."""
    return times[len(times) * percent // 100] if times else math.nan


def _milliseconds(p50: float, p99: float) -> str:
    return f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"
