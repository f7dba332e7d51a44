"""A minute of processes that share a store and are killed and stopped at random.

The hazard: what only shows when the holder of a lock dies, or is held, at some moment that
nobody thought of. `EVENTBRAID_SOAK=60` makes it a minute; an hour is run by hand, see
`tests/failure/soak.py`.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.failure.soak import Soak
from tests.histories.program import Orders
from tests.histories.shared import ENGINE, needs_sharing

SECONDS = float(os.environ.get("EVENTBRAID_SOAK", "12"))
BROKEN = "tests.histories.broken_stores"

pytestmark = pytest.mark.timeout(240 + 3 * SECONDS)


def soaked(tmp_path, store, *, seed=7, forks=False):
    orders = Orders(
        name="soak",
        store=store,
        path=str(tmp_path / "store"),
        seed=seed,
        pause=0.002,
        forks=forks,
    )
    return Soak(orders, 4, random.Random(seed))


@pytest.mark.parametrize(
    "store",
    [
        pytest.param(f"{BROKEN}:Sound", id="sqlite"),
        pytest.param(ENGINE, marks=needs_sharing, id="engine"),
    ],
)
def test_processes_killed_and_stopped_at_random_lose_nothing(tmp_path, store, capfd):
    tally = soaked(tmp_path, store, forks=True).run(SECONDS)
    assert tally.code == 0, capfd.readouterr().out
    assert tally.kills > 0
    assert tally.stops > 0
    assert tally.acknowledged > 0


def test_a_soak_of_a_store_that_loses_commits_says_so(tmp_path):
    tally = soaked(tmp_path, f"{BROKEN}:Losing").run(4)
    assert tally.found["lost"] > 0
    assert tally.code == 1
