"""A saga whose call ends its process becomes stuck; no other saga is charged for it.

The hazard: each coordinator that takes the saga over makes the call again and dies of
it, for ever, because nothing was recorded before the call; and sagas that were merely in
flight beside it use up their attempts and are compensated.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import eventbraid as eb

VICTIM = Path(__file__).with_name("poison_victim.py")
# Two crashes with any cause, and two of a call that is made alone. A function without a
# record of its own, as that of a local step, is first watched after a crash.
MOST_CRASHES = {"local step": 6}
HEALTHY = [f"saga-{number}" for number in range(3)]


def lives(repository: Path, store: Path, where: str) -> list[str]:
    """Run coordinators until one survives; gives what the last one printed."""
    for crashes in range(MOST_CRASHES.get(where, 5) + 1):
        done = subprocess.run(
            [sys.executable, VICTIM, store, where],
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode == 0:
            assert crashes > 1
            return done.stdout.split()
        assert done.returncode == -9, done.stderr
    raise AssertionError("the saga has ended too many coordinators")


def types(store: eb.EventStore, saga_id: str) -> list[str]:
    return [recorded.type for recorded in store.read_stream(saga_id)]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "where",
    ["action", "record", "compensation", "local compensation", "local step"],
)
def test_a_saga_that_ends_its_process_becomes_stuck(repository, tmp_path, where):
    path = tmp_path / "shop.braid"
    outcomes = lives(repository, path, where)
    assert outcomes == ["stuck", *["completed"] * len(HEALTHY)]
    with eb.open(path) as store:
        story = eb.saga.read_timeline(store, "saga-bad")
        assert "the process ended 2 times during the call of step" in story.failure
        for saga_id in HEALTHY:
            assert "saga.compensation_started" not in types(store, saga_id)


@pytest.mark.timeout(180)
def test_a_question_that_ends_its_process_does_not_end_each_coordinator(
    repository, tmp_path
):
    """The crash is recorded before the receiver is asked, so the saga goes on."""
    path = tmp_path / "shop.braid"
    outcomes = lives(repository, path, "ask")
    assert outcomes == ["stuck", *["completed"] * len(HEALTHY)]


@pytest.mark.timeout(180)
def test_the_other_compensations_are_made_beside_one_that_ends_its_process(
    repository, tmp_path
):
    path = tmp_path / "shop.braid"
    lives(repository, path, "compensation")
    with eb.open(path) as store:
        compensated = [
            entry.step
            for entry in eb.saga.read_timeline(store, "saga-bad").entries
            if entry.what == "compensated"
        ]
    assert compensated == ["z"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("where", "outcome"),
    [("child", "completed"), ("child of a compensation", "compensated")],
)
def test_a_saga_that_waits_for_the_one_that_ends_its_process_is_not_charged(
    repository, tmp_path, where, outcome
):
    path = tmp_path / "shop.braid"
    assert lives(repository, path, where) == [outcome]
    with eb.open(path) as store:
        assert types(store, "saga-bad")[-1] == "saga.stuck"
        assert "saga.stuck" not in types(store, "saga-parent")


@pytest.mark.timeout(180)
def test_a_saga_of_another_coordinator_of_the_process_is_not_charged(
    repository, tmp_path
):
    outcomes = lives(repository, tmp_path / "shop.braid", "beside another coordinator")
    assert {*zip(outcomes[::2], outcomes[1::2], strict=True)} == {
        ("saga-bad", "stuck"),
        ("saga-healthy", "completed"),
    }
