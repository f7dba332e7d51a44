"""Waiting for a turn on a contended stream, in a thread and in an event loop."""

from __future__ import annotations

import threading

import anyio

from eventbraid.command._running_loop import running_loop


class ThreadWaiter:
    """A thread that waits for its turn."""

    __slots__ = ("_turn", "blocked", "is_urgent", "runner")

    def __init__(self) -> None:
        """Make a waiter for this thread."""
        loop = running_loop()
        self._turn = threading.Event()
        self.runner: object = threading.get_ident()
        self.is_urgent = loop is not None
        self.blocked = (self.runner,) if loop is None else (self.runner, loop)

    def can_run(self) -> bool:
        """Return True: a thread that ends gives its turn back before."""
        return True

    def wake(self) -> bool:
        """Signal the turn."""
        self._turn.set()
        return True

    async def wait(self, seconds: float) -> bool:
        """Block until the turn has come, or the time is over."""
        return self._turn.wait(seconds)


class TaskWaiter:
    """A task that waits for its turn; it may be woken from any thread.

    It keeps no reference that would keep a closed event loop alive for longer than the
    task itself does.
    """

    __slots__ = ("_loop", "_turn")

    blocked: tuple[object, ...] = ()
    is_urgent = False

    def __init__(self) -> None:
        """Make a waiter for the running loop.

        Raises:
            RuntimeError: No event loop runs that the library knows.
        """
        loop = running_loop()
        if loop is None:
            raise RuntimeError("no asyncio or trio event loop runs here")
        self._turn = anyio.Event()
        self._loop = loop

    @property
    def runner(self) -> object:
        """The event loop."""
        return self._loop

    def can_run(self) -> bool:
        """Return whether the event loop is there and runs."""
        return self._loop.is_running()

    def wake(self) -> bool:
        """Signal the turn; return whether the event loop can still deliver it."""
        if running_loop() == self._loop:
            self._turn.set()
            return True
        return self._loop.call(self._turn.set) and self.can_run()

    async def wait(self, seconds: float) -> bool:
        """Wait until the turn has come, or the time is over."""
        with anyio.move_on_after(seconds):
            await self._turn.wait()
        return self._turn.is_set()
