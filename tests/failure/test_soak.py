"""Processes that share a store and are killed and stopped at random.

The hazard: what only shows when the holder of a lock dies, or is held, at some moment that
nobody thought of. `EVENTBRAID_SOAK=60` makes it a minute; an hour is run by hand, see
`tests/failure/soak.py`.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.failure.soak import ENGINE_OPTIONS, Soak
from tests.histories.program import Orders
from tests.histories.rust_examples import built
from tests.histories.stores import ENGINE

SECONDS = float(os.environ.get("EVENTBRAID_SOAK", "20"))
BROKEN = "tests.histories.broken_stores"

pytestmark = pytest.mark.timeout(240 + 3 * SECONDS)


def soaked(tmp_path, store, processes=4, rust=None, **options):
    orders = Orders(
        name="soak",
        store=store,
        path=str(tmp_path / "store"),
        seed=7,
        pause=0.005,
        options=options,
    )
    return Soak(orders, processes, random.Random(7), rust)


def test_processes_killed_and_stopped_at_random_lose_nothing(tmp_path, capfd):
    soak = soaked(tmp_path, ENGINE, 6, built("soak_member"), **ENGINE_OPTIONS)
    tally = soak.run(SECONDS)
    assert tally.code == 0, capfd.readouterr().out
    assert tally.kills > 0
    assert tally.stops > 0
    assert tally.acknowledged > 0
    assert tally.delivered > 0


def test_a_soak_of_the_oracle_finds_nothing(tmp_path, capfd):
    tally = soaked(tmp_path, f"{BROKEN}:Sound").run(4)
    assert tally.code == 0, capfd.readouterr().out
    assert tally.acknowledged > 0


def test_a_soak_of_a_store_that_loses_commits_says_so(tmp_path):
    tally = soaked(tmp_path, f"{BROKEN}:Losing").run(4)
    assert tally.found["lost"] > 0
    assert tally.code == 1
    assert list(tmp_path.glob("told/*.jsonl"))
