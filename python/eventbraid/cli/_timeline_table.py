"""The timeline of one saga, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from rich.table import Table
from rich.text import Text

from eventbraid.cli._console import console
from eventbraid.cli._output import printable

if TYPE_CHECKING:
    import eventbraid as eb

_COLOURS = {
    "succeeded": "green",
    "compensated": "green",
    "failed": "red",
    "stuck": "red",
    "skipped": "yellow",
}


def print_timeline(timeline: eb.saga.SagaTimeline) -> None:
    """Print the timeline of a saga, one line per record."""
    out = console()
    out.print(
        _data(
            f"{timeline.saga_id}: {timeline.saga} version {timeline.version}, "
            f"{timeline.status.value}"
        )
    )
    if timeline.failure:
        out.print(_data(f"because of {timeline.failure}"))
    began = timeline.entries[0].time
    out.print(Text(f"began {began:%Y-%m-%d %H:%M:%S} UTC\n"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms", justify="right")
    table.add_column("step")
    table.add_column("")
    table.add_column("detail", overflow="fold")
    for entry in timeline.entries:
        elapsed = (entry.time - began).total_seconds() * 1e3
        table.add_row(
            f"{elapsed:,.0f}", _data(entry.step), _what(entry), _detail(entry)
        )
    out.print(table)
    if timeline.entries[-1].traceback:
        out.print()
        for line in timeline.entries[-1].traceback.splitlines():
            out.print(_data(line))


def _data(text: str, style: str = "") -> Text:
    """Build text without markup and without control characters."""
    return Text(printable(text), style=style)


def _what(entry: eb.saga.SagaEntry) -> Text:
    again = f" (attempt {entry.attempt})" if entry.attempt > 1 else ""
    return _data(f"{entry.what}{again}", style=_COLOURS.get(entry.what, ""))


def _detail(entry: eb.saga.SagaEntry) -> Text:
    """Format a step's result as its fields, and any other text unchanged."""
    try:
        result = json.loads(entry.detail)
    except (ValueError, RecursionError):
        return _data(entry.detail)
    if not isinstance(result, dict):
        return _data(entry.detail)
    fields = cast("dict[str, object]", result)
    return _data(", ".join(f"{name} {value}" for name, value in fields.items()))
