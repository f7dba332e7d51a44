"""`python -m eventbraid.examples.ingest_orders`: load real purchases, read them back.

Exit codes: 0 all purchases were stored and read back; 1 the purchases that were read
back differ; 2 misuse, or the store holds these purchases in commits of another size;
3 the store or the system refused; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import anyio
import click

import eventbraid as eb

from ..order_fulfilment.purchases import ROWS, purchases
from .history import Commit, Plan
from .load import Loaded, load, usual_in_flight
from .progress import Watcher, watching
from .read_back import ReadBack, read_back
from .report import Report, print_json, print_table

_MOST_IN_FLIGHT = 4_096
_LARGEST_COMMIT = 10_000
_WRONG, _MISUSE, _REFUSED, _INTERRUPTED = 1, 2, 3, 130


@click.command(
    epilog=(__doc__ or "").split("\n\n", 1)[1],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("store", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--commit-size",
    type=click.IntRange(1, _LARGEST_COMMIT),
    default=1_000,
    show_default=True,
    help="The number of purchases in a commit.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, _MOST_IN_FLIGHT),
    help="The maximum number of commits in flight.  [default: as many as hold 8,192 "
    "purchases together, 4 to 256]",
)
@click.option(
    "--limit",
    type=click.IntRange(1, ROWS),
    help="The number of purchases, the earliest first.  [default: all 69,659]",
)
@click.option(
    "--acks",
    metavar="FILE|-",
    help="Write the number of each acknowledged commit to a file, at once, one per "
    "line; - is standard output.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    store: Path,
    *,
    commit_size: int,
    in_flight: int | None,
    limit: int | None,
    acks: str | None,
    as_json: bool,
) -> None:
    """Load the purchases that an online music shop's customers made, one event each.

    Each of the 23,570 customers has a stream in STORE, a directory that is created on
    first use. After a kill or an interruption, start the load again on the same STORE
    with the same --commit-size: it continues. Then every stream is read back, and the
    purchases are counted and summed.
    """
    plan = Plan(purchases()[:limit], commit_size)
    lanes = in_flight or usual_in_flight(commit_size)
    with ExitStack() as open_things:
        note = open_things.enter_context(_journal(acks)) if acks else _ignore
        watcher = open_things.enter_context(watching())
        opened = open_things.enter_context(eb.open(store))
        loaded = _load(opened, plan, lanes, watcher, note)
        found = _read_back(opened, plan, watcher)
        log_bytes = opened.stats().bytes
    report = Report(commit_size, lanes, loaded, found, log_bytes)
    if as_json:
        print_json(report)
    else:
        # Standard output has the acknowledgements.
        print_table(report, stderr=acks == "-")
    sys.exit(_WRONG if found.findings else 0)


def run() -> None:
    """Run the command line; print an error without its traceback."""
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(_MISUSE)
    except (KeyboardInterrupt, click.Abort):
        _print("interrupted; nothing is lost: start it again to continue")
        sys.exit(_INTERRUPTED)
    except eb.errors.IdempotencyMismatch:
        _print(
            "the load in this store was begun with another --commit-size or --limit; "
            "give the same ones, or another STORE"
        )
        sys.exit(_MISUSE)
    except (eb.EventbraidError, OSError) as error:
        _print(f"{type(error).__name__}: {error}")
        sys.exit(_REFUSED)


def _load(
    store: eb.EventStore, plan: Plan, in_flight: int, watcher: Watcher, note: _Note
) -> Loaded:
    def acknowledge(commit: Commit) -> None:
        note(commit.number)
        watcher.advance(len(commit.events))

    watcher.begin("loading purchases", len(plan.purchases))
    wanted = partial(load, in_flight=in_flight, acknowledge=acknowledge)
    return anyio.run(wanted, store.as_async(), plan)


def _read_back(store: eb.EventStore, plan: Plan, watcher: Watcher) -> ReadBack:
    customers = {purchase.customer for purchase in plan.purchases}
    watcher.begin("reading streams back", len(customers))
    return read_back(store, plan.purchases, advance=watcher.advance)


_Note = Callable[[int], None]


def _ignore(_: int) -> None:
    """Do nothing: there is no file for the numbers."""


@contextmanager
def _journal(place: str) -> Generator[_Note]:
    """Open the file for the numbers, unbuffered, so that they survive a kill."""
    if place == "-":
        yield partial(_note, sys.stdout.fileno())
        return
    with Path(place).open("ab", buffering=0) as journal:
        yield partial(_note, journal.fileno())


def _note(descriptor: int, number: int) -> None:
    os.write(descriptor, b"%d\n" % number)


def _print(text: str) -> None:
    sys.stderr.write(f"ingest_orders: {text}\n")


if __name__ == "__main__":
    run()
