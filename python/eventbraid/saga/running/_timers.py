"""The waits of sagas for their next attempt: one timer of the event loop for all.

A saga that waits has no task. A task and a timer for each would cost memory, and all
that are due at the same moment would be served in one turn of the loop, before anything
else.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import anyio

from eventbraid.saga.running._pace import TASKS_A_TURN, Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.saga.running._run import Run

_FEW = 64


class Timers:
    """Puts sagas back to work when they are due.

    Args:
        work_on: Puts a saga back to work; is called with its run and with whether an
            attempt that is under way was made by a process that has ended.
    """

    __slots__ = ("_changed", "_due", "_numbers", "_waiting", "_work_on")

    def __init__(self, work_on: Callable[[Run[Any], bool], None]) -> None:
        """Begin without waits; `run` has to run in a task."""
        self._work_on = work_on
        self._due: list[tuple[float, int, Sleep]] = []
        self._numbers = itertools.count()
        self._waiting = 0
        self._changed = anyio.Event()

    def sleep(self, run: Run[Any], seconds: float, *, resumed: bool) -> None:
        """Have a saga put back to work after a time, or when it is woken before."""
        run.sleep = sleep = Sleep(self, run, resumed=resumed)
        self._waiting += 1
        if len(self._due) > _FEW and len(self._due) > 2 * self._waiting:
            # Most of these waits were ended before they were due.
            self._due = [entry for entry in self._due if entry[2].is_under_way]
            heapq.heapify(self._due)
        due = time.monotonic() + seconds
        heapq.heappush(self._due, (due, next(self._numbers), sleep))
        if self._due[0][2] is sleep:
            self._changed.set()

    async def run(self) -> None:
        """End the waits that are due, a few at a time, until it is cancelled."""
        while True:
            pace = Pace(TASKS_A_TURN)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, sleep = heapq.heappop(self._due)
                sleep.wake()
                await pace.keep()
            self._changed = anyio.Event()
            with anyio.move_on_after(self._seconds()):
                await self._changed.wait()

    def end(self, sleep: Sleep) -> None:
        """Count a wait that has ended."""
        self._waiting -= 1
        run = sleep.run
        if run is not None:
            run.sleep = None

    def work_on(self, run: Run[Any], *, resumed: bool) -> None:
        """Put a saga back to work."""
        self._work_on(run, resumed)

    def _seconds(self) -> float:
        return self._due[0][0] - time.monotonic() if self._due else math.inf


class Sleep:
    """One wait of one saga."""

    __slots__ = ("_resumed", "_timers", "run")

    def __init__(self, timers: Timers, run: Run[Any], *, resumed: bool) -> None:
        """Wait until it is woken or cancelled."""
        self._timers = timers
        self._resumed = resumed
        self.run: Run[Any] | None = run

    @property
    def is_under_way(self) -> bool:
        """Whether the saga still waits."""
        return self.run is not None

    def wake(self) -> None:
        """Put the saga back to work, unless the wait has ended."""
        run = self.run
        if run is not None:
            self.cancel()
            self._timers.work_on(run, resumed=self._resumed)

    def cancel(self) -> None:
        """End the wait, and leave the saga as it is."""
        if self.run is not None:
            self._timers.end(self)
            self.run = None
