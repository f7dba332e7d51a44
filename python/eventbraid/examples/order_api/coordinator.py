"""`python -m eventbraid.examples.order_api.coordinator`: fulfils the orders.

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
from ..order_fulfilment.notifications import deliver_deferred
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
    help="The directory of the ledgers of payment gateway and carrier.  [default: "
    "next to STORE]",
)
@click.option(
    "--in-flight",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="The maximum number of orders in progress; the others wait in the log.",
)
@click.option(
    "--trouble/--no-trouble",
    default=True,
    show_default=True,
    help="Whether cards are declined, answers are lost, and the carrier refuses.",
)
def main(store: Path, *, ledgers: Path | None, in_flight: int, trouble: bool) -> None:
    """Pay, reserve and ship each order in STORE; compensate those that fail.

    Orders that were placed while no coordinator was running come first. After a kill or
    an interruption, start it again: it continues where it was. Several of these
    processes fulfil orders together. One of them reads the new orders; when it ends,
    another one does so.
    """
    books = ledgers or store.with_name(f"{store.name}.ledgers")
    books.mkdir(parents=True, exist_ok=True)
    rates = USUAL_TROUBLE if trouble else NO_TROUBLE
    anyio.run(partial(_run, store, books, rates, in_flight))


def run() -> None:
    """Run the command line; print an error without its traceback."""
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(_MISUSE)
    except Exception as error:
        cause = _first_of(error)
        if not isinstance(cause, eb.EventbraidError | OSError):
            raise
        _print(f"{type(cause).__name__}: {cause}")
        sys.exit(_REFUSED)


async def _run(store: Path, books: Path, rates: Rates, in_flight: int) -> None:
    async with (
        eb.open_async(store) as opened,
        Simulation(rates=rates).services_on_disk(books) as services,
        open_shop(opened, services, concurrency=in_flight) as shop,
        # A signal cancels this group, so no further order is begun. On leaving the
        # shop, its coordinator lets the sagas finish their current actions.
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
        except eb.errors.LeaseLost:
            # Each saga is started once, even if several processes read its order.
            _print("its heartbeat was late, and another process reads the orders now")


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
        _print(f"{busy.holder} reads the orders; this process only fulfils them")
        lease = eb.AsyncLease(shop.store, _READER, wait=None)
        return await stack.enter_async_context(lease)


async def _cancel_when_lost(lease: eb.AsyncLease, scope: anyio.CancelScope) -> None:
    """Cancel the reading when the lease is lost; leaving the lease raises the error."""
    while True:
        await anyio.sleep(_CONFIRM_SECONDS)
        try:
            await lease.append([])
        except eb.errors.LeaseLost:
            scope.cancel()
            return


async def _read_orders(shop: Shop) -> None:
    # An earlier run may have left customers who are not notified yet.
    await deliver_deferred(shop.store, shop.services.notifier)
    bookmark = await Bookmark.find(shop.store)
    _print(f"fulfilling orders after position {bookmark.position:,}; Ctrl-C ends it")
    try:
        await fulfil_orders(shop, bookmark)
    finally:
        with anyio.CancelScope(shield=True):
            await bookmark.save()
        _print(f"fulfilled orders up to position {bookmark.position:,}")


async def _cancel_when_asked(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _first_of(error: BaseException) -> BaseException:
    """Return the first error of a group of errors."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return _first_of(group.exceptions[0])
    return error


def _print(text: str) -> None:
    click.echo(f"coordinator: {text}", err=True)


if __name__ == "__main__":
    run()
