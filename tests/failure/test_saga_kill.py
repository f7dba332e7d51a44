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
from collections import Counter
from pathlib import Path

import pytest

import eventbraid as eb
from tests.saga_kit import ledger_of

SAGAS = 8
KILLS = 24
VICTIM = Path(__file__).with_name("saga_victim.py")


def run(repository, directory: Path, moment: int) -> int:
    done = subprocess.run(
        [
            sys.executable,
            VICTIM,
            directory / "store",
            directory / "ledger",
            str(SAGAS),
            str(moment),
        ],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


@pytest.mark.timeout(240)
def test_sagas_end_whole_however_often_the_process_is_killed(repository, tmp_path):
    draw = random.Random(7)
    kills = sum(
        run(repository, tmp_path, draw.randint(1, 30)) == -signal.SIGKILL
        for _ in range(KILLS)
    )
    assert kills > KILLS // 3
    assert run(repository, tmp_path, 0) == 0

    ledger = Counter((tmp_path / "ledger").read_text().splitlines())
    assert set(ledger.values()) == {1}
    with eb.open(tmp_path / "store") as store:
        for n in range(SAGAS):
            check(store, ledger, f"saga-{n}", declined=n % 2 == 1)


def check(store, ledger, saga_id, *, declined):
    noted = [
        eb.decode_event(recorded).what
        for recorded in store.read_stream(ledger_of(saga_id))
    ]
    outcome = eb.read_timeline(store, saga_id).outcome
    pay, ship = f"{saga_id}/pay/1", f"{saga_id}/ship/1"
    if declined:
        assert outcome is eb.Outcome.COMPENSATED
        assert noted == ["book", "pay", "pack", "undo pack", "undo book"]
        assert f"undo {pay}" in ledger
        assert f"do {ship}" not in ledger
    else:
        assert outcome is eb.Outcome.COMPLETED
        assert noted == ["book", "pay", "pack", "ship"]
        assert {f"do {pay}", f"do {ship}"} <= set(ledger)
        assert f"undo {pay}" not in ledger
