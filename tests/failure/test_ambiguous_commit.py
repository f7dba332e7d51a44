"""Killed between the durable write and the reply: asked again with its key, each append
is done exactly once.

The hazard: a caller that never heard an answer can't know; without the key it would pay
twice or not at all.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import eventbraid as eb
from tests.contract import programs
from tests.failure.ambiguous_victim import request

VICTIM = Path(__file__).with_name("ambiguous_victim.py")
SEED = int(os.environ.get("AMBIGUOUS_SEED", "1"))
KILLS = int(os.environ.get("AMBIGUOUS_KILLS", "12"))


def killed(path, first, face, moment):
    """Run a victim for a moment; answer which appends it asked for, and which it heard of."""
    with subprocess.Popen(
        [sys.executable, VICTIM, path, str(first), face],
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        begun = victim.stdout.readline()
        time.sleep(moment)
        victim.kill()
        lines = (begun + victim.stdout.read()).splitlines(keepends=True)
    # The last line may have been cut off by the kill.
    words = [line.split() for line in lines if line.endswith("\n")]
    asked = [int(number) for word, number in words if word == "ask"]
    heard = [int(number) for word, number in words if word == "done"]
    return asked, heard


def asked_again(store, numbers):
    """Ask again for each; answer which of them had been done before."""
    before = {n for n in numbers if store.committed(f"request-{n}") is not None}
    for number in numbers:
        done = store.append(**request(number))
        assert done.replayed == (number in before)
        assert store.append(**request(number)).replayed
    return before


@pytest.mark.parametrize("face", ["sync", "async"])
def test_each_append_is_done_once_whenever_the_process_is_killed(
    face, tmp_path, record_property
):
    chance = random.Random(SEED)
    path = tmp_path / "store.braid"
    first, unheard_but_done, all_asked = 0, 0, []
    for kill in range(KILLS):
        moment = chance.uniform(0, 0.15)
        asked, heard = killed(path, first, face, moment)
        told = f"seed {SEED}, kill {kill} after {moment:.4f} s"
        with eb.open(path) as store:
            before = asked_again(store, asked)
            assert set(heard) <= before, told
            unheard_but_done += len(before - set(heard))
            all_asked += asked
            assert not exactly_once(store, all_asked), told
        first = max(asked, default=first) + 1
    record_property("asked", len(all_asked))
    record_property("done but unheard of", unheard_but_done)


def exactly_once(store, numbers):
    """What is in the log too often or too seldom: nothing, if all is well."""
    wanted = Counter(
        (stream, data) for n in numbers for stream, _, data in request(n)["events"]
    )
    found = Counter((r.stream, r.data) for r in store.read_all())
    return (wanted - found) | (found - wanted)


# The moment itself: what a subscription shows is durable, and its thread kills the
# process while the one that appends has not looked for its answer yet.
BETWEEN = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[2])
from tests.failure.ambiguous_victim import request

store = eb.open(sys.argv[1])
follower = store.subscribe()

def kill_once_it_is_durable():
    next(follower)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill_once_it_is_durable, daemon=True).start()

async def never_told():
    store.as_async().append(**request(7)).send(None)
    threading.Event().wait(30)

import asyncio
asyncio.run(never_told())
"""


def test_a_commit_that_was_durable_before_the_kill_is_replayed(tmp_path):
    path = tmp_path / "store.braid"
    for _ in range(3):
        done = programs.run(BETWEEN, path, Path(__file__).parents[2], warnings="ignore")
        assert done.returncode == -9, done.stderr
        with eb.open(path) as store:
            assert store.append(**request(7)).replayed
            assert not exactly_once(store, [7])
