"""A demo that is killed at random moments ends with log and ledgers in agreement.

The hazard: a process may die between an effect in a ledger and its record in the log, and
the next process must neither repeat nor forget the effect.

`EVENTBRAID_KILLS=50` kills more often; `tests/failure/kill_demo.py` does it by hand, and
with `--coordinators 3` kills single ones of several processes that share the store.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.failure.kill_demo import (
    COORDINATOR,
    is_coordinator,
    kill_and_reconcile,
    kill_coordinators,
)

KILLS = int(os.environ.get("EVENTBRAID_KILLS", "6"))
# After four crashes a call may be stuck, because two of them may be charged to it: see
# decision 44. So each store has fewer kills.
KILLS_A_STORE = 3


def rounds(kills):
    """Return the number of kills of each store."""
    whole, left = divmod(kills, KILLS_A_STORE)
    return [KILLS_A_STORE] * whole + [left] * bool(left)


@pytest.mark.timeout(120 + 20 * KILLS)
def test_a_demo_that_is_killed_repeatedly_reconciles(tmp_path):
    for number, kills in enumerate(rounds(KILLS)):
        code, output = kill_and_reconcile(
            tmp_path / f"demo-{number}",
            kills=kills,
            limit=1500,
            seed=KILLS + number,
            options=("--failing", "0.05", "--declined", "0.05"),
        )
        assert code == 0, output
        assert "log and ledgers agree" in output


@pytest.mark.timeout(180 + 10 * KILLS)
def test_a_demo_whose_coordinators_are_killed_and_restarted_reconciles(tmp_path):
    all_killed = 0
    for number, kills in enumerate(rounds(KILLS)):
        killed, code, output = kill_coordinators(
            tmp_path / f"demo-{number}",
            coordinators=3,
            kills=kills,
            limit=1500,
            seed=KILLS + number,
            options=("--failing", "0.05", "--declined", "0.05"),
        )
        assert code == 0, output
        assert "log and ledgers agree" in output
        all_killed += killed
    assert all_killed


@pytest.mark.timeout(240)
def test_coordinators_end_after_the_demo_has_ended(tmp_path):
    command = [sys.executable, "-m", "eventbraid", "demo", str(tmp_path / "demo")]
    with subprocess.Popen(
        [*command, "--coordinators", "2"], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        lines = (COORDINATOR.match(line) for line in demo.stdout)
        found = (int(line[2]) for line in lines if line is not None)
        processes = [next(found), next(found)]
        demo.kill()
    deadline = time.monotonic() + 60
    while any(map(is_coordinator, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
