"""A process killed by the system, again and again, on one directory.

What tests/failure/test_saga_crash.py does inside of a process, with a real store on disk
and a receiver whose ledger outlives the process. SIGKILL says nothing about fsync.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import eventbraid as eb
from tests.saga_kit import ledger_of

SAGAS = 8
KILLS = 24
COORDINATORS = 3
VICTIM = Path(__file__).with_name("saga_victim.py")


def begin(repository, directory: Path, moment: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            VICTIM,
            directory / "store",
            directory / "ledger",
            str(SAGAS),
            str(moment),
        ],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> int:
    try:
        _, error = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode in {0, -signal.SIGKILL}, error
    return process.returncode


def run(repository, directory: Path, moment: int) -> int:
    return end(begin(repository, directory, moment))


@pytest.mark.timeout(600)
def test_sagas_end_whole_however_often_the_process_is_killed(repository, tmp_path):
    draw = random.Random(7)
    kills = sum(
        run(repository, tmp_path, draw.randint(1, 30)) == -signal.SIGKILL
        for _ in range(KILLS)
    )
    assert kills > KILLS // 3
    assert run(repository, tmp_path, 0) == 0
    check_all(tmp_path)


@pytest.mark.timeout(600)
def test_sagas_end_whole_however_often_one_of_several_processes_is_killed(
    repository, tmp_path
):
    """Each process starts all sagas; each is driven by whoever has its shard."""
    draw = random.Random(8)
    killed, alive = 0, []
    for _ in range(KILLS // COORDINATORS):
        alive = [begin(repository, tmp_path, draw.randint(1, 40)) for _ in range(2)]
        # One more comes when these are at work, and one of these may be gone by then.
        time.sleep(draw.uniform(0.0, 0.5))
        alive.append(begin(repository, tmp_path, draw.randint(1, 40)))
        killed += sum(end(process) == -signal.SIGKILL for process in alive)
    assert killed > COORDINATORS
    alive = [begin(repository, tmp_path, 0) for _ in range(COORDINATORS)]
    assert [end(process) for process in alive] == [0] * COORDINATORS
    check_all(tmp_path)


def check_all(directory: Path) -> None:
    ledger = Counter((directory / "ledger").read_text().splitlines())
    assert set(ledger.values()) == {1}
    with eb.open(directory / "store") as store:
        for n in range(SAGAS):
            check(store, ledger, f"saga-{n}", declined=n % 2 == 1)


def check(store, ledger, saga_id, *, declined):
    noted = [
        eb.decode_event(recorded).what
        for recorded in store.read_stream(ledger_of(saga_id))
    ]
    outcome = eb.saga.read_timeline(store, saga_id).outcome
    pay, ship = f"{saga_id}/pay/1", f"{saga_id}/ship/1"
    if declined:
        assert outcome is eb.SagaOutcome.COMPENSATED
        assert noted == ["book", "pay", "pack", "compensate pack", "compensate book"]
        assert f"compensate {pay}" in ledger
        assert f"do {ship}" not in ledger
    else:
        assert outcome is eb.SagaOutcome.COMPLETED
        assert noted == ["book", "pay", "pack", "ship"]
        assert {f"do {pay}", f"do {ship}"} <= set(ledger)
        assert f"compensate {pay}" not in ledger
