"""The command `eventbraid bench`: measurements beside baselines and targets."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventbraid.cli._exit import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from eventbraid.cli.bench._rows import Result, Row

# Repeated here, so that `--help` imports no measurement.
_KEYS = (
    "commands",
    "sagas",
    "batches",
    "compensation",
    "append",
    "objects",
    "threads",
    "tasks",
    "replay",
    "open",
    "concurrent",
    "transfers",
    "hot",
    "hot-processes",
    "first",
    "cache",
    "codec",
)


@dataclass(frozen=True, slots=True)
class _Done:
    row: Row
    result: Result


@click.command()
@click.argument(
    "directory",
    required=False,
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=2),
    default=140.0,
    show_default=True,
    help="The approximate duration of all measurements together.",
)
@click.option(
    "--only",
    "keys",
    type=click.Choice(_KEYS),
    multiple=True,
    help="Measure this row; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row.")
def bench(
    *, directory: Path | None, seconds: float, keys: tuple[str, ...], as_json: bool
) -> Exit:
    """Measure durable work on this machine, beside baselines of the same run.

    Most rows alternate with a raw write and fdatasync of the same bytes, or with
    sqlite3, on the disk that holds DIRECTORY (by default the current one). Each row is
    compared with its target. Four rows are shown beside the numbers that EventCore, the
    Rust library whose model Eventbraid follows, states in its documents. The stores are
    created in a new directory there, which is removed at the end.
    """
    from eventbraid.cli.bench._machine import describe_machine

    where = directory or Path.cwd()
    machine = describe_machine(where)
    if not as_json:
        click.echo(machine)
    with tempfile.TemporaryDirectory(prefix="eventbraid-bench-", dir=where) as created:
        done = _each(Path(created), seconds, keys)
        if as_json:
            for one in done:
                click.echo(json.dumps(_json(one, machine)))
        else:
            _print(list(done))
    return Exit.FINE


def _each(directory: Path, seconds: float, keys: tuple[str, ...]) -> Iterator[_Done]:
    """Measure row by row, and print the name of each to the standard error."""
    from eventbraid.cli.bench._rows import chosen, seconds_each

    for row, share in seconds_each(chosen(keys), seconds):
        click.echo(f"measuring {row.what} ...", err=True)
        yield _Done(row, row.measure(directory, seconds=share))


def _json(done: _Done, machine: str) -> dict[str, object]:
    return {
        "row": done.row.key,
        "name": done.result.name,
        "machine": machine,
        "figures": done.result.numbers(),
        "targets": [target.json() for target in done.result.targets],
        "eventcore_states": done.row.stated,
    }


def _print(done: list[_Done]) -> None:
    from eventbraid.cli._console import console

    out = console()
    stated = [
        (one.row.what, one.row.stated, one.result.summary())
        for one in done
        if one.row.stated is not None
    ]
    targets = [
        (f"{one.row.what}, {t.what}", t.formatted(), t.formatted_bound(), t.status())
        for one in done
        for t in one.result.targets
    ]
    for headings, rows in (
        (("", "EventCore states", "Eventbraid, here"), stated),
        (("", "here", "target", ""), targets),
    ):
        if rows:
            out.print()
            out.print(_table(headings, rows))
    out.print()
    for one in done:
        for line in one.result.lines():
            out.print(line, markup=False)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
