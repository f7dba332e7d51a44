"""The report of a load: a table, or one JSON object."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import orjson
from rich.console import Console
from rich.table import Table

from ..order_fulfilment.values import Money
from .load import Loaded
from .read_back import ReadBack


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a load.

    Attributes:
        commit_size: The number of purchases in a commit.
        in_flight: The maximum number of commits in flight.
        loaded: The result of the load.
        found: The result of reading back.
        log_bytes: The size of the log.
    """

    commit_size: int
    in_flight: int
    loaded: Loaded
    found: ReadBack
    log_bytes: int

    @property
    def events_per_second(self) -> float:
        """The number of events that were stored per second."""
        return self.loaded.events / max(self.loaded.seconds, 1e-9)

    @property
    def commits_per_second(self) -> float:
        """The number of commits that were stored per second."""
        return self.loaded.commits / max(self.loaded.seconds, 1e-9)

    @property
    def bytes_per_event(self) -> float:
        """The size of the log divided by the number of its events."""
        return self.log_bytes / max(self.found.events, 1)


def print_json(report: Report) -> None:
    """Print one object on one line."""
    fields = {
        **asdict(report),
        "events_per_second": round(report.events_per_second, 1),
        "commits_per_second": round(report.commits_per_second, 1),
        "bytes_per_event": round(report.bytes_per_event, 1),
    }
    sys.stdout.write(f"{orjson.dumps(fields).decode()}\n")


def print_table(report: Report, *, stderr: bool = False) -> None:
    """Print a table, and the differences."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for row in _rows(report):
        table.add_row(*row)
    out = Console(soft_wrap=True, highlight=False, stderr=stderr)
    out.print(table)
    for finding in report.found.findings:
        out.print(f"WRONG: {finding}", markup=False)


def _rows(report: Report) -> list[tuple[str, str, str]]:
    loaded, found = report.loaded, report.found
    flight = f"of {report.commit_size:,}, {report.in_flight} in flight"
    worth = f"worth ${Money(found.cents).dollars}"
    rows = [
        ("stored", f"{loaded.events:,}", f"events in {loaded.seconds:.2f} s"),
        ("", f"{report.events_per_second:,.0f}", "events/s"),
        ("", f"{report.commits_per_second:,.0f}", f"commits/s {flight}"),
        ("", f"{loaded.making_seconds:.2f}", "s of it to make the events in Python"),
        ("there before", f"{loaded.commits_before:,}", "commits"),
        ("log", f"{report.bytes_per_event:.1f}", "bytes/event"),
        ("read back", f"{found.streams:,}", f"streams in {found.seconds:.2f} s"),
        ("", f"{found.events:,}", f"purchases, {worth}"),
    ]
    wanted = rows if loaded.commits else rows[4:]
    return [row for row in wanted if loaded.commits_before or row[0] != "there before"]
