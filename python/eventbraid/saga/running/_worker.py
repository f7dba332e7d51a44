"""The task that drives a saga, and the waits of its step functions for other sagas.

A function of a step may wait for another saga of the same coordinator. The other saga
may need what the waiting saga has: a permit, or the right to make a call alone. So the
waiting saga gives both up during the wait.
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
        record_wait: Records that a saga's call is no longer alone, because it waits for
            another saga.
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
        """Become the current worker of this task and of the tasks that it starts."""
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
        """End the work; tasks that still run no longer count as part of it."""
        self._is_at_work = False

    @property
    def is_at_work(self) -> bool:
        """Whether the task still works on the saga."""
        return self._is_at_work

    @property
    def last_record(self) -> str:
        """The id of the saga's last record.

        If the saga starts another saga, this id is recorded as the cause.
        """
        return self._run.head.cause

    def belongs_to(self, permits: Permits) -> bool:
        """Return whether the permit of the worker is one of the given permits."""
        return self._permit.belongs_to(permits)

    @asynccontextmanager
    async def waiting(self) -> AsyncGenerator[None]:
        """Lend the saga's permit while one of its functions waits for another saga."""
        self._waits += 1
        try:
            # Record first that this saga's call is no longer alone, then lend the
            # permit. Otherwise, if a call of the other saga ended the process, the
            # crash would be charged to this saga's call, which would still be recorded
            # as alone.
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

    If the coordinator of the waiting step is left, the wait ends early.
    """
    worker = current_worker()
    if worker is None:
        yield
        return
    async with worker.waiting():
        yield
