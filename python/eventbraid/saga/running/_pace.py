"""Divides long work on an event loop into slices, so that other tasks can run."""

from __future__ import annotations

import math
import time

from anyio.lowlevel import checkpoint

SLICE_SECONDS = 0.002
"""The length of a slice of work, after which other tasks of the loop run.

A slice may be longer, by the time between two calls of `yield_if_due`.
"""

TASKS_A_TURN = 32
"""The number of tasks that are started or woken in one slice."""


class Pace:
    """Yields to the other tasks of the event loop after each slice of work."""

    __slots__ = ("_began", "_left", "_most")

    def __init__(self, most: int | None = None) -> None:
        """Begin a slice.

        Args:
            most: The maximum number of items in a slice; None: only the time limits a
                slice.
        """
        self._most = math.inf if most is None else most
        self._left = self._most
        self._began = time.perf_counter()

    async def yield_if_due(self) -> None:
        """Yield to the event loop if the slice is over; to be called once per item."""
        self._left -= 1
        if self._left <= 0 or time.perf_counter() - self._began >= SLICE_SECONDS:
            await checkpoint()
            self._left = self._most
            self._began = time.perf_counter()
