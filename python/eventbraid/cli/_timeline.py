"""The timeline of one saga, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from rich.table import Table
from rich.text import Text

from eventbraid.cli._console import console

if TYPE_CHECKING:
    import eventbraid as eb

_COLOURS = {
    "succeeded": "green",
    "compensated": "green",
    "failed": "red",
    "stuck": "red",
    "skipped": "yellow",
}


def print_timeline(timeline: eb.SagaTimeline) -> None:
    """Print what happened to a saga, a line a record."""
    out = console()
    out.print(
        f"{timeline.saga_id}: {timeline.saga} version {timeline.version}, "
        f"{timeline.status.value}",
        markup=False,
    )
    if timeline.failure:
        out.print(f"because of {timeline.failure}", markup=False)
    began = timeline.entries[0].time
    out.print(f"began {began:%Y-%m-%d %H:%M:%S} UTC\n", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms", justify="right")
    table.add_column("step")
    table.add_column("")
    table.add_column("detail", overflow="fold")
    for entry in timeline.entries:
        elapsed = (entry.time - began).total_seconds() * 1e3
        table.add_row(f"{elapsed:,.0f}", entry.step, _what(entry), _detail(entry))
    out.print(table)


def _what(entry: eb.SagaEntry) -> Text:
    again = f" (attempt {entry.attempt})" if entry.attempt > 1 else ""
    return Text(f"{entry.what}{again}", style=_COLOURS.get(entry.what, ""))


def _detail(entry: eb.SagaEntry) -> Text:
    """A step's result as its fields; any other text as it stands."""
    try:
        result = json.loads(entry.detail)
    except ValueError:
        return Text(entry.detail)
    if not isinstance(result, dict):
        return Text(entry.detail)
    fields = cast("dict[str, object]", result)
    return Text(", ".join(f"{name} {value}" for name, value in fields.items()))
