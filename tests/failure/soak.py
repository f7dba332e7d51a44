"""Processes share a store and are killed, stopped and ended at random; nothing may be lost.

    cargo build --release -p eventbraid-engine --example soak_member
    python -m tests.failure.soak --seconds 3600 [--processes 6] [--seed 7]
        [--rust target/release/examples/soak_member] [--directory DIR] [--forks]

Every process tells of each append and read (`tests/histories`). After each window of ten
seconds all are killed or asked to end; then the log is held against all that they were
told, by every check of histories, `verify()` reads every byte, and a new window begins on
the same store. The last line says what it came to; the exit code is 0 if nothing was lost,
torn or wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from tests.histories.checks import check
from tests.histories.crew import Crew, read_log
from tests.histories.log import Log
from tests.histories.program import Orders, opened
from tests.histories.shared import ENGINE

WINDOW = 10.0


@dataclass
class Tally:
    """What a soak came to."""

    kills: int = 0
    stops: int = 0
    acknowledged: int = 0
    found: Counter = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        return int(bool(self.found or self.failed))

    def summary(self) -> str:
        return (
            f"{self.kills} kills, {self.stops} stops, "
            f"{self.acknowledged:,} commits acknowledged, "
            f"lost = {self.found['lost']}, torn = {self.found['torn']}, "
            f"wrong reads = {self.found['wrong']}, "
            f"failed processes = {len(self.failed)}"
        )


@dataclass
class Soak:
    """One store, and the windows in which it is used."""

    orders: Orders
    processes: int
    chance: random.Random
    rust: Path | None = None
    tally: Tally = field(default_factory=Tally)
    log: Log | None = None
    windows: int = 0

    def run(self, seconds: float) -> Tally:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.tally.code:
            self._window(min(WINDOW, max(left, 1.0)))
        return self.tally

    def _window(self, seconds: float) -> None:
        self.windows += 1
        orders = self.orders
        crew = Crew(_renamed(orders, f"w{self.windows}-"))
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                while len(crew.members) < self.processes:
                    self._start(crew)
                time.sleep(self.chance.expovariate(8))
                self._strike(crew)
            self._rest(crew)
        finally:
            crew.dismiss()
        self._judge(crew)

    def _start(self, crew: Crew) -> None:
        every_third = crew.started % 3 == 2
        crew.start(self.rust if every_third else None)

    def _strike(self, crew: Crew) -> None:
        member = self.chance.choice(crew.members)
        [how] = self.chance.choices(["kill", "stop", "end"], [5, 4, 2])
        if how == "stop":
            self.tally.stops += 1
            member.stop()
            time.sleep(self.chance.uniform(0.0, 0.3))
            member.go_on()
            return
        if how == "kill":
            self.tally.kills += 1
            member.kill()
        else:
            member.end()
        crew.gather(member)

    def _rest(self, crew: Crew) -> None:
        for member in crew.members:
            if self.chance.random() < 0.4:
                self.tally.kills += 1
                member.kill()
            else:
                member.end()
        crew.gather_all()

    def _judge(self, crew: Crew) -> None:
        self.log = read_log(self.orders, self.log)
        findings = check(crew.history, self.log)
        self.tally.found.update(finding.kind for finding in findings)
        self.tally.failed.extend(crew.failed)
        self.tally.failed.extend(
            f"{who}: {what}" for who, what in crew.history.troubles
        )
        self.tally.acknowledged += sum(
            append.done is not None and not append.done.replayed
            for append in crew.history.appends
        )
        for problem in [*findings[:5], *self.tally.failed[:5]]:
            say(f"  {problem}")
        if self.orders.store == ENGINE:
            self._verify()
        say(f"window {self.windows}: head {self.log.head:,}; {self.tally.summary()}")

    def _verify(self) -> None:
        with opened(self.orders) as store:
            if store.verify().events != self.log.head:
                self.tally.failed.append("verify() counted other events than were read")


def _renamed(orders: Orders, name: str) -> Orders:
    return replace(orders, name=name, seed=orders.seed + hash_of(name))


def hash_of(name: str) -> int:
    """A number that every run draws from the same name."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 2**31


def say(text: str) -> None:
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
    parser.add_argument("--forks", action="store_true")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir=given.directory))
    say(f"seed {given.seed}, store {directory / 'store'}")
    orders = Orders(
        name="soak",
        store=given.store,
        path=str(directory / "store"),
        seed=given.seed,
        pause=0.002,
        forks=given.forks,
    )
    rust = None if given.rust is None else given.rust.resolve()
    soak = Soak(orders, given.processes, random.Random(given.seed), rust)
    tally = soak.run(given.seconds)
    say(tally.summary())
    return tally.code


if __name__ == "__main__":
    sys.exit(main())
