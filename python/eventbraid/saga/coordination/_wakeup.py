"""Ends a wait from outside, be it under way or yet to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Alarm:
    """What one task waits by, and others of its event loop ring."""

    __slots__ = ("_rung", "_scope")

    def __init__(self) -> None:
        """Begin silent."""
        self._rung = False
        self._scope: anyio.CancelScope | None = None

    def ring(self) -> None:
        """End the wait under way, or else the next one."""
        self._rung = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, what: Awaitable[object], seconds: float) -> None:
        """Wait for something, so many seconds at most, or until the alarm rings."""
        try:
            with anyio.move_on_after(0 if self._rung else seconds) as self._scope:
                await what
        finally:
            self._scope = None
        self._rung = False
