"""The order API under load of a client of its own, for a moment, to keep it alive.

The figures are taken by `python benches/order_load.py`.
"""

from __future__ import annotations

import shutil

import pytest

from benches.order_load import lines_of, measure, wrongs

pytestmark = pytest.mark.timeout(600)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_order_load(disk):
    load, kept, drained = measure(disk, workers=2, connections=8, seconds=1, drain=1)
    assert wrongs(load, kept) == [], "\n".join(lines_of(load, kept, drained))
    assert load.created
    assert load.replayed
    assert drained.orders
