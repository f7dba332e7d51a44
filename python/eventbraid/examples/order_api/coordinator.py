"""`python -m eventbraid.examples.order_api.coordinator`: fulfils what was ordered.

Exit codes: 0 it was asked to end; 2 misuse; 3 the store or the system refused.
"""

from __future__ import annotations

import signal
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import click
from anyio.abc import TaskStatus

import eventbraid as eb

from ..order_fulfilment.catalogue import PRODUCTS, product_id
from ..order_fulfilment.notifications import tell_the_untold
from ..order_fulfilment.services.rates import NO_TROUBLE, USUAL_TROUBLE, Rates
from ..order_fulfilment.services.simulation import Simulation
from ..order_fulfilment.shop import Shop, open_shop
from ..order_fulfilment.values import Quantity
from .bookmark import Bookmark
from .fulfilling import fulfil_orders

_MISUSE, _REFUSED = 2, 3

_STOCK = Quantity(1_000_000)
_DELIVERY = "order-api-opening"
_READER = "order-api-reader"
_CONFIRM_SECONDS = 2.0


@click.command(
    epilog=(__doc__ or "").split("\n\n", 1)[1],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("store", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--ledgers",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the payment gateway and the carrier keep their books.  [default: "
    "beside STORE]",
)
@click.option(
    "--in-flight",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="How many orders are under way at once; the others wait in the log.",
)
@click.option(
    "--trouble/--no-trouble",
    default=True,
    show_default=True,
    help="Whether cards are declined, answers get lost, and carriers refuse.",
)
def main(store: Path, *, ledgers: Path | None, in_flight: int, trouble: bool) -> None:
    """Pay, pack and ship each order in STORE, and undo what cannot be finished.

    Orders that were taken while nobody fulfilled them come first. Killed or
    interrupted, it goes on where it was: start it again. Of several, all fulfil, and
    one reads what is ordered; when that one ends, another takes its part.
    """
    books = ledgers or store.with_name(f"{store.name}.ledgers")
    books.mkdir(parents=True, exist_ok=True)
    rates = USUAL_TROUBLE if trouble else NO_TROUBLE
    anyio.run(partial(_run, store, books, rates, in_flight))


def run() -> None:
    """Run the command line, and tell errors to people instead of traces."""
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(_MISUSE)
    except Exception as error:
        cause = _first_of(error)
        if not isinstance(cause, eb.EventbraidError | OSError):
            raise
        _say(f"{type(cause).__name__}: {cause}")
        sys.exit(_REFUSED)


async def _run(store: Path, books: Path, rates: Rates, in_flight: int) -> None:
    async with (
        eb.open_async(store) as opened,
        Simulation(rates=rates).services_on_disk(books) as services,
        open_shop(opened, services, concurrency=in_flight) as shop,
        # Asked to end, no more is begun; left, the shop finishes what is under way.
        anyio.create_task_group() as tasks,
    ):
        await tasks.start(_cancel_when_asked, tasks.cancel_scope)
        await _fulfil(shop)


async def _fulfil(shop: Shop) -> None:
    products = [product_id(number) for number in range(PRODUCTS)]
    await shop.receive(products, _STOCK, delivery=_DELIVERY)
    while True:
        try:
            await _read_orders_in_turn(shop)
        except eb.LeaseLost:
            # Each saga is started once, however many read its order.
            _say("was silent too long, and another one reads the orders by now")


async def _read_orders_in_turn(shop: Shop) -> None:
    async with AsyncExitStack() as stack:
        lease = await _become_reader(shop, stack)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_when_lost, lease, tasks.cancel_scope)
            await _read_orders(shop)


async def _become_reader(shop: Shop, stack: AsyncExitStack) -> eb.AsyncLease:
    """Acquire the lease for reading orders; sagas are driven while it waits."""
    try:
        return await stack.enter_async_context(eb.AsyncLease(shop.store, _READER))
    except eb.LeaseHeld as busy:
        _say(f"{busy.holder} reads the orders; fulfilling with it, and standing by")
        lease = eb.AsyncLease(shop.store, _READER, wait=None)
        return await stack.enter_async_context(lease)


async def _cancel_when_lost(lease: eb.AsyncLease, scope: anyio.CancelScope) -> None:
    """Stop the reading when another one has the lease; that is told on leaving it."""
    while True:
        await anyio.sleep(_CONFIRM_SECONDS)
        try:
            await lease.append([])
        except eb.LeaseLost:
            scope.cancel()
            return


async def _read_orders(shop: Shop) -> None:
    # An earlier run may have left customers who are still to be told.
    await tell_the_untold(shop.store, shop.services.notifier)
    bookmark = await Bookmark.find(shop.store)
    _say(f"fulfilling orders behind position {bookmark.position:,}; Ctrl-C ends it")
    try:
        await fulfil_orders(shop, bookmark)
    finally:
        with anyio.CancelScope(shield=True):
            await bookmark.note()
        _say(f"fulfilled orders up to position {bookmark.position:,}")


async def _cancel_when_asked(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _first_of(error: BaseException) -> BaseException:
    """What went wrong first, out of a group of what went wrong with it."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return _first_of(group.exceptions[0])
    return error


def _say(text: str) -> None:
    click.echo(f"coordinator: {text}", err=True)


if __name__ == "__main__":
    run()
