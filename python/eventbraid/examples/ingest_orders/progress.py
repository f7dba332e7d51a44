"""The progress of a load on standard error: a bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

_SECONDS_A_FRAME = 0.1
_SECONDS_A_LINE = 2.0


class Watcher(Protocol):
    """Displays the progress of a load."""

    def begin(self, phase: str, total: int) -> None:
        """Begin a phase with a number of items."""
        ...

    def advance(self, count: int = 1) -> None:
        """Add to the number of items that are done."""
        ...


@contextmanager
def watching() -> Generator[Watcher]:
    """Display the progress of a load, in the form that fits standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainWatcher()
        return
    # A thread that draws it would compete with the load for the GIL.
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,
    ) as bar:
        yield BarWatcher(bar)


class BarWatcher:
    """One bar per phase."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("opening", total=None)
        self._next = 0.0

    def begin(self, phase: str, total: int) -> None:
        """Begin a phase."""
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(phase, total=total)
        self._bar.refresh()

    def advance(self, count: int = 1) -> None:
        """Advance the bar; it is drawn a few times a second."""
        self._bar.advance(self._task, count)
        now = time.monotonic()
        if now >= self._next or self._bar.finished:
            self._next = now + _SECONDS_A_FRAME
            self._bar.refresh()


class PlainWatcher:
    """A line when a phase begins, and every few seconds."""

    def __init__(self) -> None:
        self._phase = ""
        self._done = self._total = 0
        self._next = 0.0

    def begin(self, phase: str, total: int) -> None:
        """Begin a phase."""
        self._phase, self._done, self._total = phase, 0, total
        self._print(f"{phase}: {total:,}")

    def advance(self, count: int = 1) -> None:
        """Print the progress if the last line is old enough."""
        self._done += count
        if time.monotonic() >= self._next:
            self._print(f"{self._phase}: {self._done:,} of {self._total:,}")

    def _print(self, line: str) -> None:
        self._next = time.monotonic() + _SECONDS_A_LINE
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
