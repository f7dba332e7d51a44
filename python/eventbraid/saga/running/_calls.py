"""The calls under way at one coordinator, and how one of them is made alone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Calls:
    """Knows the sagas with a call or a command under way.

    If the process ends during a call that is made alone, that call is the cause. A call
    that waits for another saga doesn't count, because it depends on that saga's calls.
    """

    __slots__ = ("_alone", "_changed", "_under_way")

    def __init__(self) -> None:
        """Begin with no call under way."""
        self._under_way: set[str] = set()
        self._alone: str | None = None
        self._changed = anyio.Event()

    async def begin(self, saga_id: str) -> None:
        """Count a call, after one that is made alone has ended."""
        while self._alone is not None:
            await self._changed.wait()
        self._under_way.add(saga_id)

    def end(self, saga_id: str) -> None:
        """Count the end of a call."""
        self._under_way.discard(saga_id)
        if self._alone is not None:
            self._notify()

    @asynccontextmanager
    async def alone(self, saga_id: str) -> AsyncGenerator[None]:
        """Wait until no call is under way, and hold back others meanwhile."""
        while self._alone is not None:
            await self._changed.wait()
        self._alone = saga_id
        try:
            while self._under_way:
                await self._changed.wait()
            yield
        finally:
            # It may have paused, and another one may be alone since.
            if self._alone == saga_id:
                self._alone = None
            self._under_way.discard(saga_id)
            self._notify()

    def pause(self, saga_id: str) -> bool:
        """Hold back no other call while a saga's call waits for another saga.

        Returns:
            Whether a call of the saga was under way.
        """
        was_alone = self._alone == saga_id
        if was_alone:
            self._alone = None
        elif saga_id not in self._under_way:
            return False
        self._under_way.discard(saga_id)
        self._notify()
        return True

    def resume(self, saga_id: str) -> None:
        """Count a call again that has waited for another saga."""
        self._under_way.add(saga_id)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
