"""The benchmark of sagas measures orders that are fulfilled, or compensated as planned.

A workload whose sagas block or fail at once would be measured as a fast one.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from itertools import islice

import anyio
import pytest

import eventbraid as eb
from eventbraid.cli.bench import _sagas
from eventbraid.cli.bench._orders import (
    PRODUCTS,
    OrderChanged,
    ServiceCalled,
    StockReceived,
    StockReleased,
    StockReserved,
    placed_orders,
)
from eventbraid.cli.bench._sagas import measure_compensation
from eventbraid.cli.bench._services import services_in_memory, services_on_disk

ENDS = ("saga.completed", "saga.compensated", "saga.stuck", "saga.blocked")


async def fulfil(path, services, count):
    async with (
        _sagas._open_orders(path, services) as orders,
        anyio.create_task_group() as workers,
    ):
        for placed in islice(placed_orders(1), count):
            workers.start_soon(orders.fulfil, placed)


def ends(store) -> Counter[str]:
    return Counter(recorded.type for recorded in store.read_all(types=ENDS))


def details(store) -> defaultdict[str, list[str]]:
    """Return what happened in each stream of orders, payments and shipments."""
    found = defaultdict(list)
    types = [eb.event_type(kind) for kind in (OrderChanged, ServiceCalled)]
    for recorded in store.read_all(types=types):
        match eb.decode_event(recorded):
            case OrderChanged(what) | ServiceCalled(what):
                found[recorded.stream].append(what)
    return found


def reserved_pieces(store) -> int:
    """Return the pieces that are reserved, over all products."""
    pieces = 0
    types = [eb.event_type(k) for k in (StockReceived, StockReserved, StockReleased)]
    for recorded in store.read_all(types=types):
        match eb.decode_event(recorded):
            case StockReserved(_, quantity):
                pieces += int(quantity)
            case StockReleased(_, quantity):
                pieces -= int(quantity)
    return pieces


@pytest.mark.timeout(120)
def test_without_refusals_each_order_is_completed(tmp_path):
    anyio.run(fulfil, tmp_path / "s", services_in_memory(), 60)
    with eb.open(tmp_path / "s") as store:
        assert ends(store) == {"saga.completed": 60}
        found = details(store)
        assert found["order-0000001"] == ["completed", "notified"]
        assert found["payment-0000001"] == ["authorize", "capture"]
        assert found["shipment-0000001"] == ["create", "schedule", "dispatch"]
        ordered = islice(placed_orders(1), 60)
        wanted = sum(int(item.quantity) for order in ordered for item in order.items)
        assert reserved_pieces(store) == wanted


@pytest.mark.timeout(120)
def test_a_refused_order_is_compensated_and_reserves_nothing(tmp_path):
    async def refuse_all():
        ledger = tmp_path / "ledger"
        async with services_on_disk(ledger, refused={"schedule": 1.0}) as services:
            await fulfil(tmp_path / "s", services, 20)

    anyio.run(refuse_all)
    with eb.open(tmp_path / "s") as store:
        assert ends(store) == {"saga.compensated": 20}
        found = details(store)
        assert found["order-0000001"] == ["cancelled"]
        assert found["payment-0000001"] == ["authorize", "capture", "refund", "void"]
        assert found["shipment-0000001"] == ["create", "cancel"]
        assert reserved_pieces(store) == 0


def test_orders_are_the_same_in_each_run_and_differ_among_themselves():
    orders = list(islice(placed_orders(1), 500))
    assert orders == list(islice(placed_orders(1), 500))
    assert len({order.order for order in orders}) == 500
    assert {len(order.items) for order in orders} == {1, 2, 3, 4}
    products = {product for order in orders for product in order.products}
    assert len(products) <= PRODUCTS


@pytest.mark.timeout(120)
def test_compensations_are_measured(tmp_path):
    measured = measure_compensation(tmp_path, seconds=2)
    assert measured.count > 0
    assert 0 < measured.p50 <= measured.p99


def test_commands_other_than_the_demo_load_no_example(tmp_path):
    eb.open(tmp_path / "s").close()
    code = f"""
import sys
import eventbraid.cli.bench._rows
from eventbraid.cli import run
for command in ("show 77", "list", "stuck"):
    run(["saga", *command.split(), "--store", {str(tmp_path / "s")!r}])
for command in ("read", "streams", "stats", "verify"):
    run([command, {str(tmp_path / "s")!r}])
sys.exit([name for name in sys.modules if name.startswith("eventbraid.examples")] or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
