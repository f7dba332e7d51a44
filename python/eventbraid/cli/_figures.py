"""Figures of durable work, each beside a yardstick taken in the same run.

A measurement alternates short rounds of our work and of its yardsticks, so that a
neighbour who slows the disk slows all of them, and answers medians.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 5


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
class Rate:
    """How much was done a second.

    Attributes:
        name: What was done.
        unit: What is counted, in the plural.
        rate: The median rate per second.
        yardsticks: What it is held against.
    """

    name: str
    unit: str
    rate: float
    yardsticks: tuple[Yardstick, ...]

    def figures(self) -> dict[str, float]:
        """Name every figure, for a machine to read."""
        return {
            f"{self.unit}/s": self.rate,
            **{f"{y.name}, {self.unit}/s": y.rate for y in self.yardsticks},
            **{f"ratio to {y.name}": y.ratio for y in self.yardsticks},
        }

    def lines(self) -> list[str]:
        """Say it to people: one line, and one for each yardstick."""
        return [
            f"{self.name}: {self.rate:,.0f} {self.unit}/s",
            *(
                f"    {y.ratio:.2f} x {y.name} ({y.rate:,.0f} {self.unit}/s)"
                for y in self.yardsticks
            ),
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
    """

    name: str
    count: int
    p50: float
    p99: float
    rate: float
    sync_p50: float
    sync_p99: float

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


def _milliseconds(p50: float, p99: float) -> str:
    return f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"
