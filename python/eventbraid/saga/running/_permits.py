"""Permits to work on a saga; a saga that waits for another one holds none.

A saga's own functions may start other sagas and wait for their results. If each kept
its permit meanwhile, sagas that wait for each other could hold all permits: a deadlock.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from eventbraid.saga.running._calls import Calls
    from eventbraid.saga.running._run import Run


class Permits:
    """A bounded number of permits, granted in the order of the requests.

    Args:
        maximum: The number of permits.
    """

    __slots__ = ("_free", "_interruptible", "_is_closed", "_waiting")

    def __init__(self, maximum: int) -> None:
        """Begin with all permits free."""
        self._free = maximum
        # Ordered, because on leaving a coordinator any number of them are cancelled.
        self._waiting: OrderedDict[anyio.Event, None] = OrderedDict()
        self._interruptible: set[anyio.CancelScope] = set()
        self._is_closed = False

    def acquire_nowait(self) -> bool:
        """Acquire a permit if one is free; return whether it was."""
        is_free = self._free > 0 and not self._waiting
        self._free -= is_free
        return is_free

    async def acquire(self) -> None:
        """Acquire a permit; wait until one is free."""
        if self.acquire_nowait():
            return
        given = anyio.Event()
        self._waiting[given] = None
        try:
            await given.wait()
        except BaseException:
            if given.is_set():
                self.release()
            else:
                del self._waiting[given]
            raise

    def release(self) -> None:
        """Release a permit."""
        self._free += 1
        while self._free > 0 and self._waiting:
            self._free -= 1
            given, _ = self._waiting.popitem(last=False)
            given.set()

    def reclaim(self) -> None:
        """Acquire a permit at once, even if none is free.

        Later requests wait until the number is below the maximum again.
        """
        self._free -= 1

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """End the wait inside at once when the coordinator is left."""
        with anyio.CancelScope() as scope:
            self._interruptible.add(scope)
            if self._is_closed:
                scope.cancel()
            try:
                yield
            finally:
                self._interruptible.discard(scope)

    def close(self) -> None:
        """End the waits of steps for other sagas: none of these goes further here."""
        self._is_closed = True
        for scope in [*self._interruptible]:
            scope.cancel()


class Worker:
    """One task that works on a saga, as the functions that it calls know it.

    Args:
        run: The saga.
        permits: The permits of the coordinator.
        calls: The calls of the coordinator.
        record_wait: Records that a call which is made alone waits for another saga.
    """

    __slots__ = (
        "_calls",
        "_has_paused",
        "_is_at_work",
        "_permits",
        "_record_wait",
        "_run",
        "_waits",
    )

    def __init__(
        self,
        run: Run[Any],
        permits: Permits,
        calls: Calls,
        record_wait: Callable[[Run[Any]], Awaitable[None]],
    ) -> None:
        """Work on a saga from now on, in this task and those that it begins."""
        self._record_wait = record_wait
        self._run = run
        self._permits = permits
        self._calls = calls
        self._has_paused = False
        self._is_at_work = True
        self._waits = 0
        _worker.set(self)

    def end(self) -> None:
        """End the work. Tasks that outlive it are no part of it."""
        self._is_at_work = False

    @asynccontextmanager
    async def waiting(self) -> AsyncGenerator[None]:
        """Release the saga's permit while one of its functions waits for a saga."""
        self._waits += 1
        if self._waits == 1 and self._calls.is_alone(self._run.id):
            try:
                await self._record_wait(self._run)
            except BaseException:
                self._waits -= 1
                raise
        self._has_paused |= self._calls.pause(self._run.id)
        if self._run.holds_permit:
            self._run.holds_permit = False
            self._permits.release()
        try:
            with self._permits.interruptible():
                yield
        finally:
            self._waits -= 1
            # At once: the function's time runs, and it has waited long enough.
            is_back = self._is_at_work and not self._waits
            if is_back and self._has_paused:
                self._has_paused = False
                self._calls.resume(self._run.id)
            if is_back and not self._run.holds_permit:
                self._permits.reclaim()
                self._run.holds_permit = True

    def uses(self, permits: Permits) -> bool:
        """Return whether the worker acquires its permit from these."""
        return self._permits is permits

    @property
    def is_at_work(self) -> bool:
        """Whether the task still works on the saga."""
        return self._is_at_work


_worker: ContextVar[Worker | None] = ContextVar("eventbraid_saga_worker", default=None)


def current_worker() -> Worker | None:
    """Return the worker whose saga's function is being called here, if one is."""
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
