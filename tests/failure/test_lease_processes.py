"""A lease passes from process to process: on death, on silence, and of the owner's will.

The hazards: a lease that stays with a dead process, a stopped process that is waited for
without end, and one that goes on after it was replaced and writes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import eventbraid as eb
from tests.peers import stop_between_writes

VICTIM = Path(__file__).parent / "lease_victim.py"
LONG = timedelta(minutes=15)
# The documentation promises a check every 50 ms; the rest is for a busy machine. A lease
# that is not free at once would be free only after LONG.
SOON = 60.0


class Owner:
    """Another process, which has the lease or waits for it."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(VICTIM), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, what: int) -> None:
        os.kill(self.process.pid, what)


@contextmanager
def owner_of(path: Path):
    owner = Owner(path)
    try:
        yield owner
    finally:
        owner.process.kill()
        owner.process.communicate()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.braid"


def test_a_killed_owner_is_replaced_at_once(path):
    with owner_of(path) as owner, eb.open(path) as store:
        assert owner.said() == "taken 1"
        with pytest.raises(eb.LeaseHeld, match=str(owner.process.pid)):
            eb.Lease(store, "importer", stale_after=LONG).__enter__()
        owner.send(signal.SIGKILL)
        began = time.monotonic()
        with eb.Lease(store, "importer", stale_after=LONG, wait=LONG) as lease:
            assert time.monotonic() - began < SOON
            assert lease.token == 2


def test_a_stopped_owner_is_replaced_after_the_stated_time_and_writes_nothing(path):
    stale_after = timedelta(seconds=1.5)
    with owner_of(path) as owner, eb.open(path) as store:
        assert owner.said() == "taken 1"
        owner.ask("early")
        assert owner.said() == "done"
        stop_between_writes(owner.process.pid, path)
        began = time.monotonic()
        [age] = store.coordination.heartbeat_ages().values()
        with eb.Lease(store, "importer", stale_after=stale_after, wait=LONG) as lease:
            waited = time.monotonic() - began
            limit = stale_after.total_seconds()
            assert limit - age <= waited < limit + SOON
            lease.append([("work-1", "mine", b"")])
            owner.ask("late")
            owner.send(signal.SIGCONT)
            assert owner.said() == "lost"
            assert owner.said() == "refused"
            lease.append([("work-1", "mine", b"")])
        types = [recorded.type for recorded in store.read_stream("work-1")]
        assert types == ["early", "mine", "mine"]
        assert store.version("$lease-importer") == 3


def test_an_owner_that_lets_the_lease_go_is_followed_at_once(path):
    with owner_of(path) as owner, eb.open(path) as store:
        assert owner.said() == "taken 1"
        owner.ask("release")
        began = time.monotonic()
        with eb.Lease(store, "importer", stale_after=LONG, wait=LONG) as lease:
            assert time.monotonic() - began < SOON
            assert lease.token == 3


def test_those_who_wait_come_one_after_the_other(path):
    with eb.open(path) as store, owner_of(path) as first:
        assert first.said() == "taken 1"
        with owner_of(path) as second:
            for line in "abc":
                first.ask(line)
                assert first.said() == "done"
            first.send(signal.SIGKILL)
            assert second.said() == "taken 2"
            second.ask("d")
            assert second.said() == "done"
        types = [recorded.type for recorded in store.read_stream("work-1")]
        assert types == ["a", "b", "c", "d"]


def test_a_stopped_owner_that_nobody_replaced_goes_on(path):
    with owner_of(path) as owner, eb.open(path) as store:
        assert owner.said() == "taken 1"
        stop_between_writes(owner.process.pid, path)
        with pytest.raises(eb.LeaseHeld) as busy:
            eb.Lease(store, "importer", stale_after=LONG).__enter__()
        assert busy.value.lease == "importer"
        owner.send(signal.SIGCONT)
        owner.ask("on")
        assert owner.said() == "done"
