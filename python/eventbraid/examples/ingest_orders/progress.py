"""How far a load is: a bar on a terminal, plain lines elsewhere; on standard error."""

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
    """Shows people how far a load is."""

    def begin(self, phase: str, total: int) -> None:
        """Begin a phase that has so many things to do."""
        ...

    def advance(self, count: int = 1) -> None:
        """Add to the number that are done."""
        ...


@contextmanager
def watching() -> Generator[Watcher]:
    """Show how far a load is, in the way that fits standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainWatcher()
        return
    # No thread draws it: the load would wait for that thread now and then.
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
    """One bar a phase."""

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
        """Let the bar grow; drawn a few times a second."""
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
        self._say(f"{phase}: {total:,}")

    def advance(self, count: int = 1) -> None:
        """Print the progress, if it is time to."""
        self._done += count
        if time.monotonic() >= self._next:
            self._say(f"{self._phase}: {self._done:,} of {self._total:,}")

    def _say(self, line: str) -> None:
        self._next = time.monotonic() + _SECONDS_A_LINE
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
