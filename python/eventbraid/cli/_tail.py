"""`eventbraid tail`: the newest events, and those that come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import (
    look_at_store,
    read_only_option,
    store_argument,
)
from eventbraid.cli._options import (
    EVENT_FIELDS,
    NUMBER,
    Wanted,
    filter_options,
    json_option,
)

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


@click.command(epilog=_EPILOG)
@store_argument()
@click.option(
    "-n",
    "--limit",
    type=NUMBER,
    default=10,
    show_default=True,
    help="How many events that are there to print.",
)
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with new events, until Ctrl-C."
)
@filter_options
@read_only_option()
@json_option("Print JSON, one event a line.")
def tail(
    *,
    location: str,
    limit: int,
    follow: bool,
    prefix: str | None,
    category: str | None,
    types: tuple[str, ...],
    read_only: bool,
    as_json: bool,
) -> Exit:
    """Print the newest events of the log, the newest last."""
    from eventbraid.cli._events import event_printer
    from eventbraid.cli._output import output

    wanted = Wanted.of(prefix, category, types)
    with look_at_store(location, read_only=read_only) as store, output() as out:
        printer = event_printer(out, as_json=as_json)
        head = store.head()
        count = show_last(store, printer, limit, wanted, head)
        if follow:
            follow_log(store, printer, out, wanted, head)
    if not count and not as_json:
        click.echo("no events", err=True)
    return Exit.FINE


def show_last(
    store: eb.EventStore, printer: EventPrinter, limit: int, wanted: Wanted, head: int
) -> int:
    """Print the last events up to the head, and answer how many there were."""
    first = None
    # Backward only to find where they begin: however many, they need no memory.
    for recorded in store.read_all(
        before=head + 1,
        limit=limit,
        backward=True,
        prefix=wanted.prefix,
        category=wanted.category,
        types=wanted.types,
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
        )
    )


def follow_log(
    store: eb.EventStore, printer: EventPrinter, out: Output, wanted: Wanted, head: int
) -> None:
    """Print what comes after the head, each event as soon as it is there."""
    out.flush()
    with store.subscribe(
        after=head,
        prefix=wanted.prefix,
        category=wanted.category,
        types=wanted.types,
    ) as subscription:
        for recorded in subscription:
            printer.show([recorded])
            out.flush()
