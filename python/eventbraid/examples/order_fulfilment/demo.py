"""The demo: real purchases, fulfilled on a durable log, and reconciled.

It may be killed at any moment. The next run on the same directory goes on with the
orders under way, starts those that were not, and leaves alone those that have ended.
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
from .fulfilment import Patience
from .notifications import tell_the_untold
from .plan import DemoPlanned, PlanDemo
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
DEMO_PATIENCE = Patience(timeout=timedelta(seconds=2))

# How the library ends a saga in its stream.
_ENDED = ("saga.completed", "saga.compensated")
_TICK = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to run, and against which odds.

    Attributes:
        directory: Where log and ledgers are; both are made on first use.
        limit: How many orders, the earliest first; all if None.
        seed: Which course of events; that of the plan, or 1, if None.
        stock: Pieces of each product to begin with; if None that of the plan, or
            enough for most.
        rates: How often which service misbehaves.
        in_flight: How many orders are under way at once.
        patience: How long and how often the shop tries.
        late_by: How many seconds a late call takes.
        double_charged: The share of captures that a faulty gateway makes twice.
        coordinators: How many processes fulfil the orders; with 1 it is this one.
    """

    directory: Path
    limit: int | None = None
    seed: int | None = None
    stock: int | None = None
    rates: Rates = USUAL_TROUBLE
    in_flight: int = 256
    patience: Patience = DEMO_PATIENCE
    late_by: float = 3.0
    double_charged: float = 0.0
    coordinators: int = 1

    @property
    def store(self) -> Path:
        """Where the log is."""
        return self.directory / STORE

    @property
    def ledgers(self) -> Path:
        """Where the ledgers of gateway and carrier are."""
        return self.directory / LEDGERS


@dataclass(slots=True)
class Tally:
    """How far a run is.

    Attributes:
        total: How many orders are to be fulfilled.
        ended_before: How many of them an earlier run brought to their end.
        in_flight: How many are under way.
        outcomes: How many came to which end in this run.
        told_late: How many customers could be told only later.
        began: When this run began with orders, by `time.monotonic`.
        seconds: How long its orders took, once they are done; 0 before.
        phase: What the run is at.
    """

    total: int = 0
    ended_before: int = 0
    in_flight: int = 0
    outcomes: Counter[eb.Outcome] = field(default_factory=Counter[eb.Outcome])
    told_late: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    phase: str = "opening the store"

    @property
    def ended(self) -> int:
        """How many orders this run brought to their end."""
        return self.outcomes.total()

    @property
    def rate(self) -> float:
        """How many orders a second came to their end."""
        seconds = self.seconds or time.monotonic() - self.began
        return self.ended / max(seconds, 1e-9)

    def begin(self, *, total: int, ended_before: int) -> None:
        """Begin with the orders."""
        self.total = total
        self.ended_before = ended_before
        self.began = time.monotonic()
        self.phase = "fulfilling orders"


class Watcher(Protocol):
    """Shows people how far a run is."""

    def show(self, tally: Tally) -> None:
        """Show it; called a few times a second and after each phase."""
        ...

    def tell(self, line: str) -> None:
        """Print a line that is no figure."""
        ...


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of a run.

    Attributes:
        plan: What the demo was begun with.
        tally: What this run did.
        reconciliation: Whether log and ledgers agree.
    """

    plan: DemoPlanned
    tally: Tally
    reconciliation: Reconciliation


async def run_demo(options: DemoOptions, watcher: Watcher) -> DemoResult:
    """Fulfil the orders that are not fulfilled yet, then reconcile all of them.

    Args:
        options: What to run, and against which odds.
        watcher: Shows people how far it is.

    Raises:
        CommandRejected: The directory holds a demo with another seed or stock.
        InvalidArgument: The directory is or holds a store that no demo created.
        EventbraidError: The store cannot be opened or written.
    """
    tally = Tally()
    wanted = purchases()[: options.limit]
    # Of two demos in one directory, each would notify the customers.
    mode: eb.StoreMode = "exclusive" if options.coordinators == 1 else "shared"
    await _refuse_other_stores(options, mode)
    _make_room(options)
    async with eb.open_async(options.store, mode=mode) as store:
        # Again: the read-only view omits events that a crash left unproven.
        await _refuse_other_store(store, options)
        plan = await _plan(store, options, wanted)
        stuck = await _trade(store, options, plan, wanted, tally, watcher)
        tally.phase = "reconciling"
        watcher.show(tally)
        verdict = await anyio.to_thread.run_sync(
            partial(_reconcile, store.as_sync(), options, wanted, stuck)
        )
    return DemoResult(plan, tally, verdict)


async def _refuse_other_stores(options: DemoOptions, mode: eb.StoreMode) -> None:
    """Raise if the directory is or holds a store that no demo created.

    The stores are opened read-only: nothing of a user's store is changed, and no file
    is put beside its own.
    """
    if await _is_store(options.directory, mode):
        raise _other_store(options)
    try:
        async with eb.open_async(options.store, read_only=True, mode=mode) as store:
            await _refuse_other_store(store, options)
    except eb.NotAStore:
        return


async def _is_store(directory: Path, mode: eb.StoreMode) -> bool:
    try:
        async with eb.open_async(directory, read_only=True, mode=mode, lock_timeout=0):
            return True
    except eb.StoreBusy:
        return True
    except eb.NotAStore:
        return False


async def _refuse_other_store(store: eb.AsyncEventStore, options: DemoOptions) -> None:
    """Raise if the store has events, and the first one is not the plan of a demo."""
    first = [(r.stream, r.type) async for r in store.read_all(limit=1)]
    if first and first != [(PLAN, eb.event_type(DemoPlanned))]:
        raise _other_store(options)


def _other_store(options: DemoOptions) -> eb.InvalidArgument:
    return eb.InvalidArgument(
        "directory",
        str(options.directory),
        "it is or holds an event store that the demo did not create; give a directory "
        "of its own, or none to use a new one",
    )


def _make_room(options: DemoOptions) -> None:
    options.ledgers.mkdir(parents=True, exist_ok=True)


async def _plan(
    store: eb.AsyncEventStore, options: DemoOptions, wanted: Sequence[Purchase]
) -> DemoPlanned:
    plan = await planned(store) or DemoPlanned(DEFAULT_SEED, opening_stock(wanted))
    seed = plan.seed if options.seed is None else options.seed
    stock = plan.stock if options.stock is None else Quantity(options.stock)
    await eb.AsyncExecutor(store).execute(PlanDemo(plan=PLAN, seed=seed, stock=stock))
    return DemoPlanned(seed, stock)


async def _trade(
    store: eb.AsyncEventStore,
    options: DemoOptions,
    plan: DemoPlanned,
    wanted: Sequence[Purchase],
    tally: Tally,
    watcher: Watcher,
) -> list[str]:
    """Open the shop, fulfil what is to be fulfilled, and name the sagas left stuck."""
    simulation = simulation_of(options, plan.seed)
    if options.coordinators > 1:
        await _trade_together(store, options, plan, wanted, tally, watcher)
    async with (
        simulation.services_on_disk(options.ledgers) as services,
        open_shop(
            store,
            services,
            patience=options.patience,
            concurrency=options.in_flight,
        ) as shop,
    ):
        if options.coordinators == 1:
            tally.phase = "opening the shop"
            watcher.show(tally)
        await _receive(store, plan)
        # An earlier run may have left customers who are still to be told.
        await _tell(shop, tally)
        todo = await unfinished(store, wanted)
        if options.coordinators == 1:
            tally.begin(total=len(wanted), ended_before=len(wanted) - len(todo))
        async with _shown(tally, watcher):
            await fulfil_all(shop, todo, plan.seed, options.in_flight, tally)
        stuck = await shop.finish()
        tally.seconds = time.monotonic() - tally.began
        tally.phase = "telling customers who could not be told at once"
        watcher.show(tally)
        await _tell(shop, tally)
        return stuck


async def _trade_together(
    store: eb.AsyncEventStore,
    options: DemoOptions,
    plan: DemoPlanned,
    wanted: Sequence[Purchase],
    tally: Tally,
    watcher: Watcher,
) -> None:
    """Have the orders fulfilled by processes of their own."""
    async with simulation_of(options, plan.seed).services_on_disk(options.ledgers):
        # The files are there now, and no two processes make them at once.
        await _receive(store, plan)
    todo = await unfinished(store, wanted)
    tally.begin(total=len(wanted), ended_before=len(wanted) - len(todo))
    async with _shown(tally, watcher):
        await fulfil_together(store, options, tally, watcher.tell)


def simulation_of(options: DemoOptions, seed: int) -> Simulation:
    """Make the services that a demo is run against."""
    return Simulation(
        rates=options.rates,
        seed=seed,
        late_by=options.late_by,
        double_charged=options.double_charged,
    )


async def planned(store: eb.AsyncEventStore) -> DemoPlanned | None:
    """Return the plan of a demo that was begun; None if none was."""
    known = [eb.decode_event(r) async for r in store.read_stream(PLAN, limit=1)]
    return known[0] if known and isinstance(known[0], DemoPlanned) else None


async def unfinished(
    store: eb.AsyncEventStore, wanted: Sequence[Purchase]
) -> list[Purchase]:
    """Return the orders that have not ended."""
    ended = {recorded.stream async for recorded in store.read_all(types=_ENDED)}
    return [p for p in wanted if SagaId.of(order_id(p.number)) not in ended]


async def _receive(store: eb.AsyncEventStore, plan: DemoPlanned) -> None:
    products = [product_id(number) for number in range(PRODUCTS)]
    await receive(store, products, plan.stock, delivery=OPENING)


async def _tell(shop: Shop, tally: Tally) -> None:
    told, _ = await tell_the_untold(shop.store, shop.services.notifier)
    tally.told_late += told


async def fulfil_all(
    shop: Shop, todo: Sequence[Purchase], seed: int, in_flight: int, tally: Tally
) -> None:
    """Fulfil orders, so many at once, and count them."""
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
