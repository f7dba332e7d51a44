"""`eventbraid bench`: EventCore's stated figures, and ours on this machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventbraid.cli._exit import Exit

if TYPE_CHECKING:
    from eventbraid.cli._figures import Latency, Rate

_STATED_COMMANDS = "86/s"
_STATED_SAGAS = "25-50/s (estimate)"
_STATED_EVENTS = "9,000+/s"
_STATED_COMPENSATION = "< 100 ms"
_PARTS = 4


@dataclass(frozen=True, slots=True)
class _Row:
    what: str
    stated: str
    ours: str
    lines: list[str]


@click.command()
@click.argument(
    "directory",
    required=False,
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=2),
    default=40.0,
    show_default=True,
    help="How long all measurements together may take.",
)
def bench(*, directory: Path | None, seconds: float) -> Exit:
    """Measure durable work on this machine, beside the figures EventCore states.

    EventCore is the Rust library whose model Eventbraid follows; its figures are those
    of its own documents. Ours are measured here and now, each in turn with a raw write
    and fdatasync of the same bytes, on the disk that holds DIRECTORY (by default the
    current one). What is measured is made in a new directory there and removed.
    """
    from eventbraid.cli._machine import describe_machine

    where = directory or Path.cwd()
    click.echo(describe_machine(where))
    with tempfile.TemporaryDirectory(prefix="eventbraid-bench-", dir=where) as made:
        rows = _measured(Path(made), seconds / _PARTS)
    _print(rows)
    return Exit.FINE


def _measured(directory: Path, seconds: float) -> list[_Row]:
    from eventbraid.cli._measure import measure_batches, measure_commands
    from eventbraid.cli._measure_sagas import measure_compensation, measure_sagas

    click.echo("measuring single-stream commands ...", err=True)
    commands = measure_commands(directory, seconds=seconds)
    click.echo("measuring sagas ...", err=True)
    sagas = measure_sagas(directory, seconds=seconds)
    click.echo("measuring batched appends ...", err=True)
    batches = measure_batches(directory, seconds=seconds)
    click.echo("measuring compensation ...", err=True)
    compensation = measure_compensation(directory, seconds=seconds)
    return [
        _rate("single-stream commands", _STATED_COMMANDS, commands),
        _rate("multi-stream sagas", _STATED_SAGAS, sagas),
        _rate("batched events", _STATED_EVENTS, batches),
        _latency("compensation", _STATED_COMPENSATION, compensation),
    ]


def _rate(what: str, stated: str, rate: Rate) -> _Row:
    return _Row(what, stated, f"{rate.rate:,.0f}/s", rate.lines())


def _latency(what: str, stated: str, latency: Latency) -> _Row:
    ours = f"p50 {latency.p50 * 1e3:.1f} ms, p99 {latency.p99 * 1e3:.1f} ms"
    return _Row(what, stated, ours, latency.lines())


def _print(rows: list[_Row]) -> None:
    from rich.table import Table

    from eventbraid.cli._console import console

    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "EventCore states", "Eventbraid, here"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(row.what, row.stated, row.ours)
    out.print()
    out.print(table)
    out.print()
    for row in rows:
        for line in row.lines:
            out.print(line, markup=False)
