"""Measurements of sagas: how many a second, and how soon a failed one is undone.

The work is that of `eventbraid.examples.order_fulfilment`, on its real orders.
"""

from __future__ import annotations

import gc
import random
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio

import eventbraid as eb
from eventbraid.cli.bench._baseline import RawDisk, workplace
from eventbraid.cli.bench._results import (
    RAW,
    Contender,
    Latency,
    Rate,
    alternate,
    percentile,
    repeated,
)
from eventbraid.examples.order_fulfilment.catalogue import (
    PRODUCTS,
    placed_order,
    product_id,
)
from eventbraid.examples.order_fulfilment.purchases import purchases
from eventbraid.examples.order_fulfilment.services.rates import NO_TROUBLE, Rates
from eventbraid.examples.order_fulfilment.services.simulation import Simulation
from eventbraid.examples.order_fulfilment.shop import open_shop
from eventbraid.examples.order_fulfilment.values import Quantity

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator
    from pathlib import Path

    from eventbraid.examples.order_fulfilment.orders import PlacedOrder
    from eventbraid.examples.order_fulfilment.services.suite import Services
    from eventbraid.examples.order_fulfilment.shop import Shop

IN_FLIGHT = 256

_SEED = 1
_PLENTY = Quantity(1_000_000)
# The carrier refuses some orders when they are paid and reserved, the bank others at
# the first step: compensations of every length.
_FAILING = Rates(declined=0.1, unserved=0.2, failing=0, late=0, unreachable=0)
_FAILED = ("saga.step_failed", "saga.step_unknown")
_UNDOING = "saga.compensation_started"
_UNDONE = "saga.compensated"
_ROUNDS = 3
_FINDING_OUT = 0.3
_FEWEST = 100
# About what one recorded transition of an order's saga takes in the log.
_TRANSITION_BYTES = 700


def measure_sagas(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Whole order fulfilments, 256 in flight, the services' ledgers in memory.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, yardstick included.

    Returns:
        Sagas a second from start to end, beside raw `pwrite` + `fdatasync` of the bytes
        of one transition.
    """
    orders = _orders()
    with ExitStack() as stack:
        place = stack.enter_context(workplace(directory))
        raw = stack.enter_context(RawDisk(place, [bytes(_TRANSITION_BYTES)]))

        def fulfil(wanted: float) -> float:
            return anyio.run(_fulfil_many, place / "sagas.braid", orders, wanted)

        return alternate(
            f"order sagas, {IN_FLIGHT} in flight",
            "sagas",
            fulfil,
            [Contender(RAW, repeated(raw.commit))],
            seconds=seconds,
            rounds=_ROUNDS,
        )


def measure_compensation(directory: Path, *, seconds: float = 10.0) -> Latency:
    """From a step's recorded failure to the saga's recorded end, all undone.

    The services' ledgers are on the same disk, durable, and about a quarter of the
    sagas fail. First the shop shows what it can do, with 256 sagas in flight; then
    sagas arrive at half that rate, at random moments, as a Poisson process. Only these
    are counted.

    Args:
        directory: An existing directory on the disk to be measured.
        seconds: How long the whole measurement may take, the first part included.

    Returns:
        The times between the two records, as the log has them, beside those of a raw
        `pwrite` + `fdatasync`.
    """
    with workplace(directory) as place:
        path = place / "shop.braid"
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


# --- orders


def _orders() -> Iterator[PlacedOrder]:
    """The real orders, one after the other."""
    return (placed_order(purchase, _SEED) for purchase in purchases())


@asynccontextmanager
async def _stocked_shop(path: Path, services: Services) -> AsyncGenerator[Shop]:
    """A shop on disk that has enough of everything."""
    async with (
        eb.open_async(path) as store,
        open_shop(store, services, concurrency=IN_FLIGHT) as shop,
    ):
        products = map(product_id, range(PRODUCTS))
        await shop.receive(products, _PLENTY, delivery="opening")
        with _settled_heap():
            yield shop


@contextmanager
def _settled_heap() -> Generator[None]:
    """Take what is there by now, the data set above all, out of garbage collection.

    A full collection that walks through all of it is a pause of tens of milliseconds,
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
    path: Path, orders: Iterator[PlacedOrder], wanted: float
) -> float:
    """Open a shop whose services have nothing to write to a disk, and keep it busy."""
    services = Simulation(rates=NO_TROUBLE, seed=_SEED).services_in_memory()
    async with _stocked_shop(path, services) as shop:
        return await _keep_busy(shop, orders, wanted)


async def _keep_busy(shop: Shop, orders: Iterator[PlacedOrder], wanted: float) -> float:
    """Keep 256 sagas in flight for a time, end them all; answer sagas a second."""
    done = 0
    start = time.perf_counter()
    end = start + wanted

    async def work() -> None:
        nonlocal done
        for order in orders:
            await shop.fulfil(order)
            done += 1
            if time.perf_counter() >= end:
                return

    async with anyio.create_task_group() as workers:
        for _ in range(IN_FLIGHT):
            workers.start_soon(work)
    return done / (time.perf_counter() - start)


# --- as they arrive


async def _fulfil_as_they_arrive(path: Path, seconds: float) -> tuple[float, int]:
    """Find out how fast the shop can be, then let sagas arrive at half that rate.

    Returns:
        The rate at which they arrived, and the position behind which they began.
    """
    orders = _orders()
    simulation = Simulation(rates=_FAILING, seed=_SEED)
    async with (
        simulation.services_on_disk(path.parent) as services,
        _stocked_shop(path, services) as shop,
    ):
        rate = await _keep_busy(shop, orders, seconds * _FINDING_OUT) / 2
        head = await shop.store.head()
        await _let_arrive(shop, orders, rate, seconds * (1 - _FINDING_OUT))
        return rate, head


async def _let_arrive(
    shop: Shop, orders: Iterator[PlacedOrder], rate: float, seconds: float
) -> None:
    """Start sagas at random moments, whether or not earlier ones have ended."""
    chance = random.Random(_SEED)
    due = time.perf_counter()
    end = due + seconds
    async with anyio.create_task_group() as customers:
        for order in orders:
            due += chance.expovariate(rate)
            if due >= end:
                return
            await anyio.sleep(max(0.0, due - time.perf_counter()))
            customers.start_soon(shop.fulfil, order)


def _compensation_times(store: eb.EventStore, *, after: int) -> Iterator[float]:
    """Seconds from the failure that undid a saga to its end, saga by saga."""
    failed: dict[str, float] = {}
    for recorded in store.read_all(after=after, types=[*_FAILED, _UNDOING, _UNDONE]):
        at = recorded.recorded_at.timestamp()
        match recorded.type:
            case "saga.compensated":
                yield at - failed.pop(recorded.stream)
            case "saga.compensation_started":
                # Also where no step failed, as when a deadline passes.
                failed.setdefault(recorded.stream, at)
            case _:
                failed[recorded.stream] = at


def _sync_times(directory: Path, seconds: float) -> list[float]:
    """How long single raw writes with `fdatasync` take."""
    times: list[float] = []
    with RawDisk(directory, [bytes(_TRANSITION_BYTES)]) as raw:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end or len(times) < _FEWEST:
            raw.commit()
            times.append(time.perf_counter() - start)
    return sorted(times)
