"""Permits to work on a saga, which limit the number of sagas at work.

A function of a saga's step may start other sagas and wait for their results. If waiting
sagas kept their permits, they could hold all permits, and the sagas that they wait for
could never get one: a deadlock. So a waiting saga lends its permit. A permit has four
states::

                 acquire                lend
    NOT_HELD ---------------> HELD ---------------> LENT
                               |  <---------------   |
                               |  take_back, acquire |
                               |                     |
                               +----> RETURNED <-----+
                                 end of the `with` block

A ``LENT`` permit counts as free while a function of its saga waits for another saga.
When that wait ends, the saga takes its permit back at once, even if none is free,
because the time-out of the function runs also during the wait. So the number of sagas
at work may exceed the maximum. The next request for a permit waits until the number is
below the maximum.
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
    """The state of a permit. The docstring of this module shows the transitions."""

    NOT_HELD = auto()
    HELD = auto()
    LENT = auto()
    RETURNED = auto()


# The members are looked up only once. An access to a member through its class calls
# slow code of `enum` and takes 90 ns, and the work on one saga would need ten accesses.
_NOT_HELD, _HELD, _LENT, _RETURNED = State


class Permits:
    """A bounded number of permits, granted in the order of the requests.

    Args:
        maximum: The number of permits.
    """

    __slots__ = ("_free", "_interruptible", "_is_closed", "_waiting")

    def __init__(self, maximum: int) -> None:
        """Begin with all permits free."""
        # Negative if lent permits are taken back after other sagas have acquired them.
        self._free = maximum
        # In the order of the requests. A dictionary, because leaving a coordinator may
        # cancel many requests at once, and each of them must be removed quickly.
        self._waiting: OrderedDict[anyio.Event, None] = OrderedDict()
        self._interruptible: set[anyio.CancelScope] = set()
        self._is_closed = False

    def permit(self) -> Permit:
        """Return a permit that is not held yet; use it as a context manager."""
        return Permit(self)

    def acquire_nowait(self) -> bool:
        """Acquire a permit if one is free; return whether it was acquired."""
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
            # A request may be granted and cancelled in the same turn of the event loop.
            # Unless its permit is released here, the permit is lost for good.
            if granted.is_set():
                self.release()
            else:
                del self._waiting[granted]
            raise

    def release(self) -> None:
        """Release a permit, and grant it to the request that has waited longest."""
        self._free += 1
        while self._free > 0 and self._waiting:
            self._free -= 1
            granted, _ = self._waiting.popitem(last=False)
            granted.set()

    def reclaim(self) -> None:
        """Acquire a permit at once, even if none is free.

        Later requests wait until the number of held permits is below the maximum.
        """
        self._free -= 1

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """Cancel the wait inside the block as soon as the coordinator is left."""
        with anyio.CancelScope() as scope:
            self._interruptible.add(scope)
            if self._is_closed:
                scope.cancel()
            try:
                yield
            finally:
                self._interruptible.discard(scope)

    def close(self) -> None:
        """Cancel the waits of steps for other sagas; the coordinator is being left."""
        self._is_closed = True
        for scope in [*self._interruptible]:
            scope.cancel()


class Permit:
    """The permit of one saga; at the end of the ``with`` block it is returned.

    Args:
        permits: The permits of the coordinator.

    Attributes:
        is_held: Whether this permit counts against the maximum.
    """

    __slots__ = ("_permits", "_state", "is_held")

    def __init__(self, permits: Permits, state: State = _NOT_HELD) -> None:
        """Begin in a state."""
        self._permits = permits
        self._enter(state)

    def __enter__(self) -> Self:
        """Return this permit, which may be acquired before the block or inside it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Return the permit to the coordinator, also after an error."""
        was_held = self.is_held
        # A function of the saga may still run after the work on the saga has ended. In
        # the state `RETURNED`, the function can't take the permit back.
        self._enter(_RETURNED)
        if was_held:
            self._permits.release()

    def belongs_to(self, permits: Permits) -> bool:
        """Return whether this permit is one of the given permits."""
        return self._permits is permits

    def acquire_nowait(self) -> bool:
        """Acquire this permit if one is free; return whether it is held now."""
        if self._permits.acquire_nowait():
            self._enter(_HELD)
        return self.is_held

    async def acquire(self) -> None:
        """Acquire this permit; wait until one is free.

        The permit may be in the state `LENT`: a function may return and leave a task
        behind that still waits for another saga. The driver then acquires the permit
        again here.
        """
        await self._permits.acquire()
        self._enter(_HELD)

    def pass_on(self) -> Permit:
        """Return a new permit in this state, for the task that continues the work.

        The new permit replaces this one, whose ``with`` block then returns nothing.
        """
        successor = Permit(self._permits, self._state)
        self._enter(_RETURNED)
        return successor

    def lend(self) -> None:
        """Count the permit as free while a function waits for another saga."""
        if self.is_held:
            self._enter(_LENT)
            self._permits.release()

    def take_back(self) -> None:
        """Hold the lent permit again, even if no permit is free."""
        if self._state is _LENT:
            self._permits.reclaim()
            self._enter(_HELD)

    def interruptible(self) -> AbstractContextManager[None]:
        """Cancel the wait inside the block as soon as the coordinator is left."""
        return self._permits.interruptible()

    def _enter(self, state: State) -> None:
        self._state = state
        self.is_held = state is _HELD
