"""Writes a checkpoint of the unfinished sagas after a number of sagas have ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from eventbraid.saga.coordination._checkpoint import CheckpointBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas


class CheckpointWriter:
    """Counts the ended sagas of one coordinator, and writes the checkpoints.

    Args:
        unfinished: The unfinished sagas of the store.
        interval: The number of ended sagas between two checkpoints.
        pause: Waits for a number of seconds, and returns whether the coordinator is
            stopping.
    """

    __slots__ = ("_budget", "_ended", "_interval", "_is_due", "_pause", "_unfinished")

    def __init__(
        self,
        unfinished: UnfinishedSagas,
        interval: int,
        pause: Callable[[float], Awaitable[bool]],
    ) -> None:
        """Begin without ended sagas."""
        self._unfinished = unfinished
        self._interval = interval
        self._pause = pause
        self._budget = CheckpointBudget()
        self._ended = 0
        self._is_due = anyio.Event()

    def note_end(self, saga_id: str) -> None:
        """Count a saga that has ended here."""
        self._unfinished.note_end(saga_id)
        self._ended += 1
        if self._ended % self._interval == 0:
            self._is_due.set()

    def stop(self) -> None:
        """End the wait for the next checkpoint."""
        self._is_due.set()

    async def wait(self) -> None:
        """Wait until a checkpoint is due, or the writer is stopped."""
        await self._is_due.wait()

    async def write(self) -> bool:
        """Write the checkpoint that is due, as soon as the budget allows it.

        Returns:
            Whether the checkpoint was written. While the coordinator is stopping, none
            is written here, because the coordinator writes one at the end of its block.
        """
        self._is_due = anyio.Event()
        seconds = self._budget.spend(time.monotonic())
        if await self._pause(seconds):
            return False
        await self._unfinished.save()
        return True
