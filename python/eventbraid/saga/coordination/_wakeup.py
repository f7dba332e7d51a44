"""Ends the wait of another task, the present one or the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Wakeup:
    """A wait of one task, which other tasks of its event loop can end."""

    __slots__ = ("_is_notified", "_scope")

    def __init__(self) -> None:
        """Begin without a notification."""
        self._is_notified = False
        self._scope: anyio.CancelScope | None = None

    def notify(self) -> None:
        """End the present wait, or else the next one."""
        self._is_notified = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, what: Awaitable[object], seconds: float) -> None:
        """Wait for something, for these seconds at most, or until the notification."""
        try:
            limit = 0 if self._is_notified else seconds
            with anyio.move_on_after(limit) as self._scope:
                await what
        finally:
            self._scope = None
        self._is_notified = False
