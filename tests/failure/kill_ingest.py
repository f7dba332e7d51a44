"""Kill a bulk load at random moments, and search for lost or torn commits.

    python tests/failure/kill_ingest.py --kills 200 [--commit-size 1,10,1000]
        [--seed 7] [--limit 69659] [--directory DIR]

Each round starts `python -m eventbraid.examples.ingest_orders` on the same store, with
the number of each acknowledged commit written into a pipe at once, and sends SIGKILL at
a moment drawn from the seed: while it starts, while it loads (most of them), while it
reads back, while it closes. Then the store is opened and read completely:

* every commit whose number came through the pipe is in the log;
* every commit is in the log completely, with adjacent events in order, or not at all;
* its idempotency key is known if and only if it is in the log, with its positions;
* positions are dense, and so are the versions of each stream;
* `verify()` finds every byte as it was written.

Once everything is acknowledged a last run must end by itself with exit code 0, and the
next round begins with a new store and the next commit size.

SIGKILL says nothing about power loss: the page cache survives it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import eventbraid as eb
from eventbraid.examples.order_fulfilment.purchases import ROWS, purchases

SECONDS_TO_GIVE_UP = 300.0
PHASES = {"start-up": 8, "creation": 8, "load": 68, "read back": 11, "close": 5}
SECONDS_OF_CREATION = 0.02


@dataclass
class Load:
    """A store that is loaded by several runs."""

    store: Path
    commit_size: int
    limit: int
    acknowledged: set[int] = field(default_factory=set)

    @property
    def commits(self) -> int:
        return -(-self.limit // self.commit_size)

    @property
    def is_loaded(self) -> bool:
        return len(self.acknowledged) == self.commits

    def numbers_of(self, commit: int) -> range:
        """Return the numbers of the purchases in a commit."""
        first = (commit - 1) * self.commit_size + 1
        return range(first, min(first + self.commit_size, self.limit + 1))

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "eventbraid.examples.ingest_orders"),
                *(str(self.store), "--commit-size", str(self.commit_size)),
                *("--limit", str(self.limit), "--acks", "-"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@dataclass
class Pace:
    """The durations of the parts of the last complete run."""

    start_up: float = 0.4
    read_back: float = 0.5


@dataclass(frozen=True)
class Moment:
    """When to kill: after a number of acknowledgements and of seconds."""

    acknowledgements: int
    seconds: float
    after_creation: bool = False


@dataclass(frozen=True)
class Run:
    """The result of a run that ended or was killed."""

    code: int
    acknowledged: set[int]
    seconds: float
    errors: str

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass
class Found:
    """The content of a store and the violations in it."""

    commits: int
    events: int
    lost: list[str]
    torn: list[str]
    wrong: list[str]


@dataclass
class Tally:
    """The counts of all rounds."""

    kills: int = 0
    stores: int = 0
    acknowledged: int = 0
    lost: int = 0
    torn: int = 0
    wrong: int = 0
    failed_runs: int = 0
    hits: Counter = field(default_factory=Counter)

    @property
    def code(self) -> int:
        return int(bool(self.lost or self.torn or self.wrong or self.failed_runs))


def kill_and_check(
    directory: Path,
    *,
    kills: int,
    commit_sizes: list[int],
    limit: int = ROWS,
    seed: int,
) -> Tally:
    """Kill loads repeatedly, and check the store after each kill."""
    rng = random.Random(seed)
    tally, pace = Tally(), Pace()
    sizes = itertools.cycle(commit_sizes)
    while tally.kills < kills and tally.code == 0:
        load = Load(directory / f"store-{tally.stores}", next(sizes), limit)
        tally.stores += 1
        while tally.kills < kills and not load.is_loaded and tally.code == 0:
            _kill_once(load, pace, rng, tally, kills)
        _finish(load, pace, tally)
        tally.acknowledged += len(load.acknowledged)
        if tally.code == 0:
            shutil.rmtree(load.store)
    return tally


def _kill_once(
    load: Load, pace: Pace, rng: random.Random, tally: Tally, kills: int
) -> None:
    before = len(load.acknowledged)
    run = _run(load, pace, _draw(load, pace, rng))
    load.acknowledged |= run.acknowledged
    if not run.was_killed:
        # It ended before the signal, or it failed by itself.
        _check_exit_code(run, tally)
        return
    tally.kills += 1
    phase = _phase(run, load)
    tally.hits[phase] += 1
    found = check(load)
    _count(found, tally)
    print_line(
        f"kill {tally.kills} of {kills}: commits of {load.commit_size}, {phase}, "
        f"{run.seconds:.2f} s; acknowledged {len(load.acknowledged):,} "
        f"({len(load.acknowledged) - before:,} new), in the log {found.commits:,}; "
        f"lost {len(found.lost)}, torn {len(found.torn)}, wrong {len(found.wrong)}"
    )


def _finish(load: Load, pace: Pace, tally: Tally) -> None:
    """Let the last run end by itself, and check once more."""
    if tally.code:
        return
    run = _run(load, pace, None)
    load.acknowledged |= run.acknowledged
    _check_exit_code(run, tally)
    if not load.is_loaded:
        tally.failed_runs += 1
        print_line(
            f"only {len(load.acknowledged)} of {load.commits} commits acknowledged"
        )
    found = check(load)
    _count(found, tally)
    print_line(
        f"loaded: {found.commits:,} commits of {load.commit_size}, "
        f"{found.events:,} events, read back and verified; exit code {run.code}"
    )


def _check_exit_code(run: Run, tally: Tally) -> None:
    if run.code != 0:
        tally.failed_runs += 1
        print_line(f"a load ended by itself with exit code {run.code}:\n{run.errors}")


def _count(found: Found, tally: Tally) -> None:
    tally.lost += len(found.lost)
    tally.torn += len(found.torn)
    tally.wrong += len(found.wrong)
    for finding in [*found.lost[:5], *found.torn[:5], *found.wrong[:5]]:
        print_line(f"  {finding}")


def _draw(load: Load, pace: Pace, rng: random.Random) -> Moment:
    """Select the moment to kill."""
    (phase,) = rng.choices(list(PHASES), list(PHASES.values()))
    if phase == "start-up":
        return Moment(0, rng.uniform(0.0, pace.start_up))
    if phase == "creation":
        seconds = rng.uniform(0.0, SECONDS_OF_CREATION)
        return Moment(0, seconds, after_creation=True)
    if phase == "load":
        # Not far beyond the acknowledged commits, so that a load is killed repeatedly.
        known = len(load.acknowledged)
        maximum = min(load.commits - 1, known + load.commits // 5 + 1)
        return Moment(rng.randint(known, maximum), rng.expovariate(500))
    minimum = 0.0 if phase == "read back" else 0.85
    return Moment(load.commits, rng.uniform(minimum, 1.0) * pace.read_back)


def _phase(run: Run, load: Load) -> str:
    if not run.acknowledged:
        return "start-up" if load.acknowledged else "start-up or creation"
    return "load" if len(run.acknowledged) < load.commits else "read back or close"


def _run(load: Load, pace: Pace, moment: Moment | None) -> Run:
    """Run a load; kill it at a moment, or let it end."""
    began = time.monotonic()
    with load.start() as process:
        pipe = _Acknowledgements(process.stdout.fileno())
        try:
            if moment is not None:
                if moment.after_creation:
                    _wait_for_creation(load, process)
                pipe.read(
                    until=began + SECONDS_TO_GIVE_UP, count=moment.acknowledgements
                )
                pipe.read(until=time.monotonic() + moment.seconds)
                process.kill()
            pipe.read(until=began + SECONDS_TO_GIVE_UP)
        finally:
            process.kill()
        errors = process.stderr.read().decode(errors="replace")
        code = process.wait()
    if moment is None:
        pace.start_up = pipe.first - began
        pace.read_back = pipe.ended - pipe.last
    return Run(code, pipe.numbers, time.monotonic() - began, errors)


def _wait_for_creation(load: Load, process: subprocess.Popen) -> None:
    while not load.store.exists() and process.poll() is None:
        time.sleep(0.0002)


class _Acknowledgements:
    """The numbers that came through the pipe, without a truncated line."""

    def __init__(self, descriptor: int) -> None:
        self.numbers: set[int] = set()
        self.first = self.last = self.ended = 0.0
        self._descriptor = descriptor
        self._rest = b""

    def read(self, *, until: float, count: int | None = None) -> None:
        """Read until a time, the end of the pipe, or a count of numbers."""
        while not self.ended and (count is None or len(self.numbers) < count):
            left = until - time.monotonic()
            if left <= 0:
                return
            if select.select([self._descriptor], [], [], left)[0]:
                self._add(os.read(self._descriptor, 1 << 16))

    def _add(self, part: bytes) -> None:
        now = time.monotonic()
        if not part:
            self.ended = now
            return
        *lines, self._rest = (self._rest + part).split(b"\n")
        self.numbers.update(int(line) for line in lines)
        if self.numbers:
            self.first = self.first or now
            self.last = now


def check(load: Load) -> Found:
    """Open the store, and compare it with the acknowledged commits and the input."""
    if not load.store.exists() or not any(load.store.iterdir()):
        lost = [f"the store is missing with {n}" for n in load.acknowledged]
        return Found(0, 0, lost, [], [])
    with eb.open(load.store) as store:
        events = list(store.read_all())
        torn, spans = _spans(load, events)
        wrong = [*_gaps(events), *_unknown_events(events), *_keys(store, load, spans)]
        if store.verify().events != len(events):
            wrong.append("verify() counted other events than were read")
    lost = [
        f"commit {number} was acknowledged and is not in the log"
        for number in sorted(load.acknowledged - spans.keys())
    ]
    return Found(len(spans), len(events), lost, torn, wrong)


def _spans(
    load: Load, events: list[eb.RecordedEvent]
) -> tuple[list[str], dict[int, tuple[int, int]]]:
    """Return the positions of each commit, and the torn commits."""
    torn: list[str] = []
    spans: dict[int, tuple[int, int]] = {}
    numbered = [(json.loads(event.data)["number"], event.position) for event in events]
    for commit, group in itertools.groupby(
        numbered, lambda pair: (pair[0] - 1) // load.commit_size + 1
    ):
        members = list(group)
        if [number for number, _ in members] != list(load.numbers_of(commit)):
            torn.append(f"commit {commit} holds {[n for n, _ in members][:5]}...")
        if commit in spans:
            torn.append(f"commit {commit} stands at {spans[commit]} and elsewhere")
        spans[commit] = (members[0][1], members[-1][1])
    return torn, spans


def _gaps(events: list[eb.RecordedEvent]) -> list[str]:
    wrong = [
        f"position {event.position} stands at place {place}"
        for place, event in enumerate(events, start=1)
        if event.position != place
    ]
    versions: Counter = Counter()
    for event in events:
        versions[event.stream] += 1
        if event.version != versions[event.stream]:
            wrong.append(f"{event.stream} has a gap before version {event.version}")
    return wrong


def _unknown_events(events: list[eb.RecordedEvent]) -> list[str]:
    """Events that are not what the purchase of their number says."""
    wrong = []
    for event in events:
        body = json.loads(event.data)
        real = purchases()[body["number"] - 1]
        stream, paid = f"customer-{real.customer:05d}", real.cents
        if (event.stream, body["paid"]) != (stream, paid):
            wrong.append(f"purchase {real.number} stands in {event.stream}: {body}")
    return wrong


def _keys(
    store: eb.EventStore, load: Load, spans: dict[int, tuple[int, int]]
) -> list[str]:
    wrong = []
    for number in range(1, load.commits + 1):
        done = store.committed(f"purchases/{number}")
        known = None if done is None else (done.first_position, done.last_position)
        if known != spans.get(number):
            wrong.append(f"key {number} stands for {known}, log: {spans.get(number)}")
    return wrong


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--commit-size", default="1,10,1000", help="one, or several, taken in turn"
    )
    parser.add_argument("--limit", type=int, default=ROWS)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(32)
    )
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kill-ingest-", dir=arguments.directory))
    print_line(f"seed {arguments.seed}, directory {directory}")
    tally = kill_and_check(
        directory,
        kills=arguments.kills,
        commit_sizes=[int(size) for size in arguments.commit_size.split(",")],
        limit=arguments.limit,
        seed=arguments.seed,
    )
    hits = ", ".join(f"{count} during {phase}" for phase, count in tally.hits.items())
    print_line(
        f"{tally.kills} kills ({hits}), {tally.stores} stores; "
        f"{tally.acknowledged:,} commits acknowledged, "
        f"lost {tally.lost}, torn {tally.torn}, wrong {tally.wrong}; "
        f"exit code {tally.code}"
    )
    if tally.code == 0:
        directory.rmdir()
    return tally.code


if __name__ == "__main__":
    sys.exit(main())
