"""The waiters for a turn on a contended stream: a thread, or a task of a loop."""

from __future__ import annotations

import threading

import anyio

from eventbraid.command._running_loop import running_loop


class ThreadWaiter:
    """A thread that waits for its turn."""

    __slots__ = ("_turn", "blocked", "is_urgent", "runner")

    def __init__(self) -> None:
        """Build a waiter for the current thread."""
        loop = running_loop()
        self._turn = threading.Event()
        self.runner: object = threading.get_ident()
        self.is_urgent = loop is not None
        self.blocked = (self.runner,) if loop is None else (self.runner, loop)

    def can_run(self) -> bool:
        """Return True: a thread gives its turns back before it ends."""
        return True

    def wake(self) -> bool:
        """Signal that the thread has the turn."""
        self._turn.set()
        return True

    async def wait(self, seconds: float) -> bool:
        """Block until `wake` is called or the time is over; return which."""
        return self._turn.wait(seconds)


class TaskWaiter:
    """A task that waits for its turn; any thread may wake it.

    It doesn't keep a closed event loop in memory for longer than the task does.
    """

    __slots__ = ("_loop", "_turn")

    blocked: tuple[object, ...] = ()
    is_urgent = False

    def __init__(self) -> None:
        """Build a waiter for the running event loop.

        Raises:
            RuntimeError: Neither asyncio nor trio runs in this thread.
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
        """Return whether the event loop is running."""
        return self._loop.is_running()

    def wake(self) -> bool:
        """Signal the turn to the task; return whether its event loop can run it."""
        if running_loop() == self._loop:
            self._turn.set()
            return True
        return self._loop.call(self._turn.set) and self.can_run()

    async def wait(self, seconds: float) -> bool:
        """Wait until `wake` is called or the time is over; return which."""
        with anyio.move_on_after(seconds):
            await self._turn.wait()
        return self._turn.is_set()
