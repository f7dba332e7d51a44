"""The results of processes that share a store form one history.

The hazard: a commit that is lost, torn or visible too late, a version validated twice, a
snapshot of two states, a subscription with a gap, none of which a single process can
detect. And a check that would not detect it: so each fault is planted in a store, with the
checks that must find it (`tests/histories/broken_stores.py`).

The correct stores are the one on SQLite and the engine, which some processes call from
threads and some from an event loop. `EVENTBRAID_HISTORIES=200` is the number of random
histories of the engine.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.histories.broken_stores import FAULTS
from tests.histories.checks import check, require_consistent
from tests.histories.processes import ProcessGroup, read_log
from tests.histories.program import Workload
from tests.histories.stores import ENGINE, ON_LOOP

PROCESSES = 3
OPERATIONS = 150
TRIES = 4
SEEDS = int(os.environ.get("EVENTBRAID_HISTORIES", "3"))

pytestmark = pytest.mark.timeout(240)


def run(path, store, seed, *, kills=0, operations=OPERATIONS):
    """Run processes with random calls on a store. Return their history and the log."""
    workload = Workload(
        name="p", store=store, path=str(path), seed=seed, operations=operations
    )
    group = ProcessGroup(workload)
    try:
        for _ in range(PROCESSES):
            start(group)
        for _ in range(kills):
            time.sleep(0.3)
            group.processes[0].kill()
            group.collect(group.processes[0])
            start(group)
        group.collect_all()
    finally:
        group.kill_all()
    assert group.failed == []
    log = read_log(workload)
    assert log.entries, "nothing was appended"
    return group.history, log


def start(group):
    if group.workload.store == ENGINE and group.started % 2:
        group.start(store=ON_LOOP, threads=4)
    else:
        group.start()


CORRECT = [
    pytest.param("tests.histories.broken_stores:Correct", 7, id="sqlite"),
    *(pytest.param(ENGINE, seed, id=f"engine-{seed}") for seed in range(7, 7 + SEEDS)),
]


@pytest.mark.parametrize(("store", "seed"), CORRECT)
def test_the_results_of_processes_form_one_history(tmp_path, store, seed):
    history, log = run(tmp_path / "store", store, seed)
    require_consistent(history, log)
    assert history.failures == []
    answers = {type(append.answer).__name__ for append in history.appends}
    assert answers == {"AppendDone", "AppendRefused"}
    assert len(history.reads) > OPERATIONS
    # The epoch of a subscription may end before an event of it is appended.
    assert all(
        subscription.delivered
        for subscription in history.subscriptions
        if subscription.begun.prefix in {None, "list-"}
    )


@pytest.mark.parametrize(("store", "seed"), CORRECT)
def test_the_results_of_processes_form_one_history_if_some_are_killed(
    tmp_path, store, seed
):
    history, log = run(
        tmp_path / "store", store, seed, kills=4, operations=3 * OPERATIONS
    )
    require_consistent(history, log)
    assert history.failures == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(tmp_path, fault):
    store = f"tests.histories.broken_stores:{fault.__name__}"
    missed = set(FAULTS[fault])
    for seed in range(TRIES):
        # A fault occurs at random: if one run does not show it, another does.
        history, log = run(tmp_path / f"store-{seed}", store, seed)
        missed -= {finding.by for finding in check(history, log)}
        if not missed:
            return
    pytest.fail(f"not found by {missed}")
