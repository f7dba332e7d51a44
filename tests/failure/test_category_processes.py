"""Several processes create streams of one category, up to a maximum.

The hazard: two processes that each find one place left, and both take it; or an account
that was acknowledged, and is missing after its process was killed.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from contextlib import ExitStack

import pytest

import eventbraid as eb
from tests.failure.category_creator import MAXIMUM, Account


def start(stack: ExitStack, path: object, name: str) -> subprocess.Popen[str]:
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "tests.failure.category_creator", path, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    stack.callback(process.kill)
    return process


def begin(processes: list[subprocess.Popen[str]]) -> None:
    """Let all processes begin at the same time, when all have opened the store."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


@pytest.mark.timeout(120)
def test_processes_together_create_exactly_as_many_streams_as_allowed(tmp_path):
    path = tmp_path / "store"
    with ExitStack() as stack:
        processes = [start(stack, path, name) for name in "abc"]
        begin(processes)
        created = [process.communicate(timeout=90)[0].split() for process in processes]
    with eb.open(path) as store:
        found = store.category_streams(Account)
        assert found.version == MAXIMUM
        assert sorted(found.streams) == sorted(itertools.chain(*created))
        store.verify()


@pytest.mark.timeout(120)
def test_a_killed_process_leaves_the_category_as_it_was_acknowledged(tmp_path):
    path = tmp_path / "store"
    with ExitStack() as stack:
        victim, survivor = (start(stack, path, name) for name in "ab")
        begin([victim, survivor])
        # Fewer lines if the survivor is faster: the victim then ends by itself.
        lines = [victim.stdout.readline() for _ in range(3)]
        victim.kill()
        acknowledged = "".join([*lines, victim.stdout.read()]).split()
        created = survivor.communicate(timeout=90)[0].split()
    with eb.open(path) as store:
        found = store.category_streams(Account)
        assert found.version == MAXIMUM
        # The last account of the victim may be recorded without an acknowledgement.
        unknown = {*found.streams} - {*acknowledged, *created}
        assert {*acknowledged, *created} <= {*found.streams}
        assert len(unknown) <= 1
        store.verify()
