"""A coordinator is killed at each moment of a saga, and another one goes on with it.

The crash matrix over processes. For every append that is made for a saga, before it is
sent and after it is acknowledged, and for every outside effect, before and after it, a
process that owns the saga's shard is killed exactly there. A second process coordinates
on the same store all the while; nobody starts anything again. The hazards are a saga
that stays where its owner left it, an effect whose record died with its process and
which is made again, and a step that is compensated by halves.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import eventbraid as eb
from eventbraid.lease._events import PREFIX, LeaseAcquired
from eventbraid.saga.running._shard_mapping import lease_of, shard_of
from tests.failure.test_saga_kill import check

VICTIM = Path(__file__).with_name("takeover_victim.py")
# Each append and each outside effect is two moments. Completed: the start; book, pay,
# pack and ship; two effects. Undone: the start; book, pay and pack; the refusal; pack,
# pay and book compensated; two effects.
MOMENTS = {"mia": 2 * (5 + 2), "declined": 2 * (8 + 2)}
# What is promised is a look each 0.1 s; the rest is for a busy machine. Silence would
# count as death only after ten minutes. How busy it is, the victims tell: a life
# from start to end takes some twenty times as long as the usual takeover.
TAKEN_WITHIN = 60.0
USUALLY_TAKEN_WITHIN = 1.0
ENDED_WITHIN = 60.0
ENDS = {"saga.completed", "saga.compensated"}


@dataclass(frozen=True)
class Place:
    """One store, one ledger, and the environment of those who use them."""

    directory: Path
    repository: Path

    @property
    def store(self) -> Path:
        return self.directory / "store"

    def begin(self, *arguments: object) -> subprocess.Popen[str]:
        ledger = self.directory / "ledger"
        command = [sys.executable, VICTIM, self.store, ledger, *map(str, arguments)]
        return subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(self.repository)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self, name: str, saga_id: str) -> Counter[str]:
        """Return what the receiver recorded of a saga."""
        path = self.directory / name
        noted = path.read_text().splitlines() if path.exists() else []
        return Counter(line for line in noted if f" {saga_id}/" in line)


@contextmanager
def survivor(place: Place):
    """A process that coordinates from before the first death to after the last."""
    process = place.begin()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.poll() is None
        _, error = process.communicate("", timeout=120)
        assert process.returncode == 0, error
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Life:
    """One process that drove a saga.

    Attributes:
        pid: The process.
        saga_id: The saga, whose shard was its own.
        moments: Those that it came to.
        killed: Whether it died at the last of them.
        seconds: How long it lived.
    """

    pid: int
    saga_id: str
    moments: list[str]
    killed: bool
    seconds: float

    @property
    def shapes(self) -> list[str]:
        """The moments, without what differs from saga to saga."""
        return [moment.replace(self.saga_id, "saga") for moment in self.moments]


def live(place: Place, who: str, moment: int) -> Life:
    """Have a process drive a saga of its own, up to a moment."""
    began = time.monotonic()
    process = place.begin(who, moment)
    try:
        said, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode in {0, -signal.SIGKILL}, error
    saga_id, *moments = said.splitlines()
    killed, seconds = process.returncode != 0, time.monotonic() - began
    return Life(process.pid, saga_id, moments, killed, seconds)


def wait_until(condition, within: float) -> float:
    """Wait for something in the log; gives how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within
        time.sleep(0.002)
    return time.monotonic() - began


def owners(store, saga_id: str) -> list[int | None]:
    """Return the processes that had a saga's shard; None where it was released."""
    events = map(
        eb.decode_event, store.read_stream(PREFIX + lease_of(shard_of(saga_id)))
    )
    return [event.pid if isinstance(event, LeaseAcquired) else None for event in events]


def records(store, saga_id: str) -> list[str]:
    return [recorded.type for recorded in store.read_stream(saga_id)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("who", MOMENTS)
def test_another_process_goes_on_from_each_moment(repository, tmp_path, who):
    place = Place(tmp_path, repository)
    lives: list[Life] = []
    delays = []
    with survivor(place) as other, eb.open(place.store) as store:
        while not lives or lives[-1].killed:
            life = live(place, who, len(lives) + 1)
            lives.append(life)
            delays.append(check_takeover(store, life, other.pid))
            check_end(store, place, life, declined=who == "declined")
        *killed, whole = lives
        check_moments(store, place, killed, whole)
    assert len(killed) == MOMENTS[who]
    life_time = statistics.median(life.seconds for life in lives)
    assert statistics.median(delays) < max(USUALLY_TAKEN_WITHIN, life_time)


def check_takeover(store, life: Life, other: int) -> float:
    """The shard went from the process that died to the other, by itself and soon."""
    took = wait_until(lambda: owners(store, life.saga_id)[-1] == other, TAKEN_WITHIN)
    before = owners(store, life.saga_id)[-2]
    # Who is killed lets nothing go; who ends does.
    assert before == (life.pid if life.killed else None)
    return took


def check_end(store, place: Place, life: Life, *, declined: bool) -> None:
    saga_id = life.saga_id
    if life.killed and life.shapes == ["before started"]:
        # Nobody was told that it had begun, and it hadn't.
        assert records(store, saga_id) == []
        assert place.lines("ledger", saga_id) == Counter()
        return
    wait_until(lambda: ENDS & {*records(store, saga_id)}, ENDED_WITHIN)
    assert len([record for record in records(store, saga_id) if record in ENDS]) == 1
    ledger = place.lines("ledger", saga_id)
    assert set(ledger.values()) == {1}
    assert {*ledger} == effects(life, declined=declined)
    check(store, ledger, saga_id, declined=declined)
    # A call is made again if its answer isn't in the log, and under the same key.
    calls = place.lines("ledger.calls", saga_id)
    assert calls == {call: 1 + (call in unanswered(life)) for call in ledger}


def effects(life: Life, *, declined: bool) -> set[str]:
    """What is to have happened outside by the end of a saga."""
    pay, ship = f"{life.saga_id}/pay/1", f"{life.saga_id}/ship/1"
    if not declined:
        return {f"do {pay}", f"do {ship}"}
    asked = life.shapes.count("after step_succeeded and step_started") > 1
    refused = any(
        shape.startswith("after step_failed and compensation_started")
        for shape in life.shapes
    )
    # Who died over the refusal may have shipped for all that the other one knows.
    voided = {f"compensate {ship}"} if asked and not refused else set()
    return {f"do {pay}", f"compensate {pay}", *voided}


def unanswered(life: Life) -> set[str]:
    """The call whose answer was not recorded when the process died, if there is one."""
    under_way: set[str] = set()
    for moment in life.moments if life.killed else ():
        when, _, what = moment.partition(" ")
        if when == "before" and what.startswith(("do ", "compensate ")):
            under_way = {what}
        elif when == "after" and what not in under_way:
            under_way = set()
    return under_way


def check_moments(store, place: Place, killed: list[Life], whole: Life) -> None:
    """The victims died at all the moments that the whole saga has, one at each."""
    assert [life.shapes for life in killed] == [
        whole.shapes[: n + 1] for n in range(len(whole.shapes))
    ]
    befores = [m.removeprefix("before ") for m in whole.moments if m.startswith("b")]
    afters = [m.removeprefix("after ") for m in whole.moments if m.startswith("a")]
    assert befores == afters
    # No append for the saga and no effect went by unnoticed.
    outside = place.lines("ledger", whole.saga_id)
    appends = [what for what in befores if what not in outside]
    assert len(appends) + len(outside) == len(befores)
    noticed = [f"saga.{what}" for append in appends for what in append.split(" and ")]
    assert noticed == records(store, whole.saga_id)
