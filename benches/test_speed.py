"""The five rows of durable speed, each beside a yardstick taken in the same run.

    pytest benches --benchmark-enable
    pytest benches --benchmark-enable --assert-floors

Without `--benchmark-enable` each row runs for a moment, to keep the code alive.
"""

from __future__ import annotations

import pytest

from eventbraid.cli import _measure, _measure_sagas

pytestmark = pytest.mark.timeout(600)


def test_batched_appends(measured):
    measured(_measure.measure_batches, lambda row: row.rate >= 300_000)


def test_sequential_commands(measured):
    measured(_measure.measure_commands, lambda row: row.yardsticks[0].ratio >= 0.5)


def test_concurrent_commands(measured):
    measured(_measure.measure_concurrent_commands, lambda row: row.rate >= 5_000)


def test_sagas(measured):
    measured(_measure_sagas.measure_sagas, lambda row: row.rate >= 300)


def test_compensation(measured):
    measured(_measure_sagas.measure_compensation, lambda row: row.p99 <= 0.050)
