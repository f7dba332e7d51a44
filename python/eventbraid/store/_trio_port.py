"""The completion port of a trio run. Imported only under trio."""

from __future__ import annotations

from typing import NoReturn

import outcome
import trio

from eventbraid._native import CompletionPort
from eventbraid.store._completion_port import RESULTS_A_TURN
from eventbraid.store._ticker import TICK_SECONDS, Ticker


def is_running() -> bool:
    """Whether this code runs inside of a trio task."""
    return trio.lowlevel.in_trio_task()


def current_port() -> TrioPort:
    """Find the port of this run, or make it."""
    try:
        return _port.get()
    except LookupError:
        port = TrioPort()
        _port.set(port)
        return port


class TrioPort:
    """Parks a task for each result and wakes it when the result has arrived."""

    __slots__ = ("_waiting", "native")

    def __init__(self) -> None:
        """Start the one system task that takes results out of the port."""
        self.native = CompletionPort()
        self._waiting: dict[int, trio.lowlevel.Task] = {}
        trio.lowlevel.spawn_system_task(self._serve)

    async def result(self, token: int) -> object:
        """Wait for what arrives under a token; an exception is answered, not raised."""

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._waiting[token]
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[token] = trio.lowlevel.current_task()
        result: object = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    async def shielded_result(self, token: int) -> object:
        """Like `result`, but no cancellation ends it."""
        arrived: object = None
        with trio.CancelScope(shield=True):
            arrived = await self.result(token)
        return arrived  # noqa: RET504 - by its type, a scope may swallow an exception

    async def raise_if_cancelled(self) -> None:
        """Stop here if the task has been cancelled, before anything is begun."""
        await trio.lowlevel.checkpoint_if_cancelled()

    async def checkpoint(self) -> None:
        """Let the run's other tasks run, and stop here if this one is cancelled."""
        await trio.lowlevel.checkpoint()

    async def _serve(self) -> NoReturn:
        while True:
            await trio.lowlevel.wait_readable(self.native.fileno())
            self._drain()

    def _drain(self) -> None:
        # In a frame of its own, which ends: a result that is no longer awaited may be a
        # store, and a variable of the endless loop would keep it open.
        for token, result in self.native.drain(RESULTS_A_TURN):
            task = self._waiting.pop(token, None)
            if task is not None:
                trio.lowlevel.reschedule(task, outcome.Value(result))


_port: trio.lowlevel.RunVar[TrioPort] = trio.lowlevel.RunVar("eventbraid port")


def current_ticker() -> TrioTicker:
    """Find the ticker of this run, or make it."""
    try:
        return _ticker.get()
    except LookupError:
        ticker = TrioTicker()
        _ticker.set(ticker)
        return ticker


class TrioTicker(Ticker):
    """Ticks by a system task of the run."""

    __slots__ = ("_scope",)

    def __init__(self) -> None:
        """Begin without a task."""
        super().__init__()
        self._scope = trio.CancelScope()

    def start(self) -> None:
        """Start the system task."""
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._run, self._scope)

    def stop(self) -> None:
        """End the system task."""
        self._scope.cancel()

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await trio.sleep(TICK_SECONDS)
                self.tick()


_ticker: trio.lowlevel.RunVar[TrioTicker] = trio.lowlevel.RunVar("eventbraid ticker")
