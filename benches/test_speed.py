"""The rows of durable speed, each beside yardsticks taken in the same run.

    pytest benches --benchmark-enable
    pytest benches --benchmark-enable --assert-floors

Without `--benchmark-enable` each row runs for a moment, to keep the code alive.
"""

from __future__ import annotations

from functools import partial

import pytest

from eventbraid.cli import (
    _measure_append,
    _measure_commands,
    _measure_replay,
    _measure_sagas,
)

pytestmark = pytest.mark.timeout(600)


def test_one_writer(measured):
    measured(_measure_append.measure_appends)


def test_batched_appends(measured):
    measured(_measure_append.measure_batches, lambda row: row.rate >= 300_000)


def test_batched_appends_of_objects(measured):
    measured(_measure_append.measure_batches_of_objects)


def test_threads(measured):
    measured(_measure_append.measure_threads)


LOOPS = {
    "asyncio": {},
    "uvloop": {"uvloop": True},
    "trio": {"backend": "trio"},
}


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks(measured, loop):
    for name in {"uvloop", "trio"} & {loop}:
        pytest.importorskip(name)
    measured(partial(_measure_append.measure_tasks, **LOOPS[loop]))


def test_replay(measured):
    measured(_measure_replay.measure_replay, moment=0.04)


def test_opening(measured):
    measured(_measure_replay.measure_opening, moment=0.04)


def test_sequential_commands(measured):
    measured(
        _measure_commands.measure_commands, lambda row: row.yardsticks[0].ratio >= 0.5
    )


def test_concurrent_commands(measured):
    measured(
        _measure_commands.measure_concurrent_commands, lambda row: row.rate >= 5_000
    )


def test_sagas(measured):
    measured(_measure_sagas.measure_sagas, lambda row: row.rate >= 300)


def test_compensation(measured):
    measured(_measure_sagas.measure_compensation, lambda row: row.p99 <= 0.050)
