"""Processes that share a store are told one history, and a store that tells another is caught.

The hazard: a commit that is lost, torn or shown too late, a version judged twice, a
snapshot of two states, a subscription with a hole, none of which a single process sees.
And a check that would not see it either: so each fault is planted in a store, and the
checks that must see it are named with it (`tests/histories/broken_stores.py`).

The sound store is the oracle on SQLite, and the engine itself: of the engine, some processes
ask through threads and some through an event loop. `EVENTBRAID_HISTORIES=200` draws so many
histories of the engine.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.histories.broken_stores import FAULTS
from tests.histories.checks import check
from tests.histories.processes import Crew, read_log
from tests.histories.program import Orders
from tests.histories.stores import ENGINE, ON_LOOP

PROCESSES = 3
OPERATIONS = 150
TRIES = 4
SEEDS = int(os.environ.get("EVENTBRAID_HISTORIES", "3"))

pytestmark = pytest.mark.timeout(240)


def told(path, store, seed, *, kills=0, operations=OPERATIONS):
    """What is wrong with what processes were told that asked such a store at random."""
    orders = Orders(
        name="p", store=store, path=str(path), seed=seed, operations=operations
    )
    crew = Crew(orders)
    try:
        for _ in range(PROCESSES):
            start(crew)
        for _ in range(kills):
            time.sleep(0.3)
            crew.members[0].kill()
            crew.gather(crew.members[0])
            start(crew)
        crew.gather_all()
    finally:
        crew.dismiss()
    assert crew.failed == []
    log = read_log(orders)
    assert log.entries, "nothing was appended"
    return crew.history, check(crew.history, log)


def start(crew):
    if crew.orders.store == ENGINE and crew.started % 2:
        crew.start(store=ON_LOOP, threads=4)
    else:
        crew.start()


SOUND = [
    pytest.param("tests.histories.broken_stores:Sound", 7, id="sqlite"),
    *(pytest.param(ENGINE, seed, id=f"engine-{seed}") for seed in range(7, 7 + SEEDS)),
]


@pytest.mark.parametrize(("store", "seed"), SOUND)
def test_what_processes_are_told_is_one_history(tmp_path, store, seed):
    history, findings = told(tmp_path / "store", store, seed)
    assert findings == []
    assert history.troubles == []
    answers = {type(append.answer).__name__ for append in history.appends}
    assert answers == {"Done", "Refused"}
    assert len(history.reads) > OPERATIONS
    assert all(followed.delivered for followed in history.followed)


@pytest.mark.parametrize(("store", "seed"), SOUND)
def test_what_processes_are_told_of_which_some_are_killed_is_one_history(
    tmp_path, store, seed
):
    history, findings = told(
        tmp_path / "store", store, seed, kills=4, operations=3 * OPERATIONS
    )
    assert findings == []
    assert history.troubles == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_store_with_a_fault_is_found_out(tmp_path, fault):
    store = f"tests.histories.broken_stores:{fault.__name__}"
    missed = set(FAULTS[fault])
    for seed in range(TRIES):
        # A fault strikes by chance: what one run does not show, another does.
        _, findings = told(tmp_path / f"store-{seed}", store, seed)
        missed -= {finding.by for finding in findings}
        if not missed:
            return
    pytest.fail(f"not seen by {missed}")
