"""The running calls of this process, and the right to be the only one.

A call whose saga has crashed the process before is made alone: while it runs, no other
saga of the process makes a call. If the process then ends, that call was the cause.

Each coordinator counts its own calls, on its own event loop and without a lock. What
the coordinators of several event loops, and so of several threads, have in common is in
`_Process`: which of them makes a call alone.
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

# Coordinators of one process may run in several event loops, which can't notify each
# other. They seldom wait for each other, so they poll.
_POLL_SECONDS = 0.01
# An event loop that hangs must not stop the other coordinators of its process.
_MAXIMUM_WAIT_SECONDS = 10.0


class _Process:
    """The coordinators of this process, and which of them makes a call alone.

    Attributes:
        holder: The coordinator that makes a call alone, or waits for that. It is read
            without the lock, by each call: a reference is read and written whole.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # Weak, because a coordinator that is no longer used makes no call.
        self._coordinators: WeakSet[Calls] = WeakSet()
        # Two coordinators must not both become the holder, and a set that another
        # thread changes can't be iterated over.
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.holder: Calls | None = None

    def add(self, calls: Calls) -> None:
        """Add a coordinator."""
        if self._pid != os.getpid():
            # The coordinators of the parent make no calls in a forked child, and a
            # thread of the parent may have held the lock during the fork.
            self._begin()
        with self._lock:
            self._coordinators.add(calls)

    def try_to_hold(self, calls: Calls) -> bool:
        """Hold back the calls of other coordinators; return whether that succeeded."""
        with self._lock:
            if self.holder is None:
                self.holder = calls
            return self.holder is calls

    def release(self, calls: Calls) -> None:
        """Hold back the calls of other coordinators no longer."""
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

    A call that waits for another saga isn't counted, because it depends on the calls of
    that saga: counted, the two would wait for each other.
    """

    __slots__ = ("__weakref__", "_alone", "_changed", "_running")

    def __init__(self) -> None:
        """Begin without running calls."""
        self._running: set[str] = set()
        self._alone: str | None = None
        self._changed = anyio.Event()
        _process.add(self)

    async def begin(self, saga_id: str) -> None:
        """Count a call, after one that is made alone has ended."""
        while True:
            while self._alone is not None:
                await self._changed.wait()
            # Counted first, and only then compared with the holder. A coordinator that
            # becomes the holder does it the other way round. So of two that do this at
            # the same moment at least one sees the other, and withdraws or waits.
            self._running.add(saga_id)
            if _process.holder is None:
                return
            self._running.discard(saga_id)
            if not await self._is_held_back():
                # The holder takes too long; its call isn't alone then.
                self._running.add(saga_id)
                return

    def end(self, saga_id: str) -> None:
        """Count the end of a call."""
        self._running.discard(saga_id)
        if self._alone is not None:
            self._notify()

    @asynccontextmanager
    async def alone(self, saga_id: str) -> AsyncGenerator[bool]:
        """Wait until no call is running, and hold back others meanwhile.

        Yields:
            Whether the call is alone in the process. It isn't if another coordinator of
            the process doesn't end its calls for a while.
        """
        while self._alone is not None:
            await self._changed.wait()
        self._alone = saga_id
        try:
            while self._running:
                await self._changed.wait()
            yield await self._hold_others_back()
        finally:
            # It may have paused, and another call may be made alone since.
            if self._alone == saga_id:
                self._end_alone()
            self._running.discard(saga_id)
            self._notify()

    @property
    def is_busy(self) -> bool:
        """Whether a call is running."""
        return bool(self._running)

    def is_alone(self, saga_id: str) -> bool:
        """Return whether a saga makes a call alone."""
        return self._alone == saga_id

    def pause(self, saga_id: str) -> bool:
        """Hold back no other call while a saga's call waits for another saga.

        Returns:
            Whether a call of the saga was running.
        """
        was_alone = self._alone == saga_id
        if was_alone:
            self._end_alone()
        elif saga_id not in self._running:
            return False
        self._running.discard(saga_id)
        self._notify()
        return True

    def resume(self, saga_id: str) -> None:
        """Count a call again that has waited for another saga."""
        self._running.add(saga_id)

    def _end_alone(self) -> None:
        self._alone = None
        _process.release(self)

    async def _hold_others_back(self) -> bool:
        """Wait until no other coordinator makes a call; return whether none does."""
        until = time.monotonic() + _MAXIMUM_WAIT_SECONDS
        while not _process.try_to_hold(self) or any(
            other.is_busy for other in _process.others(self)
        ):
            if time.monotonic() >= until:
                _process.release(self)
                return False
            await anyio.sleep(_POLL_SECONDS)
        return True

    async def _is_held_back(self) -> bool:
        """Wait for a call that another coordinator makes alone.

        Returns:
            False if that call takes too long to be waited for.
        """
        until = time.monotonic() + _MAXIMUM_WAIT_SECONDS
        while _process.holder is not None:
            if time.monotonic() >= until:
                return False
            await anyio.sleep(_POLL_SECONDS)
        return True

    def _notify(self) -> None:
        # An event can't be cleared: the waiting calls have the old one, later ones get
        # a new one.
        self._changed.set()
        self._changed = anyio.Event()
