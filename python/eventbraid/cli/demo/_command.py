"""The command `eventbraid demo`: real orders on a durable log."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventbraid.cli._exit import Exit

if TYPE_CHECKING:
    from collections.abc import Generator

    from eventbraid.examples.order_fulfilment.demo import DemoOptions

_ORDERS = 69_659
_MOST_IN_FLIGHT = 4_096
_MOST_COORDINATORS = 16
_DOUBLE_CHARGED = 0.1
_SHARE = click.FloatRange(0, 1)

_EPILOG = """\
Exit codes: 0 log and ledgers agree; 1 they do not, or a saga is stuck; 2 misuse;
3 the store, a ledger or the system refused; 130 Ctrl-C.

If it was killed or interrupted, the same DIRECTORY continues it. A directory that is or
holds a store of another program is refused.
"""


@click.command(epilog=_EPILOG)
@click.argument(
    "directory",
    required=False,
    type=click.Path(file_okay=False, path_type=Path),
)
@click.option(
    "--limit",
    type=click.IntRange(1, _ORDERS),
    help="The number of orders, the earliest first.  [default: all 69,659]",
)
@click.option(
    "--seed",
    type=int,
    help="The seed of all random choices.  [default: 1, or as begun]",
)
@click.option(
    "--stock",
    type=click.IntRange(min=1),
    help="The initial stock of each product.  [default: enough for most]",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, _MOST_IN_FLIGHT),
    default=256,
    show_default=True,
    help="The maximum number of orders in progress.",
)
@click.option(
    "--coordinators",
    type=click.IntRange(1, _MOST_COORDINATORS),
    default=1,
    show_default=True,
    help="The number of processes that fulfil the orders; each may be killed.",
)
@click.option(
    "--declined",
    type=_SHARE,
    default=0.03,
    show_default=True,
    help="Share of payments that the bank declines.",
)
@click.option(
    "--unserved",
    type=_SHARE,
    default=0.02,
    show_default=True,
    help="Share of shipments that the carrier refuses.",
)
@click.option(
    "--failing",
    type=_SHARE,
    default=0.02,
    show_default=True,
    help="Share of calls that fail, half of them after their effect.",
)
@click.option(
    "--late",
    type=_SHARE,
    default=0.0005,
    show_default=True,
    help="Share of calls that are answered after the caller's timeout.",
)
@click.option(
    "--unreachable",
    type=_SHARE,
    default=0.01,
    show_default=True,
    help="Share of customers who can't be notified at the first attempt.",
)
@click.option(
    "--self-test-double-charge",
    is_flag=True,
    help="Let the gateway charge some payments twice: must end with exit code 1.",
)
def demo(
    *,
    directory: Path | None,
    limit: int | None,
    seed: int | None,
    stock: int | None,
    in_flight: int,
    coordinators: int,
    self_test_double_charge: bool,
    **rates: float,
) -> Exit:
    """Fulfil real orders on a durable log, then reconcile it with the ledgers.

    Each of the 69,659 purchases that an online music shop's customers made in 1997 and
    1998 becomes an order: paid, reserved, shipped and completed, or compensated. The
    gateway, the carrier and the notifier are simulated, fail at the given rates, and
    record what they did in ledgers of their own.

    DIRECTORY holds the log and the ledgers; by default a new one is created.
    """
    from eventbraid.examples.order_fulfilment.demo import DemoOptions
    from eventbraid.examples.order_fulfilment.services.rates import Rates

    where = directory or Path(tempfile.mkdtemp(prefix="eventbraid-demo-"))
    options = DemoOptions(
        directory=where,
        limit=limit,
        seed=seed,
        stock=stock,
        rates=Rates(**{field.name: rates[field.name] for field in fields(Rates)}),
        in_flight=in_flight,
        coordinators=coordinators,
        double_charged=_DOUBLE_CHARGED if self_test_double_charge else 0.0,
    )
    return _run(options)


def _run(options: DemoOptions) -> Exit:
    import anyio

    from eventbraid.cli.demo._progress import watching
    from eventbraid.cli.demo._report import report
    from eventbraid.examples.order_fulfilment.demo import run_demo

    try:
        with watching(options) as watcher, _rare_collections():
            result = anyio.run(run_demo, options, watcher, backend_options=_loop())
    except KeyboardInterrupt:
        click.echo(
            f"\ninterrupted; nothing is lost. To continue:\n  {_command(options)}",
            err=True,
        )
        return Exit.INTERRUPTED
    report(result, options)
    return Exit.FINE if result.reconciliation.is_clean else Exit.OFF


@contextmanager
def _rare_collections() -> Generator[None]:
    """Collect garbage less often: the many orders in progress are not garbage.

    At the default thresholds, collections take a fifth of the time.
    """
    import gc

    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _loop() -> dict[str, object]:
    """Use uvloop if it is installed, as by the extra `eventbraid[uvloop]`."""
    from importlib.util import find_spec

    return {"use_uvloop": find_spec("uvloop") is not None}


def _command(options: DemoOptions) -> str:
    limit = "" if options.limit is None else f" --limit {options.limit}"
    many = options.coordinators
    together = "" if many == 1 else f" --coordinators {many}"
    return f"eventbraid demo {options.directory}{limit}{together}"
