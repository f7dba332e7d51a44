"""An append that was killed before its answer is done exactly once if it is repeated.

The hazard: a caller without an answer does not know whether the append was committed.
Without the idempotency key it would pay twice or not at all.
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
    """Run a victim for a moment. Return its begun appends and its answered ones."""
    with subprocess.Popen(
        [sys.executable, VICTIM, path, str(first), face],
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        first_line = victim.stdout.readline()
        time.sleep(moment)
        victim.kill()
        lines = (first_line + victim.stdout.read()).splitlines(keepends=True)
    # The kill may have truncated the last line.
    words = [line.split() for line in lines if line.endswith("\n")]
    begun = [int(number) for word, number in words if word == "begun"]
    answered = [int(number) for word, number in words if word == "done"]
    return begun, answered


def repeat_appends(store, numbers):
    """Repeat each append. Return those that had been committed before."""
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
    rng = random.Random(SEED)
    path = tmp_path / "store.braid"
    first, unanswered_commits, all_begun = 0, 0, []
    for kill in range(KILLS):
        moment = rng.uniform(0, 0.15)
        begun, answered = killed(path, first, face, moment)
        context = f"seed {SEED}, kill {kill} after {moment:.4f} s"
        with eb.open(path) as store:
            before = repeat_appends(store, begun)
            assert set(answered) <= before, context
            unanswered_commits += len(before - set(answered))
            all_begun += begun
            assert not exactly_once(store, all_begun), context
        first = max(begun, default=first) + 1
    record_property("begun", len(all_begun))
    record_property("committed without an answer", unanswered_commits)


def exactly_once(store, numbers):
    """Return the commits that are not in the log exactly once."""
    wanted = Counter(
        (stream, data) for n in numbers for stream, _, data in request(n)["events"]
    )
    found = Counter((r.stream, r.data) for r in store.read_all())
    return (wanted - found) | (found - wanted)


# The moment in question: a delivered event is durable, and the subscribing thread kills the
# process before the appending thread has its answer.
BETWEEN = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[2])
from tests.failure.ambiguous_victim import request

store = eb.open(sys.argv[1])
follower = store.subscribe()

def kill_after_it_is_durable():
    next(follower)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill_after_it_is_durable, daemon=True).start()

async def never_answered():
    store.as_async().append(**request(7)).send(None)
    threading.Event().wait(30)

import asyncio
asyncio.run(never_answered())
"""


def test_a_commit_that_was_durable_before_the_kill_is_replayed(tmp_path):
    path = tmp_path / "store.braid"
    for _ in range(3):
        done = programs.run(BETWEEN, path, Path(__file__).parents[2], warnings="ignore")
        assert done.returncode == -9, done.stderr
        with eb.open(path) as store:
            assert store.append(**request(7)).replayed
            assert not exactly_once(store, [7])
