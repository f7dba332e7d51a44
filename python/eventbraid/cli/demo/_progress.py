"""The progress of a demo: a live display on a terminal, else plain lines."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

import eventbraid as eb
from eventbraid.cli._console import console
from eventbraid.cli._output import printable

if TYPE_CHECKING:
    from collections.abc import Generator

    from eventbraid.examples.order_fulfilment.demo import (
        DemoOptions,
        Tally,
        Watcher,
    )

_SECONDS_PER_LINE = 5.0


@contextmanager
def watching(options: DemoOptions) -> Generator[Watcher]:
    """Show the progress of a demo: a bar on a terminal, else lines."""
    out = console()
    out.print(Text(printable(f"log and ledgers in {options.directory}")))
    if not out.is_terminal:
        yield PlainWatcher(out)
        return
    watcher = LiveWatcher()
    # Refreshed from the event loop: a thread of its own would compete for the GIL.
    with Live(watcher, console=out, auto_refresh=False) as live:
        watcher.live = live
        yield watcher


class LiveWatcher:
    """A progress bar, and the outcomes of the orders below it."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=None)
        self._line = Text()

    def show(self, tally: Tally) -> None:
        """Show the progress."""
        self._bar.update(
            self._task,
            description=tally.phase,
            total=tally.total or None,
            completed=tally.ended_before + tally.at_rest,
        )
        self._line = Text(_outcomes(tally))
        if self.live is not None:
            self.live.refresh()

    def report(self, line: str) -> None:
        """Print a line above the bar."""
        if self.live is not None:
            self.live.console.print(Text(printable(line)))

    def __rich__(self) -> Group:
        return Group(self._bar, self._line)


class PlainWatcher:
    """A line every few seconds, and one for each phase."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._next = 0.0

    def show(self, tally: Tally) -> None:
        """Print the progress if the last line is old enough."""
        now = time.monotonic()
        if now < self._next and tally.phase == self._phase:
            return
        self._next = now + _SECONDS_PER_LINE
        self._phase = tally.phase
        line = tally.phase
        if tally.total:
            done = f"{tally.ended_before + tally.at_rest:,} of {tally.total:,}"
            line += f": {done} orders, {_outcomes(tally)}"
        self._console.print(Text(printable(line)))

    def report(self, line: str) -> None:
        """Print a line."""
        self._console.print(Text(printable(line)))


def _outcomes(tally: Tally) -> str:
    counts = (f"{tally.outcomes[o]:,} {o.value}" for o in eb.SagaOutcome)
    before = f", {tally.ended_before:,} before" if tally.ended_before else ""
    return (
        f"{tally.rate:,.0f} orders/s, {tally.in_flight} in flight: "
        f"{', '.join(counts)}{before}"
    )
