"""Measurements of sagas: sagas per second, and the time that a compensation takes."""

from __future__ import annotations

import gc
import random
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

import eventbraid as eb
from eventbraid.cli.bench._baseline import RawDisk, workplace
from eventbraid.cli.bench._orders import (
    PRODUCTS,
    PlacedOrder,
    Quantity,
    StockReceived,
    order_saga,
    placed_orders,
    product,
)
from eventbraid.cli.bench._results import (
    RAW,
    Contender,
    Latency,
    Rate,
    alternate,
    percentile,
    repeated,
)
from eventbraid.cli.bench._services import services_in_memory, services_on_disk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator
    from pathlib import Path

    from eventbraid.cli.bench._services import Services

IN_FLIGHT = 256

_SEED = 1
_PLENTY = Quantity(1_000_000)
# The carrier refuses some orders after they are paid and reserved, the bank others at
# the first call, so compensations of every length are measured.
_REFUSED = {"authorize": 0.1, "create": 0.1, "schedule": 0.1}
_FAILED = ("saga.step_failed", "saga.step_unknown")
_COMPENSATING = "saga.compensation_started"
_COMPENSATED = "saga.compensated"
_ROUNDS = 3
_SHARE_FOR_CAPACITY = 0.3
_MINIMUM_SAMPLES = 100
# About what one recorded transition of an order's saga takes in the log.
_TRANSITION_BYTES = 700


def measure_sagas(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure whole orders, 256 in flight, with the services' ledgers in memory.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Sagas per second from start to end, beside raw `pwrite` + `fdatasync` of the
        bytes of one transition.
    """
    orders = placed_orders(_SEED)
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        raw = stack.enter_context(RawDisk(place, [bytes(_TRANSITION_BYTES)]))

        def fulfil(seconds: float) -> float:
            return anyio.run(_fulfil_many, place / "orders.braid", orders, seconds)

        return alternate(
            f"order sagas, {IN_FLIGHT} in flight",
            "sagas",
            fulfil,
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
            rounds=_ROUNDS,
        )


def measure_compensation(directory: Path, *, seconds: float = 10.0) -> Latency:
    """Measure from the record of a step's failure to the record of the saga's end.

    The services' ledger is on the same disk, durable, and about a quarter of the sagas
    fail. First the capacity is measured, with 256 sagas in flight; then sagas arrive at
    half that rate, at random moments, as a Poisson process. Only these are counted.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: The maximum duration of the measurement, the first part included.

    Returns:
        The times between the two records, as the log has them, beside those of a raw
        `pwrite` + `fdatasync`.
    """
    with workplace(directory) as place:
        path = place / "orders.braid"
        rate, head = anyio.run(_fulfil_as_they_arrive, path, seconds)
        with eb.open(path) as store:
            times = sorted(_compensation_times(store, after=head))
        syncs = _sync_times(place, seconds / 10)
    return Latency(
        name="failure recorded to compensated",
        count=len(times),
        p50=percentile(times, 50),
        p99=percentile(times, 99),
        rate=rate,
        sync_p50=percentile(syncs, 50),
        sync_p99=percentile(syncs, 99),
    )


# --- the orders' coordinator


@dataclass(frozen=True, slots=True)
class _Orders:
    """Fulfils orders.

    Attributes:
        store: The store with the orders.
        saga: How an order is fulfilled.
        coordinator: Runs the sagas.
    """

    store: eb.AsyncEventStore
    saga: eb.Saga[PlacedOrder]
    coordinator: eb.SagaCoordinator

    async def fulfil(self, placed: PlacedOrder) -> None:
        """Start the saga of an order and wait for its end."""
        saga_id = f"saga-{placed.number}"
        handle = await self.coordinator.start(self.saga, placed, id=saga_id)
        await handle.result()


@asynccontextmanager
async def _open_orders(path: Path, services: Services) -> AsyncGenerator[_Orders]:
    """Open a store with stock for all orders, and a coordinator."""
    saga = order_saga(services)
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [saga], concurrency=IN_FLIGHT) as coordinator,
    ):
        await store.append(
            [
                eb.new_event(product(number), StockReceived(_PLENTY))
                for number in range(PRODUCTS)
            ]
        )
        with _settled_heap():
            yield _Orders(store, saga, coordinator)


@contextmanager
def _settled_heap() -> Generator[None]:
    """Exclude the objects that exist by now from garbage collection.

    A full collection that walks through all of them is a pause of tens of milliseconds,
    which would be measured in place of the work.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


# --- at full speed


async def _fulfil_many(
    path: Path, placed: Iterator[PlacedOrder], seconds: float
) -> float:
    """Fulfil orders for a time, with services that write nothing to a disk."""
    async with _open_orders(path, services_in_memory()) as orders:
        return await _keep_busy(orders, placed, seconds)


async def _keep_busy(
    orders: _Orders, placed: Iterator[PlacedOrder], seconds: float
) -> float:
    """Keep 256 sagas in flight for a time, and return sagas per second."""
    ended = 0
    start = time.perf_counter()
    end = start + seconds

    async def work() -> None:
        nonlocal ended
        for order in placed:
            await orders.fulfil(order)
            ended += 1
            if time.perf_counter() >= end:
                return

    async with anyio.create_task_group() as workers:
        for _ in range(IN_FLIGHT):
            workers.start_soon(work)
    return ended / (time.perf_counter() - start)


# --- as they arrive


async def _fulfil_as_they_arrive(path: Path, seconds: float) -> tuple[float, int]:
    """Measure the capacity, then start sagas at half that rate.

    Returns:
        The rate at which they arrived, and the position after which they began.
    """
    placed = placed_orders(_SEED)
    ledger = path.with_name("ledger.braid")
    async with (
        services_on_disk(ledger, refused=_REFUSED) as services,
        _open_orders(path, services) as orders,
    ):
        rate = await _keep_busy(orders, placed, seconds * _SHARE_FOR_CAPACITY) / 2
        head = await orders.store.head()
        await _start_at_random(
            orders, placed, rate, seconds * (1 - _SHARE_FOR_CAPACITY)
        )
        return rate, head


async def _start_at_random(
    orders: _Orders, placed: Iterator[PlacedOrder], rate: float, seconds: float
) -> None:
    """Start sagas at random moments, whether or not earlier ones have ended."""
    chance = random.Random(_SEED)
    due = time.perf_counter()
    end = due + seconds
    async with anyio.create_task_group() as customers:
        for order in placed:
            due += chance.expovariate(rate)
            if due >= end:
                return
            await anyio.sleep(max(0.0, due - time.perf_counter()))
            customers.start_soon(orders.fulfil, order)


def _compensation_times(store: eb.EventStore, *, after: int) -> Iterator[float]:
    """Iterate over the seconds from each saga's failure to its end."""
    failed: dict[str, float] = {}
    for recorded in store.read_all(
        after=after, types=[*_FAILED, _COMPENSATING, _COMPENSATED]
    ):
        at = recorded.recorded_at.timestamp()
        match recorded.type:
            case "saga.compensated":
                yield at - failed.pop(recorded.stream)
            case "saga.compensation_started":
                # No step has failed if, for example, a deadline has passed.
                failed.setdefault(recorded.stream, at)
            case _:
                failed[recorded.stream] = at


def _sync_times(directory: Path, seconds: float) -> list[float]:
    """Measure single raw writes with `fdatasync`, and return their durations."""
    times: list[float] = []
    with RawDisk(directory, [bytes(_TRANSITION_BYTES)]) as raw:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end or len(times) < _MINIMUM_SAMPLES:
            raw.commit()
            times.append(time.perf_counter() - start)
    return sorted(times)
