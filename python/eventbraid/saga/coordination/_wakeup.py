"""A signal that ends the wait of one task and is never lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Wakeup:
    """Ends the wait of one task; other tasks of the same event loop notify it.

    The task alternates between work and waiting, so a notification may arrive while the
    task doesn't wait. If this notification were lost, the task could wait although
    there is work: work may be added just after the task has looked for it. So `notify`
    always sets a flag, and a wait that begins while the flag is set ends at once. The
    flag is cleared after the wait and before the task looks for work. So the task finds
    all work that was added before the flag was cleared, and a later notification sets
    the flag again.

    All tasks run on one event loop. Between two ``await`` points of a task, no other
    task runs, so the flag needs no lock. Other threads must not call `notify`.
    """

    __slots__ = ("_is_notified", "_scope")

    def __init__(self) -> None:
        """Begin without a notification."""
        self._is_notified = False
        self._scope: anyio.CancelScope | None = None

    def notify(self) -> None:
        """End the present wait; if there is no present wait, end the next one."""
        self._is_notified = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, until: Awaitable[object], seconds: float) -> None:
        """Wait for an awaitable, a notification or a time-out, whichever is first.

        If the wait is cancelled, a notification is kept for the next wait.

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
