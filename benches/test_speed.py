"""The rows of durable speed, each next to baselines of the same run.

    pytest benches --benchmark-enable
    pytest benches --benchmark-enable --assert-floors

Without `--benchmark-enable` each row runs for a moment, to show that it works.
"""

from __future__ import annotations

from functools import partial

import pytest

from eventbraid.cli.bench import (
    _append,
    _cold_stream,
    _commands,
    _hot_stream,
    _order_event,
    _replay,
    _sagas,
)

pytestmark = pytest.mark.timeout(600)


def test_one_writer(measured):
    measured(_append.measure_appends)


def test_batched_appends(measured):
    measured(_append.measure_batches, lambda row: row.rate >= 300_000)


def test_batched_appends_of_objects(measured):
    measured(_append.measure_batches_of_objects)


def test_threads(measured):
    measured(_append.measure_threads)


LOOPS = {
    "asyncio": {},
    "uvloop": {"uvloop": True},
    "trio": {"backend": "trio"},
}


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks(measured, loop):
    for name in {"uvloop", "trio"} & {loop}:
        pytest.importorskip(name)
    measured(partial(_append.measure_tasks, **LOOPS[loop]))


def test_replay(measured):
    measured(_replay.measure_replay, moment=0.04)


def test_opening(measured):
    measured(_replay.measure_opening, moment=0.04)


def test_sequential_commands(measured):
    measured(_commands.measure_commands, lambda row: row.baselines[0].ratio >= 0.5)


def test_concurrent_commands(measured):
    measured(_commands.measure_concurrent_commands, lambda row: row.rate >= 5_000)


def test_transfers(measured):
    measured(_commands.measure_transfers)


def test_hot_stream(measured):
    measured(_hot_stream.measure_hot_stream)


def test_hot_stream_of_processes(measured):
    measured(_hot_stream.measure_hot_processes)


def test_first_command(measured):
    measured(_cold_stream.measure_first_command)


def test_memory_of_states(measured):
    measured(_cold_stream.measure_cache_memory)


def test_order_event(measured):
    measured(_order_event.measure_order_event)


def test_sagas(measured):
    measured(_sagas.measure_sagas, lambda row: row.rate >= 300)


def test_compensation(measured):
    measured(_sagas.measure_compensation, lambda row: row.p99 <= 0.050)
