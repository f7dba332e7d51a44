"""Permits to work on a saga: they bound the number of sagas that are worked on.

A saga's own functions may start other sagas and wait for their results. If each kept
its permit meanwhile, sagas that wait for each other could hold all permits: a deadlock.
So a permit has four states::

                 acquire                lend
    NOT_HELD ---------------> HELD ---------------> LENT
                               |  <---------------   |
                               |  take_back, acquire |
                               |                     |
                               +----> RETURNED <-----+
                                 end of the `with` block

``LENT`` means: given back while a function of the saga waits for another saga. The
permit is taken back at once when that wait ends, even if no other one is free: the
function's own time-out is running, and it has waited long enough. Then there is one
more saga at work than the maximum, and the next request waits until there isn't.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType
    from typing import Self


class State(Enum):
    """The state of a permit; see the picture above."""

    NOT_HELD = auto()
    HELD = auto()
    LENT = auto()
    RETURNED = auto()


class Permits:
    """A bounded number of permits, granted in the order of the requests.

    Args:
        maximum: The number of permits.
    """

    __slots__ = ("_free", "_interruptible", "_is_closed", "_waiting")

    def __init__(self, maximum: int) -> None:
        """Begin with all permits free."""
        # Below 0 while permits are taken back that others have acquired meanwhile.
        self._free = maximum
        # Ordered, because on leaving a coordinator any number of them are cancelled.
        self._waiting: OrderedDict[anyio.Event, None] = OrderedDict()
        self._interruptible: set[anyio.CancelScope] = set()
        self._is_closed = False

    def permit(self) -> Permit:
        """Return a permit that is not held yet; use it as a context manager."""
        return Permit(self)

    def acquire_nowait(self) -> bool:
        """Acquire a permit if one is free; return whether it was."""
        is_free = self._free > 0 and not self._waiting
        self._free -= is_free
        return is_free

    async def acquire(self) -> None:
        """Acquire a permit; wait until one is free."""
        if self.acquire_nowait():
            return
        granted = anyio.Event()
        self._waiting[granted] = None
        try:
            await granted.wait()
        except BaseException:
            # A cancelled request may have been granted in the same turn of the loop:
            # kept, that permit would be lost for good.
            if granted.is_set():
                self.release()
            else:
                del self._waiting[granted]
            raise

    def release(self) -> None:
        """Release a permit, to the request that has waited longest if there is one."""
        self._free += 1
        while self._free > 0 and self._waiting:
            self._free -= 1
            granted, _ = self._waiting.popitem(last=False)
            granted.set()

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


class Permit:
    """The permit of one saga; the end of the ``with`` block returns it.

    Args:
        permits: The permits of the coordinator.

    Attributes:
        is_held: Whether it counts against the maximum.
    """

    __slots__ = ("_permits", "_state", "is_held")

    def __init__(self, permits: Permits, state: State = State.NOT_HELD) -> None:
        """Begin in a state."""
        self._permits = permits
        self._enter(state)

    def __enter__(self) -> Self:
        """Return itself; the permit may be acquired before or inside of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Return the permit, however the block has ended."""
        was_held = self.is_held
        # A function may outlive the work on its saga. It must take nothing back then.
        self._enter(State.RETURNED)
        if was_held:
            self._permits.release()

    def belongs_to(self, permits: Permits) -> bool:
        """Return whether it is one of these permits."""
        return self._permits is permits

    def acquire_nowait(self) -> bool:
        """Acquire it if one is free; return whether it is held."""
        if self._permits.acquire_nowait():
            self._enter(State.HELD)
        return self.is_held

    async def acquire(self) -> None:
        """Acquire it; wait until one is free.

        Also after `lend`, if the driver comes back before the function that waits: a
        task that the function has left behind may still wait for the other saga.
        """
        await self._permits.acquire()
        self._enter(State.HELD)

    def pass_on(self) -> Permit:
        """Return another permit that is held in place of this one.

        For the task that continues the work: the ``with`` block of this one returns
        nothing then.
        """
        successor = Permit(self._permits, self._state)
        self._enter(State.RETURNED)
        return successor

    def lend(self) -> None:
        """Give it back while a function of the saga waits for another saga."""
        if self.is_held:
            self._enter(State.LENT)
            self._permits.release()

    def take_back(self) -> None:
        """Hold it again, after a wait for another saga."""
        if self._state is State.LENT:
            self._permits.reclaim()
            self._enter(State.HELD)

    def interruptible(self) -> AbstractContextManager[None]:
        """End the wait inside at once when the coordinator is left."""
        return self._permits.interruptible()

    def _enter(self, state: State) -> None:
        self._state = state
        self.is_held = state is State.HELD
