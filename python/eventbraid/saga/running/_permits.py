"""How many sagas are at work at a time, and when one that waits doesn't count.

A saga's own functions may start other sagas and wait for their results. If each of them
kept its slot meanwhile, sagas that wait for each other would hold all slots, and none
could go on.
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


class Slots:
    """A bounded number of slots, given in the order in which they are asked for.

    Args:
        maximum: The number of slots.
    """

    __slots__ = ("_free", "_interruptible", "_is_closed", "_waiting")

    def __init__(self, maximum: int) -> None:
        """Begin with all slots free."""
        self._free = maximum
        # Ordered, because on leaving a coordinator any number of them are cancelled.
        self._waiting: OrderedDict[anyio.Event, None] = OrderedDict()
        self._interruptible: set[anyio.CancelScope] = set()
        self._is_closed = False

    def acquire_nowait(self) -> bool:
        """Take a slot if one is free; return whether it was."""
        is_free = self._free > 0 and not self._waiting
        self._free -= is_free
        return is_free

    async def acquire(self) -> None:
        """Take a slot; wait until there is one."""
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
        """Give a slot back."""
        self._free += 1
        while self._free > 0 and self._waiting:
            self._free -= 1
            given, _ = self._waiting.popitem(last=False)
            given.set()

    def reclaim(self) -> None:
        """Take a slot at once, even if none is free.

        Whoever asks afterwards waits until the number is below the maximum again.
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
        slots: The slots of the coordinator.
        calls: The calls of the coordinator.
        record_wait: Records that a call which is made alone waits for another saga.
    """

    __slots__ = (
        "_calls",
        "_has_paused",
        "_is_at_work",
        "_record_wait",
        "_run",
        "_slots",
        "_waits",
    )

    def __init__(
        self,
        run: Run[Any],
        slots: Slots,
        calls: Calls,
        record_wait: Callable[[Run[Any]], Awaitable[None]],
    ) -> None:
        """Work on a saga from now on, in this task and those that it begins."""
        self._record_wait = record_wait
        self._run = run
        self._slots = slots
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
        """Release the saga's slot while one of its functions waits for another saga."""
        self._waits += 1
        if self._waits == 1 and self._calls.is_alone(self._run.id):
            try:
                await self._record_wait(self._run)
            except BaseException:
                self._waits -= 1
                raise
        self._has_paused |= self._calls.pause(self._run.id)
        if self._run.holds_slot:
            self._run.holds_slot = False
            self._slots.release()
        try:
            with self._slots.interruptible():
                yield
        finally:
            self._waits -= 1
            # At once: the function's time runs, and it has waited long enough.
            is_back = self._is_at_work and not self._waits
            if is_back and self._has_paused:
                self._has_paused = False
                self._calls.resume(self._run.id)
            if is_back and not self._run.holds_slot:
                self._slots.reclaim()
                self._run.holds_slot = True

    def uses(self, slots: Slots) -> bool:
        """Return whether the worker takes its slot from these."""
        return self._slots is slots

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
    """Wait for another saga without holding a slot.

    If the coordinator of the step that waits is left, the wait ends early.
    """
    worker = current_worker()
    if worker is None:
        yield
        return
    async with worker.waiting():
        yield
