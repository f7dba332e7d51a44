"""The demo: real purchases, fulfilled on a durable log, and reconciled.

It may be killed at any moment. The next run on the same directory continues the orders
in progress, starts those that were not started, and skips those that have ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

import eventbraid as eb

from .catalogue import PRODUCTS, opening_stock, order_id, placed_order, product_id
from .coordinators import fulfil_together
from .fulfilment import CallLimits
from .notifications import deliver_deferred
from .plan import DemoPlan, DemoPlanned, PlanDemo
from .purchases import Purchase, purchases
from .reconciliation.books import name_of
from .reconciliation.verdict import Reconciliation, reconcile
from .services.rates import USUAL_TROUBLE, Rates
from .services.simulation import Simulation, payment_entries, shipping_entries
from .shop import OPENING, Shop, open_shop, receive
from .values import Quantity, SagaId

STORE = "shop.braid"
LEDGERS = "ledgers"
PLAN = "demo-plan"
DEFAULT_SEED = 1
DEMO_LIMITS = CallLimits(timeout=timedelta(seconds=2))

# The library's last event of a saga that has ended.
_ENDED = ("saga.completed", "saga.compensated")
_TICK = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to run, and how often the services fail.

    Attributes:
        directory: Where log and ledgers are; both are created on first use.
        limit: The number of orders, the earliest first; all if None.
        seed: The seed of all random choices; that of the plan, or 1, if None.
        stock: The initial stock of each product; if None that of the plan, or enough
            for most.
        rates: How often each service fails.
        in_flight: The maximum number of orders in progress.
        limits: The timeouts and retries of the shop's calls.
        late_by: The duration of a late call, in seconds.
        double_charged: The share of captures that a faulty gateway makes twice.
        coordinators: The number of processes that fulfil the orders; 1 is this one.
    """

    directory: Path
    limit: int | None = None
    seed: int | None = None
    stock: int | None = None
    rates: Rates = USUAL_TROUBLE
    in_flight: int = 256
    limits: CallLimits = DEMO_LIMITS
    late_by: float = 3.0
    double_charged: float = 0.0
    coordinators: int = 1

    @property
    def store(self) -> Path:
        """The path of the log."""
        return self.directory / STORE

    @property
    def ledgers(self) -> Path:
        """The directory of the ledgers of gateway and carrier."""
        return self.directory / LEDGERS


@dataclass(slots=True)
class Tally:
    """The progress of a run.

    Attributes:
        total: The number of orders to fulfil.
        ended_before: The number of them that ended in an earlier run.
        in_flight: The number in progress.
        outcomes: The number of each outcome in this run.
        notified_late: The number of customers who were notified only later.
        began: When this run began with orders, by `time.monotonic`.
        seconds: The duration of its orders, once all are at rest; 0 before.
        phase: The present phase of the run.
    """

    total: int = 0
    ended_before: int = 0
    in_flight: int = 0
    outcomes: Counter[eb.SagaOutcome] = field(default_factory=Counter[eb.SagaOutcome])
    notified_late: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    phase: str = "opening the store"

    @property
    def at_rest(self) -> int:
        """The number of orders that ended, or whose saga got stuck, in this run."""
        return self.outcomes.total()

    @property
    def rate(self) -> float:
        """The number of orders that came to rest, per second."""
        seconds = self.seconds or time.monotonic() - self.began
        return self.at_rest / max(seconds, 1e-9)

    def begin(self, *, total: int, ended_before: int) -> None:
        """Start the clock of the orders."""
        self.total = total
        self.ended_before = ended_before
        self.began = time.monotonic()
        self.phase = "fulfilling orders"


class Watcher(Protocol):
    """Displays the progress of a run."""

    def show(self, tally: Tally) -> None:
        """Display it; called a few times per second and after each phase."""
        ...

    def report(self, line: str) -> None:
        """Display a line of text."""
        ...


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of a run.

    Attributes:
        plan: The plan that the demo was begun with.
        tally: The progress of this run.
        reconciliation: Whether log and ledgers agree.
    """

    plan: DemoPlanned
    tally: Tally
    reconciliation: Reconciliation


async def run_demo(options: DemoOptions, watcher: Watcher) -> DemoResult:
    """Fulfil the orders that are not fulfilled yet, then reconcile all of them.

    Args:
        options: The orders to fulfil, and the failure rates of the services.
        watcher: Displays the progress.

    Raises:
        CommandRejected: The directory holds a demo with another seed or stock.
        InvalidArgument: The directory is or holds a store that no demo created.
        EventbraidError: The store cannot be opened or written.
    """
    tally = Tally()
    wanted = purchases()[: options.limit]
    # Of two demos in one directory, each would notify the customers.
    mode: eb.store.StoreMode = "exclusive" if options.coordinators == 1 else "shared"
    await _refuse_other_stores(options, mode)
    options.ledgers.mkdir(parents=True, exist_ok=True)
    async with eb.open_async(options.store, mode=mode) as store:
        # Checked again: the read-only view omits events that a crash left unproven.
        await _refuse_other_store(store, options)
        plan = await _plan(store, options, wanted)
        stuck = await _fulfil_wanted(store, options, plan, wanted, tally, watcher)
        tally.phase = "reconciling"
        watcher.show(tally)
        verdict = await anyio.to_thread.run_sync(
            partial(_reconcile, store.as_sync(), options, wanted, stuck)
        )
    return DemoResult(plan, tally, verdict)


async def _refuse_other_stores(options: DemoOptions, mode: eb.store.StoreMode) -> None:
    """Raise if the directory is or holds a store that no demo created.

    The stores are opened read-only: nothing of a user's store is changed, and no file
    is put beside its own.
    """
    if await _is_store(options.directory, mode):
        raise _other_store(options)
    try:
        async with eb.open_async(options.store, read_only=True, mode=mode) as store:
            await _refuse_other_store(store, options)
    except eb.errors.NotAStore:
        return


async def _is_store(directory: Path, mode: eb.store.StoreMode) -> bool:
    try:
        async with eb.open_async(directory, read_only=True, mode=mode, lock_timeout=0):
            return True
    except eb.StoreBusy:
        return True
    except eb.errors.NotAStore:
        return False


async def _refuse_other_store(store: eb.AsyncEventStore, options: DemoOptions) -> None:
    """Raise if the store has events, and the first one is not the plan of a demo."""
    first = [(r.stream, r.type) async for r in store.read_all(limit=1)]
    if first and first != [(PLAN, eb.event_type(DemoPlanned))]:
        raise _other_store(options)


def _other_store(options: DemoOptions) -> eb.errors.InvalidArgument:
    return eb.errors.InvalidArgument(
        "directory",
        str(options.directory),
        "it is or holds an event store that the demo did not create; give a directory "
        "of its own, or none to use a new one",
    )


async def _plan(
    store: eb.AsyncEventStore, options: DemoOptions, wanted: Sequence[Purchase]
) -> DemoPlanned:
    plan = await planned(store) or DemoPlanned(DEFAULT_SEED, opening_stock(wanted))
    seed = plan.seed if options.seed is None else options.seed
    stock = plan.stock if options.stock is None else Quantity(options.stock)
    await eb.AsyncExecutor(store).execute(PlanDemo(plan=PLAN, seed=seed, stock=stock))
    return DemoPlanned(seed, stock)


async def _fulfil_wanted(
    store: eb.AsyncEventStore,
    options: DemoOptions,
    plan: DemoPlanned,
    wanted: Sequence[Purchase],
    tally: Tally,
    watcher: Watcher,
) -> list[str]:
    """Open the shop, fulfil its orders, and return the ids of stuck sagas."""
    simulation = simulation_of(options, plan.seed)
    if options.coordinators > 1:
        await _fulfil_in_processes(store, options, plan, wanted, tally, watcher)
    async with (
        simulation.services_on_disk(options.ledgers) as services,
        open_shop(
            store,
            services,
            limits=options.limits,
            concurrency=options.in_flight,
        ) as shop,
    ):
        if options.coordinators == 1:
            tally.phase = "opening the shop"
            watcher.show(tally)
        await _receive(store, plan)
        # An earlier run may have left customers who are not notified yet.
        await _deliver_deferred(shop, tally)
        todo = await unfinished(store, wanted)
        if options.coordinators == 1:
            tally.begin(total=len(wanted), ended_before=len(wanted) - len(todo))
        async with _shown(tally, watcher):
            await fulfil_all(shop, todo, plan.seed, options.in_flight, tally)
        stuck = await shop.finish()
        tally.seconds = time.monotonic() - tally.began
        tally.phase = "notifying customers again who could not be reached"
        watcher.show(tally)
        await _deliver_deferred(shop, tally)
        return stuck


async def _fulfil_in_processes(
    store: eb.AsyncEventStore,
    options: DemoOptions,
    plan: DemoPlanned,
    wanted: Sequence[Purchase],
    tally: Tally,
    watcher: Watcher,
) -> None:
    """Fulfil the orders by processes of their own."""
    async with simulation_of(options, plan.seed).services_on_disk(options.ledgers):
        # The files exist now, so no two processes create them at the same time.
        await _receive(store, plan)
    todo = await unfinished(store, wanted)
    tally.begin(total=len(wanted), ended_before=len(wanted) - len(todo))
    async with _shown(tally, watcher):
        await fulfil_together(store, options, tally, watcher.report)


def simulation_of(options: DemoOptions, seed: int) -> Simulation:
    """Build the services of a demo."""
    return Simulation(
        rates=options.rates,
        seed=seed,
        late_by=options.late_by,
        double_charged=options.double_charged,
    )


async def planned(store: eb.AsyncEventStore) -> DemoPlanned | None:
    """Return the plan of a demo that was begun; None if none was."""
    return (await eb.AsyncExecutor(store).load(DemoPlan(PLAN))).state


async def unfinished(
    store: eb.AsyncEventStore, wanted: Sequence[Purchase]
) -> list[Purchase]:
    """Return the orders that have not ended."""
    ended = {recorded.stream async for recorded in store.read_all(types=_ENDED)}
    return [p for p in wanted if SagaId.of(order_id(p.number)) not in ended]


async def _receive(store: eb.AsyncEventStore, plan: DemoPlanned) -> None:
    products = [product_id(number) for number in range(PRODUCTS)]
    await receive(store, products, plan.stock, delivery=OPENING)


async def _deliver_deferred(shop: Shop, tally: Tally) -> None:
    delivered, _ = await deliver_deferred(shop.store, shop.services.notifier)
    tally.notified_late += delivered


async def fulfil_all(
    shop: Shop, todo: Sequence[Purchase], seed: int, in_flight: int, tally: Tally
) -> None:
    """Fulfil orders, up to a number at the same time, and count them."""
    queue = iter(todo)
    async with anyio.create_task_group() as workers:
        for _ in range(min(in_flight, len(todo))):
            workers.start_soon(_fulfil_next, shop, queue, seed, tally)


@asynccontextmanager
async def _shown(tally: Tally, watcher: Watcher) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as ticker:
        ticker.start_soon(_show_now_and_then, tally, watcher)
        yield
        ticker.cancel_scope.cancel()


async def _fulfil_next(
    shop: Shop, queue: Iterator[Purchase], seed: int, tally: Tally
) -> None:
    for purchase in queue:
        tally.in_flight += 1
        ended = await shop.fulfil(placed_order(purchase, seed))
        tally.in_flight -= 1
        tally.outcomes[ended.outcome] += 1


async def _show_now_and_then(tally: Tally, watcher: Watcher) -> None:
    while True:
        watcher.show(tally)
        await anyio.sleep(_TICK)


def _reconcile(
    store: eb.EventStore,
    options: DemoOptions,
    wanted: Sequence[Purchase],
    stuck: Sequence[str],
) -> Reconciliation:
    return reconcile(
        store,
        payments=payment_entries(options.ledgers),
        shipping=shipping_entries(options.ledgers),
        expected={name_of(order_id(p.number)): p.cents for p in wanted},
        stuck=stuck,
    )
