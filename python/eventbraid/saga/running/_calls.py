"""The running calls of this process, and the right to make a call alone.

A call that may have crashed the process repeatedly is made alone: while it runs, no
other saga of the process makes a call. If the process ends again, the only possible
cause is the call that was made alone.

Each coordinator counts its own calls, on its own event loop and without a lock. The
coordinators of one process may run on several event loops, and so on several threads.
Their only shared state is in `_Process`: the set of coordinators, and which of them
makes a call alone.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

# The interval at which a coordinator checks the state of the others. Coordinators of
# one process may run on several event loops, and an event of `anyio` can't be set from
# another loop. They seldom wait for each other, so polling is enough.
_POLL_SECONDS = 0.01
# If one event loop hangs, the coordinators of the other loops continue after this time.
_MAXIMUM_WAIT_SECONDS = 10.0


class _Process:
    """The coordinators of this process, and which of them makes a call alone.

    Attributes:
        holder: The coordinator that makes a call alone, or waits to make one; None if
            there is none. Each call reads this attribute without the lock, which is
            safe because a reference is read and written as a whole.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # A weak set, because a coordinator that the program has dropped makes no calls
        # and must not stay in memory.
        self._coordinators: WeakSet[Calls] = WeakSet()
        # Protects the set, and each change of `holder`. Without the lock, two
        # coordinators could become the holder at once. And an iteration over the set
        # would raise an error if another thread adds to the set meanwhile.
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.holder: Calls | None = None

    def add(self, calls: Calls) -> None:
        """Add a coordinator."""
        if self._pid != os.getpid():
            # This process is a forked child, so begin with a new set and a new lock.
            # The parent's coordinators make no calls in the child. If a thread of the
            # parent held the old lock during the fork, no thread of the child would
            # ever release it.
            self._begin()
        with self._lock:
            self._coordinators.add(calls)

    def try_to_hold(self, calls: Calls) -> bool:
        """Become the holder if there is none; return whether this is the holder."""
        with self._lock:
            if self.holder is None:
                self.holder = calls
            return self.holder is calls

    def release(self, calls: Calls) -> None:
        """Stop being the holder, so that other coordinators may make calls."""
        with self._lock:
            if self.holder is calls:
                self.holder = None

    def others(self, calls: Calls) -> Sequence[Calls]:
        """Return the other coordinators."""
        with self._lock:
            return [other for other in self._coordinators if other is not calls]


_process = _Process()


class Calls:
    """The sagas of one coordinator whose call or command is running.

    A call that waits for another saga isn't counted. Otherwise, if a call of that other
    saga had to be made alone, each of the two calls would wait for the other.
    """

    __slots__ = ("__weakref__", "_alone", "_changed", "_running")

    def __init__(self) -> None:
        """Begin without running calls."""
        self._running: dict[str, int] = {}
        self._alone: str | None = None
        self._changed = anyio.Event()
        _process.add(self)

    async def begin(self, saga_id: str) -> None:
        """Wait until no other call is made alone, then count this call as running."""
        while True:
            while self._alone is not None:
                await self._changed.wait()
            # This call is counted before `holder` is read. A coordinator that becomes
            # the holder uses the reverse order: it writes `holder` before it reads
            # whether the others have running calls. So if both happen at the same
            # moment, at least one of the two coordinators sees what the other has
            # written. Then this call withdraws, or the holder waits.
            self._running[saga_id] = self._running.get(saga_id, 0) + 1
            if _process.holder is None:
                return
            self._discard(saga_id)
            if not await self._wait_for_holder():
                # The holder's call takes too long, so this call begins. The holder's
                # call is then no longer alone.
                self._running[saga_id] = self._running.get(saga_id, 0) + 1
                return

    def end(self, saga_id: str) -> None:
        """Count the end of a call."""
        self._discard(saga_id)
        if self._alone is not None:
            self._notify()

    @asynccontextmanager
    async def alone(self, saga_id: str) -> AsyncGenerator[bool]:
        """Wait until no other call is running, and hold back other calls in the block.

        Yields:
            Whether the call is alone in the process. It isn't alone if calls of another
            coordinator of the process take too long to end.
        """
        while self._alone is not None:
            await self._changed.wait()
        self._alone = saga_id
        try:
            while self._running:
                await self._changed.wait()
            yield await self._hold_others_back()
        finally:
            # If this call has paused, it gave up the right to be alone. Now another
            # saga may have that right.
            if self._alone == saga_id:
                self._end_alone()
            self._discard(saga_id)
            self._notify()

    @property
    def is_busy(self) -> bool:
        """Whether a call is running."""
        return bool(self._running)

    def is_alone(self, saga_id: str) -> bool:
        """Return whether a saga makes a call alone."""
        return self._alone == saga_id

    def pause(self, saga_id: str) -> bool:
        """Stop counting a saga's call while the call waits for another saga.

        If the call is made alone, it stops holding back other calls.

        Returns:
            Whether a call of the saga was running.
        """
        was_alone = self._alone == saga_id
        if was_alone:
            self._end_alone()
        elif saga_id not in self._running:
            return False
        self._discard(saga_id)
        self._notify()
        return True

    def resume(self, saga_id: str) -> None:
        """Count a call as running again after its wait for another saga."""
        self._running[saga_id] = self._running.get(saga_id, 0) + 1

    def _discard(self, saga_id: str) -> None:
        """Count the end of one of a saga's calls, if any is running."""
        count = self._running.pop(saga_id, 0)
        if count > 1:
            self._running[saga_id] = count - 1

    def _end_alone(self) -> None:
        self._alone = None
        _process.release(self)

    async def _hold_others_back(self) -> bool:
        """Become the holder, and wait for the calls of the other coordinators.

        Returns:
            False if this took longer than the maximum wait.
        """
        until = time.monotonic() + _MAXIMUM_WAIT_SECONDS
        while not _process.try_to_hold(self) or any(
            other.is_busy for other in _process.others(self)
        ):
            if time.monotonic() >= until:
                _process.release(self)
                return False
            await anyio.sleep(_POLL_SECONDS)
        return True

    async def _wait_for_holder(self) -> bool:
        """Wait until no coordinator of the process makes a call alone.

        Returns:
            False if such a call didn't end within the maximum wait.
        """
        until = time.monotonic() + _MAXIMUM_WAIT_SECONDS
        while _process.holder is not None:
            if time.monotonic() >= until:
                return False
            await anyio.sleep(_POLL_SECONDS)
        return True

    def _notify(self) -> None:
        # An event can't be cleared, so it is replaced: the calls that wait now have the
        # old event, and calls that wait later get the new one.
        self._changed.set()
        self._changed = anyio.Event()
