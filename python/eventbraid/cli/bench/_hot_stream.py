"""Measurements of many commands on one stream that is long already."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import msgspec

import eventbraid as eb
from eventbraid.cli.bench import _hot_process
from eventbraid.cli.bench._accounts import (
    Amount,
    Deposit,
    account_id,
    bytes_of_commit,
    deposits,
)
from eventbraid.cli.bench._baseline import RawDisk, workplace
from eventbraid.cli.bench._commands import task_rounds, times_raw
from eventbraid.cli.bench._results import (
    RAW,
    Contender,
    Rate,
    Target,
    alternate,
    repeated,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

TASKS = 64
PROCESSES = 3
EVENTS = 100_000

_HOT = account_id(0)
_SPAN = 1_000
_ROUNDS = 2
_EVENTS_PER_SECOND = 50_000
_MOST_ATTEMPTS = 10


class ProcessReport(msgspec.Struct, frozen=True):
    """The report of a process that executed commands.

    Attributes:
        counts: The number of commands of each of its tasks.
        attempts: The maximum number of attempts of a command.
    """

    counts: list[int]
    attempts: int


def measure_hot_stream(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure 64 tasks whose commands are all on one stream of 100,000 events.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included. The writing
            of the events is not counted; there are fewer if there is little time.

    Returns:
        Commands per second, beside raw `pwrite` + `fdatasync` of the bytes of one; the
        fairness among the tasks; and the duration of the last 1,000 commands, compared
        with that of the first: within a round, because the disk's own speed changes,
        and in processor time over all rounds.
    """
    command = Deposit(account=_HOT, amount=Amount(1))
    commands = [lambda: command] * TASKS
    counts: list[list[int]] = []
    spans: list[tuple[float, float]] = []
    work: list[tuple[float, float]] = []
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        length = _fill(place / "hot.braid", seconds)
        rounds = stack.enter_context(task_rounds(place / "hot.braid"))
        raw = stack.enter_context(RawDisk(place, [_block()]))
        # It reads the stream, which is measured by a row of its own.
        rounds.run(commands[:1], 0)

        def execute(seconds: float) -> float:
            start, begun_at = time.perf_counter(), time.thread_time()
            rounds.processor_times.clear()
            times = rounds.run(commands, seconds)
            counts.append([*map(len, times)])
            ordered = sorted(moment for one in times for moment in one)
            spans.append(_first_and_last(start, ordered))
            work.append(_first_and_last(begun_at, rounds.processor_times))
            return len(ordered) / (ordered[-1] - start)

        rate = alternate(
            f"{TASKS} tasks on one stream of {length:,} events",
            "commands",
            execute,
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
        )
    raw_ratio = rate.against(RAW).ratio
    most, least = _most_and_least(counts)
    average = sum(rounds.attempts) / len(rounds.attempts)
    note = (
        f"at most {max(rounds.attempts)} attempts for a command, "
        f"{average:.2f} on average"
    )
    return replace(
        rate.with_targets(
            Target(what="commands", value=raw_ratio, unit=f"x {RAW}", bound=0.65),
            _fairness(most, least, "a task"),
            Target(
                what=f"last {_SPAN:,} / first of a round",
                value=median(last / first for first, last in spans),
                unit="x",
                bound=1.25,
                at_most=True,
            ),
            Target(
                what=f"last {_SPAN:,} / first of all, time of the processor",
                value=work[-1][1] / work[0][0],
                unit="x",
                bound=1.25,
                at_most=True,
            ),
        ),
        notes=(note,),
    )


def measure_hot_processes(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure three processes whose commands are all on one stream.

    64 tasks in all, each on the same stream of 100,000 events.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Commands per second of all processes, beside raw `pwrite` + `fdatasync`; the
        fairness among the processes; and the maximum number of attempts.
    """
    reports: list[list[ProcessReport]] = []
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        length = _fill(place / "hot.braid", seconds)
        raw = stack.enter_context(RawDisk(place, [_block()]))

        def execute(seconds: float) -> float:
            found = _run_processes(place / "hot.braid", seconds)
            reports.append(found)
            return sum(sum(report.counts) for report in found) / seconds

        rate = alternate(
            f"{PROCESSES} processes on one stream of {length:,} events",
            "commands",
            execute,
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
            # Each round starts the processes anew.
            rounds=_ROUNDS if seconds >= _ROUNDS else 1,
        )
    most, least = _most_and_least(
        [[sum(report.counts) for report in found] for found in reports]
    )
    task_most, task_least = _most_and_least(
        [[count for report in found for count in report.counts] for found in reports]
    )
    attempts = max(report.attempts for found in reports for report in found)
    return replace(
        rate.with_targets(
            times_raw(rate, 2_000),
            _fairness(most, least, "a process"),
            Target(
                what="attempts of a command",
                value=attempts,
                unit="attempts",
                bound=_MOST_ATTEMPTS,
                at_most=True,
                digits=0,
            ),
        ),
        notes=(f"commands of a task: {task_least:,} to {task_most:,} in a round",),
    )


def _fill(path: Path, seconds: float) -> int:
    """Write the stream; return its length, which is less if there is little time."""
    length = min(EVENTS, int(seconds * _EVENTS_PER_SECOND)) // _SPAN * _SPAN
    length = max(length, _SPAN)
    with eb.open(path) as store:
        for begin in range(0, length, 10 * _SPAN):
            store.append(deposits(_HOT, min(10 * _SPAN, length - begin)))
    return length


def _block() -> bytes:
    return bytes_of_commit(*deposits(_HOT, 1))


def _first_and_last(start: float, ordered: Sequence[float]) -> tuple[float, float]:
    """Return the seconds that the first and the last commands of a round took, each."""
    span = min(_SPAN, len(ordered) - 1)
    last = ordered[-1] - ordered[-1 - span]
    return (ordered[span - 1] - start) / span, last / span


def _most_and_least(counts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Return the numbers of the round in which they differ most."""
    worst = max(counts, key=lambda one: max(one) / max(min(one), 0.5))
    return max(worst), min(worst)


def _fairness(most: int, least: int, what: str) -> Target:
    return Target(
        what=f"most / fewest of {what}",
        value=most / max(least, 0.5),
        unit="x",
        bound=3.0,
        at_most=True,
    )


def _run_processes(path: Path, seconds: float) -> list[ProcessReport]:
    """Run the processes at the same time, and return their reports."""
    shares = [len(range(n, TASKS, PROCESSES)) for n in range(PROCESSES)]
    running = [
        subprocess.Popen(  # noqa: S603 - ours
            [
                sys.executable,
                *("-P", _hot_process.__file__),
                *(str(path), _HOT, str(share), str(seconds)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for share in shares
    ]
    try:
        for process in running:
            # Each of them has opened the store before any begins.
            _pipe(process.stdout).readline()
        for process in running:
            _pipe(process.stdin).write(b"\n")
            _pipe(process.stdin).flush()
        return [_report_of(process) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _report_of(process: subprocess.Popen[bytes]) -> ProcessReport:
    report = _pipe(process.stdout).readline()
    if not report or process.wait() != 0:
        message = f"a process of the measurement failed: {process.args!r}"
        raise RuntimeError(message)
    return msgspec.json.decode(report, type=ProcessReport)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        message = "the process has no pipe"
        raise RuntimeError(message)
    return stream
