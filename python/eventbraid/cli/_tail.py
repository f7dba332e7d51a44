"""`eventbraid tail`: the newest events, and new ones as they are committed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import look_at_store, read_only_option
from eventbraid.cli._options import (
    EVENT_FIELDS,
    NUMBER,
    Wanted,
    filter_options,
    json_option,
)
from eventbraid.cli._store_choice import store_argument

if TYPE_CHECKING:
    import eventbraid as eb
    from eventbraid.cli._events import EventPrinter
    from eventbraid.cli._output import Output

_EPILOG = f"""\b
Examples:
  eventbraid tail shop.braid
  eventbraid tail shop.braid -n 100 --category payment
  eventbraid tail shop.braid --follow --type order.paid --json

{EVENT_FIELDS}"""

_STORE_POLL = 0.1
"""The interval in seconds of the checks for a store that does not exist yet."""
_IDENTITY = "IDENTITY"
_BEFORE_IDENTITY = {"IDENTITY.tmp", "lost+found"}
"""The files that a directory may have before its store is complete."""


@click.command(epilog=_EPILOG)
@store_argument()
@click.option(
    "-n",
    "--limit",
    type=NUMBER,
    default=10,
    show_default=True,
    help="The maximum number of existing events to print.",
)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Continue with new events until Ctrl-C; wait for the store if there is none.",
)
@filter_options
@read_only_option()
@json_option("Print JSON, one event per line.")
def tail(
    *,
    location: str,
    limit: int,
    follow: bool,
    prefix: str | None,
    category: str | None,
    types: tuple[str, ...],
    system: bool,
    read_only: bool,
    as_json: bool,
) -> Exit:
    """Print the newest events of the log, the newest last."""
    from eventbraid.cli._events import event_printer
    from eventbraid.cli._output import output

    wanted = Wanted.of(prefix, category, types, system=system)
    if follow:
        wait_for_store(location)
    with look_at_store(location, read_only=read_only) as store, output() as out:
        printer = event_printer(out, as_json=as_json)
        head = store.head()
        count = show_last(store, printer, limit, wanted, head)
        if follow:
            follow_log(store, printer, out, wanted, head)
    if not count and not as_json:
        click.echo("no events", err=True)
    return Exit.FINE


def wait_for_store(location: str) -> None:
    """Wait until another process has created the store; return at once if it exists.

    If the directory holds something else, return too: the opening refuses it.
    """
    from eventbraid.cli._output import printable

    announced = False
    while not _may_hold_a_store(location):
        if not announced:
            announced = True
            click.echo(f"waiting for a store at {printable(location)}", err=True)
        time.sleep(_STORE_POLL)


def _may_hold_a_store(location: str) -> bool:
    try:
        names = {entry.name for entry in Path(location).iterdir()}
    except FileNotFoundError:
        return False
    return bool(names) and (_IDENTITY in names or not names <= _BEFORE_IDENTITY)


def show_last(
    store: eb.EventStore, printer: EventPrinter, limit: int, wanted: Wanted, head: int
) -> int:
    """Print the last events up to the head, and return their number."""
    first = None
    # Read backward only to find the first one: any number of events needs no memory.
    for recorded in store.read_all(
        before=head + 1,
        limit=limit,
        backward=True,
        prefix=wanted.prefix,
        category=wanted.category,
        types=wanted.types,
        system=wanted.system,
    ):
        first = recorded.position
    if first is None:
        return 0
    return printer.show(
        store.read_all(
            after=first - 1,
            before=head + 1,
            prefix=wanted.prefix,
            category=wanted.category,
            types=wanted.types,
            system=wanted.system,
        )
    )


def follow_log(
    store: eb.EventStore, printer: EventPrinter, out: Output, wanted: Wanted, head: int
) -> None:
    """Print the events after the head, each as soon as it is durable."""
    out.flush()
    with store.subscribe(
        after=head,
        prefix=wanted.prefix,
        category=wanted.category,
        types=wanted.types,
        system=wanted.system,
    ) as subscription:
        for recorded in subscription:
            printer.show([recorded])
            out.flush()
