"""The waits of sagas for their next attempts, with one timer of the event loop.

A saga that waits has no task. A task and a timer for each waiting saga would cost
memory. Also, the event loop would wake all sagas that are due at the same moment in one
turn, which would delay all other tasks.
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
        work_on: Puts a saga back to work. Its arguments are the run, and whether the
            attempt in flight was made by a process that has ended.
    """

    __slots__ = ("_changed", "_due", "_numbers", "_waiting", "_work_on")

    def __init__(self, work_on: Callable[[Run[Any], bool], None]) -> None:
        """Begin without waits; a task must execute `run`."""
        self._work_on = work_on
        # A heap of waits by their due times. A wait that ended early stays in the heap
        # until it is due, or until `sleep` removes it.
        self._due: list[tuple[float, int, SagaTimer]] = []
        # Of two waits that are due at the same moment, the one that began first ends
        # first.
        self._numbers = itertools.count()
        self._waiting = 0
        self._changed = anyio.Event()

    def sleep(self, run: Run[Any], seconds: float, *, resumed: bool) -> None:
        """Put a saga back to work after some seconds, or earlier if it is woken."""
        timer = SagaTimer(self, run, resumed=resumed)
        run.begin_sleep(timer)
        self._waiting += 1
        if len(self._due) > _FEW and len(self._due) > 2 * self._waiting:
            # More than half of the entries belong to waits that have ended. Remove
            # them.
            self._due = [entry for entry in self._due if entry[2].is_waiting]
            heapq.heapify(self._due)
        due = time.monotonic() + seconds
        heapq.heappush(self._due, (due, next(self._numbers), timer))
        if self._due[0][2] is timer:
            self._changed.set()

    async def run(self) -> None:
        """End the waits that are due, a few at a time, until this task is cancelled."""
        while True:
            pace = Pace(TASKS_A_TURN)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, timer = heapq.heappop(self._due)
                timer.wake()
                await pace.yield_if_due()
            self._changed = anyio.Event()
            with anyio.move_on_after(self._seconds()):
                await self._changed.wait()

    def count_end(self) -> None:
        """Count a wait that has ended."""
        self._waiting -= 1

    def work_on(self, run: Run[Any], *, resumed: bool) -> None:
        """Put a saga back to work."""
        self._work_on(run, resumed)

    def _seconds(self) -> float:
        return self._due[0][0] - time.monotonic() if self._due else math.inf


class SagaTimer:
    """One wait of one saga."""

    __slots__ = ("_resumed", "_run", "_timers")

    def __init__(self, timers: Timers, run: Run[Any], *, resumed: bool) -> None:
        """Begin the wait; it ends with `wake` or `cancel`."""
        self._timers = timers
        self._resumed = resumed
        # None after the wait has ended, so that the heap doesn't keep the run in
        # memory.
        self._run: Run[Any] | None = run

    @property
    def is_waiting(self) -> bool:
        """Whether the saga still waits."""
        return self._run is not None

    def wake(self) -> None:
        """Put the saga back to work, unless the wait has ended."""
        run = self._run
        if run is not None:
            self.cancel()
            self._timers.work_on(run, resumed=self._resumed)

    def cancel(self) -> None:
        """End the wait, and leave the saga as it is."""
        run, self._run = self._run, None
        if run is not None:
            self._timers.count_end()
            run.end_sleep()
