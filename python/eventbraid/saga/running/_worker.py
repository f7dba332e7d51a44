"""The task that works on a saga, as seen by the step functions that the task calls.

A function of a step may wait for another saga of the same coordinator. During the wait,
the saga of that function gives up what the other saga may need: its permit, and the
right to make the only call of the process.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from eventbraid.saga.running._calls import Calls
    from eventbraid.saga.running._permits import Permit, Permits
    from eventbraid.saga.running._run import Run


class Worker:
    """One task that works on a saga.

    Args:
        run: The saga.
        permit: Its permit.
        calls: The calls of the coordinator.
        record_wait: Records that a call which is made alone waits for another saga.
    """

    __slots__ = (
        "_calls",
        "_has_paused",
        "_is_at_work",
        "_permit",
        "_record_wait",
        "_run",
        "_waits",
    )

    def __init__(
        self,
        run: Run[Any],
        permit: Permit,
        calls: Calls,
        record_wait: Callable[[Run[Any]], Awaitable[None]],
    ) -> None:
        """Begin the work, in this task and in the tasks that it starts."""
        self._run = run
        self._permit = permit
        self._calls = calls
        self._record_wait = record_wait
        self._has_paused = False
        self._is_at_work = True
        # A function may wait for several sagas at once, each in a task of its own.
        self._waits = 0
        _worker.set(self)

    def end(self) -> None:
        """End the work. Tasks that run longer are no part of it."""
        self._is_at_work = False

    @property
    def is_at_work(self) -> bool:
        """Whether the task still works on the saga."""
        return self._is_at_work

    @property
    def last_record(self) -> str:
        """The id of the saga's last record, the cause of any saga that it starts."""
        return self._run.head.cause

    def belongs_to(self, permits: Permits) -> bool:
        """Return whether the permit of the worker is from the given coordinator."""
        return self._permit.belongs_to(permits)

    @asynccontextmanager
    async def waiting(self) -> AsyncGenerator[None]:
        """Lend the saga's permit while one of its functions waits for another saga."""
        self._waits += 1
        try:
            # Recorded before the permit is lent. If the process then ends in a call of
            # the other saga, that must not be charged to this call as the only one.
            if self._waits == 1 and self._calls.is_alone(self._run.id):
                await self._record_wait(self._run)
            self._has_paused |= self._calls.pause(self._run.id)
            self._permit.lend()
            with self._permit.interruptible():
                yield
        finally:
            self._waits -= 1
            if self._is_at_work and not self._waits:
                if self._has_paused:
                    self._has_paused = False
                    self._calls.resume(self._run.id)
                self._permit.take_back()


_worker: ContextVar[Worker | None] = ContextVar("eventbraid_saga_worker", default=None)


def current_worker() -> Worker | None:
    """Return the worker of the saga whose function runs in this task, or None."""
    worker = _worker.get()
    return worker if worker is not None and worker.is_at_work else None


@asynccontextmanager
async def waiting_for_saga() -> AsyncGenerator[None]:
    """Wait for another saga without holding a permit.

    If the coordinator of the step that waits is left, the wait ends early.
    """
    worker = current_worker()
    if worker is None:
        yield
        return
    async with worker.waiting():
        yield
