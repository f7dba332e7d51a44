"""Commands of several processes with cached states form one history.

The hazards: a decision on a state that the append doesn't confirm, a cached state that
another command has changed or that belongs to another stream, a rejection on outdated
states, a loaded state that is older than the session's own write, and a keyed command that
is executed twice. And a check that would not detect it: so each fault is planted in
processes, with the checks that must find it (`tests/histories/broken_caches.py`).

Some processes execute commands in threads and some in the tasks of an event loop, all with a
cache that is too small for the states of all accounts. `EVENTBRAID_HISTORIES=200` is the
number of random histories.
"""

from __future__ import annotations

import os
import time

import pytest

import eventbraid as eb
from tests.histories import command_program
from tests.histories.bank import open_accounts
from tests.histories.broken_caches import FAULTS
from tests.histories.command_checks import check, require_consistent
from tests.histories.command_history import CommandDone, CommandHistory, decoded
from tests.histories.command_log import read_bank
from tests.histories.command_program import CommandWorkload
from tests.histories.processes import ProcessGroup

PROCESSES = 3
BOUND = 60.0
TRIES = 10
SEEDS = int(os.environ.get("EVENTBRAID_HISTORIES", "2"))

pytestmark = pytest.mark.timeout(240)


def run(path, seed, *, kills=0, **workload):
    """Execute random commands in processes. Return their history and the log."""
    with eb.open(path) as store:
        open_accounts(store)
    group = ProcessGroup(
        CommandWorkload(name="p", path=str(path), seed=seed, **workload),
        CommandHistory(),
        module=command_program.__name__,
        decode=decoded,
    )
    try:
        for _ in range(PROCESSES):
            start(group)
        for _ in range(kills):
            await_commands(group.processes[0])
            group.processes[0].kill()
            group.collect(group.processes[0])
            start(group)
        group.collect_all()
    finally:
        group.kill_all()
    assert group.failed == []
    return group.history, read_bank(str(path))


def await_commands(process):
    """Wait until a process has executed some commands, so that it is in the middle."""
    deadline = time.monotonic() + BOUND
    while sum(isinstance(one, CommandDone) for one in process.lines()) < 10:
        assert time.monotonic() < deadline, process.errors()
        time.sleep(0.01)


def start(group):
    # A fault is planted by threads; the tasks of a correct process work next to them.
    is_faulty = group.workload.fault is not None
    group.start(on_loop=group.started % 2 == 1 and not is_faulty)


@pytest.mark.parametrize("seed", range(7, 7 + SEEDS))
def test_commands_of_processes_form_one_history(tmp_path, seed):
    history, log = run(tmp_path / "store", seed)
    require_consistent(history, log)
    assert history.failures == []
    answers = {type(one.answer).__name__ for one in history.executions}
    assert answers == {"CommandDone", "CommandRejected"}
    kinds = {one.request.kind for one in history.executions if one.done}
    assert kinds == {"Transfer", "GuardedTransfer", "Sweep", "FoldedTransfer", "Audit"}
    assert any(one.done and one.done.replayed for one in history.executions)
    assert history.loads


@pytest.mark.parametrize("cache_bytes", [0, 64 * 2**20], ids=["none", "large"])
def test_commands_form_one_history_without_a_cache_and_with_a_large_one(
    tmp_path, cache_bytes
):
    history, log = run(tmp_path / "store", 5, cache_bytes=cache_bytes, operations=40)
    require_consistent(history, log)


def test_commands_of_processes_form_one_history_if_some_are_killed(tmp_path):
    history, log = run(tmp_path / "store", 7, kills=4, operations=150)
    require_consistent(history, log)
    assert any(one.answer is None for one in history.executions)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(tmp_path, fault):
    name = f"tests.histories.broken_caches:{fault.__name__}"
    missed = set(FAULTS[fault])
    for seed in range(TRIES):
        # A fault occurs at random: if one run does not show it, another does.
        history, log = run(tmp_path / f"store-{seed}", seed, fault=name)
        missed -= {finding.by for finding in check(history, log)}
        if not missed:
            return
    pytest.fail(f"not found by {missed}")
