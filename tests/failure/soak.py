"""Kill, stop and end processes that share a store at random, and check that nothing is lost.

    cargo build --release -p eventbraid-engine --example soak_member
    python -m tests.failure.soak --seconds 3600 [--processes 6] [--seed 7]
        [--rust target/release/examples/soak_member] [--directory DIR]

Every process writes a line for each append and read (`tests/histories`). Some have
threads, some an event loop, and with `--rust` some are written in Rust. After each window
of ten seconds all are killed or ended. Then every check of histories compares the log
with their results, `verify()` reads every byte, and a new window begins on the same store.
A new store is created every few minutes, and the old one deleted. The last line has the
counts; the exit code is 0 if nothing was lost, torn or wrong. Otherwise the store is kept,
and next to it the lines of the processes.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from tests.histories.checks import check
from tests.histories.log import UNBOUNDED, Log
from tests.histories.processes import TIMEOUT, ProcessGroup, StoreProcess, read_log
from tests.histories.program import Workload, opened
from tests.histories.stores import ENGINE, ON_LOOP

WINDOW = 10.0
WINDOWS_OF_A_STORE = 18

ENGINE_OPTIONS = {
    # Small files, so that the log rolls over during every kind of disturbance.
    "segment_size": 64 << 10,
    "max_segment_size": 1 << 20,
    # Shorter than the longest stop, so that some calls raise StoreBusy.
    "lock_timeout": 0.5,
}
SHORT_STOP, LONG_STOP = 0.3, 1.5
DISTURBANCES = 12
"""The number of kills, stops and ends in a second."""


@dataclass
class Tally:
    """The counts of a soak test."""

    kills: int = 0
    stops: int = 0
    acknowledged: int = 0
    delivered: int = 0
    busy: int = 0
    found: Counter = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        return int(bool(self.found or self.failed))

    def summary(self) -> str:
        return (
            f"{self.kills:,} kills, {self.stops:,} stops, "
            f"{self.acknowledged:,} commits acknowledged, "
            f"{self.delivered:,} events delivered, {self.busy:,} times busy, "
            f"lost = {self.found['lost']}, torn = {self.found['torn']}, "
            f"wrong = {self.found['wrong']}, failed = {len(self.failed)}"
        )


@dataclass
class Soak:
    """A sequence of stores, and the windows in which each is used.

    Attributes:
        workload: The workload of each process, and the path of the stores.
        processes: The number of processes at a time.
        rng: The source of the disturbances.
        rust: The program of the processes that are written in Rust.
    """

    workload: Workload
    processes: int
    rng: random.Random
    rust: Path | None = None
    tally: Tally = field(default_factory=Tally)
    log: Log | None = None
    windows: int = 0
    stopped: list[tuple[float, StoreProcess]] = field(default_factory=list)

    def run(self, seconds: float) -> Tally:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.tally.code:
            if self.windows % WINDOWS_OF_A_STORE == 0:
                self._begin_a_store()
            self._window(min(WINDOW, max(left, 1.0)))
        return self.tally

    def _begin_a_store(self) -> None:
        old = Path(self.workload.path)
        if self.windows:
            shutil.rmtree(old)
        self.log = None
        new = old.with_name(f"store-{self.windows + 1}")
        self.workload = replace(self.workload, path=str(new))

    def _window(self, seconds: float) -> None:
        self.windows += 1
        workload = self.workload
        group = ProcessGroup(_renamed(workload, f"w{self.windows}-"))
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                while len(group.processes) < self.processes:
                    self._start(group)
                time.sleep(self.rng.expovariate(DISTURBANCES))
                self._resume_due(time.monotonic())
                self._disturb(group)
            self._resume_due(UNBOUNDED)
            self._end_all(group)
        finally:
            group.kill_all()
        self._check(group)

    def _start(self, group: ProcessGroup) -> None:
        match group.started % 3:
            case 1 if self.workload.store == ENGINE:
                group.start(store=ON_LOOP, threads=5)
            case 2 if self.rust is not None:
                group.start(self.rust, threads=self.rng.randint(1, 4))
            case _:
                # Their forked children stay idle while they run, or after they died.
                group.start(forks=True)

    def _disturb(self, group: ProcessGroup) -> None:
        process = self.rng.choice(group.processes)
        [how] = self.rng.choices(["kill", "stop", "end"], [5, 4, 2])
        if how == "stop":
            self._stop(process)
            return
        if how == "kill":
            self.tally.kills += 1
            process.kill()
        else:
            process.request_end()
        self._collect(group, process)

    def _collect(self, group: ProcessGroup, process: StoreProcess) -> None:
        """Wait for the end of a process, which may wait for a lock of a stopped one."""
        deadline = time.monotonic() + TIMEOUT
        while process.is_alive and time.monotonic() < deadline:
            self._resume_due(time.monotonic())
            time.sleep(0.002)
        group.collect(process)

    def _stop(self, process: StoreProcess) -> None:
        """Stop a process for a while, during which it and others may be disturbed."""
        if process.stopped:
            return
        self.tally.stops += 1
        longest = LONG_STOP if self.rng.random() < 0.1 else SHORT_STOP
        until = time.monotonic() + self.rng.uniform(0.0, longest)
        process.stop()
        self.stopped.append((until, process))

    def _resume_due(self, now: float) -> None:
        """Resume the processes whose stop is over."""
        for entry in list(self.stopped):
            until, process = entry
            if until <= now:
                process.resume()
                self.stopped.remove(entry)

    def _end_all(self, group: ProcessGroup) -> None:
        for process in group.processes:
            if self.rng.random() < 0.4:
                self.tally.kills += 1
                process.kill()
            else:
                process.request_end()
        group.collect_all()

    def _check(self, group: ProcessGroup) -> None:
        self.log = read_log(self.workload, self.log)
        findings = check(group.history, self.log)
        self.tally.found.update(finding.kind for finding in findings)
        self.tally.failed.extend(group.failed)
        self._count(group)
        if self.workload.store == ENGINE:
            self._verify()
        for problem in [*findings[:5], *self.tally.failed[:5]]:
            print_line(f"  {problem}")
        if self.tally.code:
            group.save_lines(Path(self.workload.path).with_name("lines"))
        print_line(
            f"window {self.windows}: head {self.log.head:,}; {self.tally.summary()}"
        )

    def _count(self, group: ProcessGroup) -> None:
        history, tally = group.history, self.tally
        for name, failure in history.failures:
            if "is in use by" in failure.text:
                tally.busy += 1
            else:
                tally.failed.append(f"{name}: {failure}")
        tally.acknowledged += sum(
            append.done is not None and not append.done.replayed
            for append in history.appends
        )
        tally.delivered += sum(len(one.delivered) for one in history.subscriptions)

    def _verify(self) -> None:
        with opened(self.workload) as store:
            if store.verify().events != self.log.head:
                self.tally.failed.append("verify() counted other events than were read")


def _renamed(workload: Workload, name: str) -> Workload:
    return replace(workload, name=name, seed=workload.seed + hash_of(name))


def hash_of(name: str) -> int:
    """Return a number that is the same for a name in every run."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 2**31


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(31)
    )
    parser.add_argument("--rust", type=Path)
    parser.add_argument("--store", default=ENGINE)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir=arguments.directory))
    print_line(f"seed {arguments.seed}, directory {directory}")
    workload = Workload(
        name="soak",
        store=arguments.store,
        path=str(directory / "store"),
        seed=arguments.seed,
        pause=0.005,
        options=ENGINE_OPTIONS if arguments.store == ENGINE else {},
    )
    rust = None if arguments.rust is None else arguments.rust.resolve()
    soak = Soak(workload, arguments.processes, random.Random(arguments.seed), rust)
    tally = soak.run(arguments.seconds)
    print_line(f"{soak.windows:,} windows, {tally.summary()}")
    return tally.code


if __name__ == "__main__":
    sys.exit(main())
