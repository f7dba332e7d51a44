"""`eventbraid saga`: what happened to orders, and which wait for a person."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

import eventbraid as eb
from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STATUS_OF = {
    "saga.started": "running",
    "saga.compensation_started": "compensating",
    "saga.stuck": "stuck",
    "saga.retried_by_hand": "running",
    "saga.skipped_by_hand": "running",
    "saga.completed": "completed",
    "saga.compensated": "compensated",
}
_DEMO_STORE = "shop.braid"

_store_option = click.option(
    "--store",
    "directory",
    required=True,
    envvar="EVENTBRAID_STORE",
    show_envvar=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The store's directory, or that of a demo.",
)


@click.group()
def saga() -> None:
    """Show sagas: what happened to one, which there are, which are stuck."""


@saga.command()
@click.argument("identifier", metavar="ID")
@_store_option
def show(identifier: str, directory: Path) -> Exit:
    """Print the timeline of one saga.

    ID is a saga's id, an order's id, or the number of an order of the demo.
    """
    from eventbraid.cli._timeline import print_timeline

    with _open(directory) as store:
        timeline = eb.read_timeline(store, _saga_id(identifier))
    print_timeline(timeline)
    return Exit.OFF if timeline.outcome is eb.Outcome.STUCK else Exit.FINE


@saga.command("list")
@_store_option
@click.option(
    "--status",
    type=click.Choice(sorted(set(_STATUS_OF.values()))),
    help="Only sagas that stand so.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many to name.",
)
def list_(directory: Path, status: str | None, limit: int) -> Exit:
    """Count the sagas by where they stand, and name some."""
    with _open(directory) as store:
        standing = _standing(store)
    for name, count in sorted(Counter(standing.values()).items()):
        click.echo(f"{count:>9,} {name}")
    chosen = [s for s, name in standing.items() if status in {None, name}]
    for saga_id in chosen[:limit]:
        click.echo(f"{saga_id}  {standing[saga_id]}")
    if len(chosen) > limit:
        click.echo(f"and {len(chosen) - limit:,} more; name them with --limit")
    return Exit.FINE


@saga.command()
@_store_option
def stuck(directory: Path) -> Exit:
    """Name the sagas that wait for a person; exit code 1 if there are any."""
    with _open(directory) as store:
        found = [
            eb.read_timeline(store, saga_id)
            for saga_id, name in _standing(store).items()
            if name == "stuck"
        ]
    for timeline in found:
        click.echo(f"{timeline.saga_id}  {timeline.saga}: {timeline.failure}")
    if not found:
        click.echo("no saga is stuck")
    return Exit.OFF if found else Exit.FINE


def _open(directory: Path) -> eb.EventStore:
    nested = directory / _DEMO_STORE
    return open_store(str(nested if nested.is_dir() else directory))


def _saga_id(identifier: str) -> str:
    """The saga of an order, given by its saga, its id, or its number in the demo."""
    if identifier.isascii() and identifier.isdigit():
        from eventbraid.examples.order_fulfilment.catalogue import order_id

        identifier = order_id(int(identifier))
    if identifier.startswith("order-"):
        return f"saga-{identifier.removeprefix('order-')}"
    return identifier


def _standing(store: eb.EventStore) -> dict[str, str]:
    return dict(_transitions(store.read_all(types=list(_STATUS_OF))))


def _transitions(log: Iterable[eb.RecordedEvent]) -> Iterator[tuple[str, str]]:
    for recorded in log:
        yield recorded.stream, _STATUS_OF[recorded.type]
