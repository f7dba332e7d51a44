"""Several processes on one store, for a moment, to show that the benchmark works.

`python benches/processes.py` makes the measurements.
"""

from __future__ import annotations

import pytest

from benches.processes import lines_of, measure

pytestmark = pytest.mark.timeout(300)


def test_processes(disk):
    found = measure(disk, processes=2, seconds=1, count=20)
    assert found.single.rate > 0
    assert found.flight.rate > 0
    assert found.sqlite.rate > 0
    assert found.delivery.p50 > 0
    assert len(lines_of(found, 2)) == 11
