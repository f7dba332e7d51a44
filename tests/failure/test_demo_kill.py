"""A demo that is killed at random moments ends with log and ledgers in agreement.

The hazard: between an effect in a ledger and its record in the log there is always a
moment; whoever dies in it must neither repeat nor forget the effect.

`EVENTBRAID_KILLS=50` kills more often; `tests/failure/kill_demo.py` does it by hand, and
with `--coordinators 3` kills single ones of several processes that share the store.
"""

from __future__ import annotations

import os

import pytest

from tests.failure.kill_demo import kill_and_reconcile, kill_coordinators

KILLS = int(os.environ.get("EVENTBRAID_KILLS", "6"))


@pytest.mark.timeout(120 + 20 * KILLS)
def test_a_demo_killed_again_and_again_reconciles(tmp_path):
    code, output = kill_and_reconcile(
        tmp_path / "demo",
        kills=KILLS,
        limit=1500,
        seed=KILLS,
        options=("--failing", "0.05", "--declined", "0.05"),
    )
    assert code == 0, output
    assert "log and ledgers agree" in output


@pytest.mark.timeout(180 + 10 * KILLS)
def test_a_demo_whose_coordinators_are_killed_and_started_again_reconciles(tmp_path):
    killed, code, output = kill_coordinators(
        tmp_path / "demo",
        coordinators=3,
        kills=KILLS,
        limit=1500,
        seed=KILLS,
        options=("--failing", "0.05", "--declined", "0.05"),
    )
    assert code == 0, output
    assert "log and ledgers agree" in output
    assert killed, output
