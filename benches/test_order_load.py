"""The order API under the load of wrk, for a moment, to show that the benchmark works.

`python benches/order_load.py` makes the measurements.
"""

from __future__ import annotations

import shutil

import pytest

from benches.order_load import faults_of, lines_of, measure

pytestmark = pytest.mark.timeout(600)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_order_load(disk):
    load, kept, drained = measure(disk, workers=2, connections=8, seconds=1, drain=1)
    assert faults_of(load, kept) == [], "\n".join(lines_of(load, kept, drained))
    assert load.created
    assert load.replayed
    assert drained.orders
