"""A wakeup that ends the wait of one task and is never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Wakeup:
    """Ends the wait of one task; other tasks of the same event loop notify it.

    The task alternates between work and waiting, so a notification may arrive while it
    doesn't wait. It must not be lost then: the task may have looked for work just
    before the work was added, and would sleep although there is some. So `notify` sets
    a flag in any case, and a wait that begins with the flag set ends at once. The flag
    is cleared after the wait, before the task looks for work: work that was added until
    then is found, and a later notification sets the flag again.

    All of this happens on one event loop. Between two of its ``await`` points nothing
    else runs, so the flag needs no lock; it isn't safe to notify from another thread.
    """

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

    async def wait(self, until: Awaitable[object], seconds: float) -> None:
        """Wait for something, for a notification, or until a time is over.

        If the wait is cancelled, the notification is kept for the next one.

        Args:
            until: The awaitable that is waited for.
            seconds: The maximum duration of the wait.
        """
        try:
            with anyio.move_on_after(
                0 if self._is_notified else seconds
            ) as self._scope:
                await until
        finally:
            self._scope = None
        self._is_notified = False
