"""Processes share a store and are killed, stopped and ended at random; nothing may be lost.

    cargo build --release -p eventbraid-engine --example soak_member
    python -m tests.failure.soak --seconds 3600 [--processes 6] [--seed 7]
        [--rust target/release/examples/soak_member] [--directory DIR]

Every process tells of each append and read (`tests/histories`): some have threads, some an
event loop, and with `--rust` some are no Python. After each window of ten seconds all are
killed or asked to end; then the log is held against all that they were told, by every
check of histories, `verify()` reads every byte, and a new window begins on the same store.
A new store is begun every few minutes, the old one deleted. The last line says what it came
to; the exit code is 0 if nothing was lost, torn or wrong. If something was, the store is
kept, and beside it what the processes told.
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
from tests.histories.processes import PATIENCE, Crew, Member, read_log
from tests.histories.log import ENDLESS, Log
from tests.histories.program import Orders, opened
from tests.histories.stores import ENGINE, ON_LOOP

WINDOW = 10.0
WINDOWS_OF_A_STORE = 18

ENGINE_OPTIONS = {
    # Small files, so that the log goes on in a next one under every kind of accident.
    "segment_size": 64 << 10,
    "max_segment_size": 1 << 20,
    # Shorter than the longest stop, so that some are told that the store is busy.
    "lock_timeout": 0.5,
}
SHORT_STOP, LONG_STOP = 0.3, 1.5
STRIKES = 12
"""How often something befalls some process, in a second."""


@dataclass
class Tally:
    """What a soak came to."""

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
    """One store after the other, and the windows in which each is used.

    Attributes:
        orders: What each process does, and where the stores are.
        processes: How many there are at a time.
        chance: What befalls them is drawn from it.
        rust: The program of those that are no Python.
    """

    orders: Orders
    processes: int
    chance: random.Random
    rust: Path | None = None
    tally: Tally = field(default_factory=Tally)
    log: Log | None = None
    windows: int = 0
    held: list[tuple[float, Member]] = field(default_factory=list)

    def run(self, seconds: float) -> Tally:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.tally.code:
            if self.windows % WINDOWS_OF_A_STORE == 0:
                self._begin_a_store()
            self._window(min(WINDOW, max(left, 1.0)))
        return self.tally

    def _begin_a_store(self) -> None:
        old = Path(self.orders.path)
        if self.windows:
            shutil.rmtree(old)
        self.log = None
        new = old.with_name(f"store-{self.windows + 1}")
        self.orders = replace(self.orders, path=str(new))

    def _window(self, seconds: float) -> None:
        self.windows += 1
        orders = self.orders
        crew = Crew(_renamed(orders, f"w{self.windows}-"))
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                while len(crew.members) < self.processes:
                    self._start(crew)
                time.sleep(self.chance.expovariate(STRIKES))
                self._let_go(time.monotonic())
                self._strike(crew)
            self._let_go(ENDLESS)
            self._rest(crew)
        finally:
            crew.dismiss()
        self._judge(crew)

    def _start(self, crew: Crew) -> None:
        match crew.started % 3:
            case 1 if self.orders.store == ENGINE:
                crew.start(store=ON_LOOP, threads=5)
            case 2 if self.rust is not None:
                crew.start(self.rust, threads=self.chance.randint(1, 4))
            case _:
                # A child of theirs stays idle while they work on, or after they died.
                crew.start(forks=True)

    def _strike(self, crew: Crew) -> None:
        member = self.chance.choice(crew.members)
        [how] = self.chance.choices(["kill", "stop", "end"], [5, 4, 2])
        if how == "stop":
            self._hold(member)
            return
        if how == "kill":
            self.tally.kills += 1
            member.kill()
        else:
            member.end()
        self._gather(crew, member)

    def _gather(self, crew: Crew, member: Member) -> None:
        """Wait for the end of one, which may need what another holds."""
        patience = time.monotonic() + PATIENCE
        while member.is_alive and time.monotonic() < patience:
            self._let_go(time.monotonic())
            time.sleep(0.002)
        crew.gather(member)

    def _hold(self, member: Member) -> None:
        """Stop one for a while, in which others, and it, may be struck as well."""
        if member.stopped:
            return
        self.tally.stops += 1
        longest = LONG_STOP if self.chance.random() < 0.1 else SHORT_STOP
        until = time.monotonic() + self.chance.uniform(0.0, longest)
        member.stop()
        self.held.append((until, member))

    def _let_go(self, now: float) -> None:
        """Let those go on that were held long enough."""
        for held in list(self.held):
            until, member = held
            if until <= now:
                member.go_on()
                self.held.remove(held)

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
        self._count(crew)
        if self.orders.store == ENGINE:
            self._verify()
        for problem in [*findings[:5], *self.tally.failed[:5]]:
            say(f"  {problem}")
        if self.tally.code:
            crew.keep(Path(self.orders.path).with_name("told"))
        say(f"window {self.windows}: head {self.log.head:,}; {self.tally.summary()}")

    def _count(self, crew: Crew) -> None:
        history, tally = crew.history, self.tally
        for who, what in history.troubles:
            if "is in use by" in what.text:
                tally.busy += 1
            else:
                tally.failed.append(f"{who}: {what}")
        tally.acknowledged += sum(
            append.done is not None and not append.done.replayed
            for append in history.appends
        )
        tally.delivered += sum(len(one.delivered) for one in history.followed)

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
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir=given.directory))
    say(f"seed {given.seed}, directory {directory}")
    orders = Orders(
        name="soak",
        store=given.store,
        path=str(directory / "store"),
        seed=given.seed,
        pause=0.005,
        options=ENGINE_OPTIONS if given.store == ENGINE else {},
    )
    rust = None if given.rust is None else given.rust.resolve()
    soak = Soak(orders, given.processes, random.Random(given.seed), rust)
    tally = soak.run(given.seconds)
    say(f"{soak.windows:,} windows, {tally.summary()}")
    return tally.code


if __name__ == "__main__":
    sys.exit(main())
