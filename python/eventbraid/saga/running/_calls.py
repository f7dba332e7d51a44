"""The calls under way in this process, and how one of them is made alone."""

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
        holder: The coordinator that makes a call alone, or waits for that.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._coordinators: WeakSet[Calls] = WeakSet()
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
    """Knows the sagas with a call or a command under way.

    If the process ends during a call that is made alone, that call is the cause, so the
    other coordinators of the process make no calls meanwhile either. A call that waits
    for another saga doesn't count, because it depends on that saga's calls.
    """

    __slots__ = ("__weakref__", "_alone", "_changed", "_under_way")

    def __init__(self) -> None:
        """Begin with no call under way."""
        self._under_way: set[str] = set()
        self._alone: str | None = None
        self._changed = anyio.Event()
        _process.add(self)

    async def begin(self, saga_id: str) -> None:
        """Count a call, after one that is made alone has ended."""
        while True:
            while self._alone is not None:
                await self._changed.wait()
            # Counted before the look, so that one of two coordinators sees the other.
            self._under_way.add(saga_id)
            if _process.holder is None:
                return
            self._under_way.discard(saga_id)
            if not await self._is_held_back():
                self._under_way.add(saga_id)
                return

    def end(self, saga_id: str) -> None:
        """Count the end of a call."""
        self._under_way.discard(saga_id)
        if self._alone is not None:
            self._notify()

    @asynccontextmanager
    async def alone(self, saga_id: str) -> AsyncGenerator[bool]:
        """Wait until no call is under way, and hold back others meanwhile.

        Yields:
            Whether the call is alone in the process. It isn't if another coordinator of
            the process doesn't end its calls for a while.
        """
        while self._alone is not None:
            await self._changed.wait()
        self._alone = saga_id
        try:
            while self._under_way:
                await self._changed.wait()
            yield await self._hold_others_back()
        finally:
            # It may have paused, and another one may be alone since.
            if self._alone == saga_id:
                self._end_alone()
            self._under_way.discard(saga_id)
            self._notify()

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._under_way)

    def is_alone(self, saga_id: str) -> bool:
        """Return whether a saga makes a call alone."""
        return self._alone == saga_id

    def pause(self, saga_id: str) -> bool:
        """Hold back no other call while a saga's call waits for another saga.

        Returns:
            Whether a call of the saga was under way.
        """
        was_alone = self._alone == saga_id
        if was_alone:
            self._end_alone()
        elif saga_id not in self._under_way:
            return False
        self._under_way.discard(saga_id)
        self._notify()
        return True

    def resume(self, saga_id: str) -> None:
        """Count a call again that has waited for another saga."""
        self._under_way.add(saga_id)

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
        self._changed.set()
        self._changed = anyio.Event()
