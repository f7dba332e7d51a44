"""Processes that share a store and are killed and stopped at random.

The hazard: a fault that needs the holder of a lock to die, or to stop, at a moment that no
other test has. `EVENTBRAID_SOAK=60` runs for a minute; `tests/failure/soak.py` has the
command for an hour.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.failure.soak import ENGINE_OPTIONS, Soak
from tests.histories.checks import BrokenPromiseError
from tests.histories.program import Workload
from tests.histories.rust_examples import built
from tests.histories.stores import ENGINE

SECONDS = float(os.environ.get("EVENTBRAID_SOAK", "20"))
BROKEN = "tests.histories.broken_stores"

pytestmark = pytest.mark.timeout(240 + 3 * SECONDS)


def soak_of(tmp_path, store, processes=4, rust=None, **options):
    workload = Workload(
        name="soak",
        store=store,
        path=str(tmp_path / "store"),
        seed=7,
        pause=0.005,
        options=options,
    )
    return Soak(workload, processes, random.Random(7), rust)


def test_processes_killed_and_stopped_at_random_lose_nothing(tmp_path, capfd):
    soak = soak_of(tmp_path, ENGINE, 6, built("soak_member"), **ENGINE_OPTIONS)
    tally = soak.run(SECONDS)
    if tally.found:
        raise BrokenPromiseError(capfd.readouterr().out)
    assert tally.code == 0, capfd.readouterr().out
    assert tally.kills > 0
    assert tally.stops > 0
    assert tally.acknowledged > 0
    assert tally.delivered > 0


def test_a_soak_of_a_correct_store_finds_nothing(tmp_path, capfd):
    soak = soak_of(tmp_path, f"{BROKEN}:Correct")
    # A process may take seconds until its first commit.
    while not soak.run(4).acknowledged:
        assert soak.tally.code == 0, capfd.readouterr().out
    assert soak.tally.code == 0, capfd.readouterr().out


def test_a_soak_of_a_store_that_loses_commits_reports_them(tmp_path):
    soak = soak_of(tmp_path, f"{BROKEN}:Losing")
    # It loses some commits at random, and a process may take seconds until its first one.
    while not soak.run(4).code:
        pass
    assert soak.tally.found["lost"] > 0
    assert soak.tally.code == 1
    assert list(tmp_path.glob("lines/*.jsonl"))
