"""The completion port and the ticker of an asyncio or uvloop event loop."""

from __future__ import annotations

import asyncio
import threading
import types
import weakref
from typing import TYPE_CHECKING

import anyio

from eventbraid._native import CompletionPort, forks
from eventbraid.store._completion_port import RESULTS_A_TURN
from eventbraid.store._fork import PerProcess
from eventbraid.store._ticker import TICK_SECONDS, Ticker

if TYPE_CHECKING:
    from collections.abc import Generator, MutableMapping


def current_port(loop: asyncio.AbstractEventLoop) -> AsyncioPort:
    """Return the port of the running event loop; make it if there is none.

    Args:
        loop: The running event loop.
    """
    known = _ports.get(loop)
    port = None if known is None else known()
    if port is None or port.made_by != forks():
        port = AsyncioPort(loop)
        with _ports_lock.get():
            _ports[loop] = weakref.ref(port)
    return port


class AsyncioPort:
    """The port of an asyncio or uvloop loop.

    It holds no reference to its loop, and the registry holds none to it: the loop's own
    reader keeps it alive, so that a closed loop is freed even with appends in flight.
    """

    __slots__ = ("__weakref__", "_waiting", "made_by", "native")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.native = CompletionPort()
        # A forked child that goes on with its parent's loop must not take what arrives
        # for its parent.
        self.made_by = forks()
        self._waiting: dict[int, asyncio.Future[object]] = {}
        loop.add_reader(self.native.fileno(), self._drain)

    async def result(self, token: int) -> object:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        try:
            return await future
        except BaseException:
            self._waiting.pop(token, None)
            raise

    async def shielded_result(self, token: int) -> object:
        # A cancelled scope of anyio delivers its cancellation again and again on
        # asyncio, and a plain task may be cancelled once more: both wait.
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not future.done():
                try:
                    await asyncio.shield(future)
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled
        return future.result()

    async def raise_if_cancelled(self) -> None:
        # asyncio delivers a cancellation when the task next runs, which is before this.
        return

    @types.coroutine
    def checkpoint(self) -> Generator[None]:
        # As `asyncio.sleep(0)`, without its two coroutines: each read passes here.
        yield

    def _drain(self) -> None:
        for token, result in self.native.drain(RESULTS_A_TURN):
            future = self._waiting.pop(token, None)
            if future is not None and not future.done():
                future.set_result(result)


_ports: MutableMapping[asyncio.AbstractEventLoop, weakref.ref[AsyncioPort]] = (
    weakref.WeakKeyDictionary()
)
_ports_lock = PerProcess(threading.Lock)


def current_ticker(loop: asyncio.AbstractEventLoop) -> AsyncioTicker:
    """Return the ticker of the running event loop; make it if there is none.

    Args:
        loop: The running event loop.
    """
    ticker = _tickers.get(loop)
    if ticker is None or ticker.made_by != forks():
        ticker = _tickers[loop] = AsyncioTicker()
    return ticker


class AsyncioTicker(Ticker):
    """Ticks by a timer of an asyncio or uvloop loop, which costs no task.

    It holds no reference to the loop between two ticks but the timer's own.
    """

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        super().__init__()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._timer = loop.call_later(TICK_SECONDS, self._turn, weakref.ref(loop))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self, ref: weakref.ref[asyncio.AbstractEventLoop]) -> None:
        self.tick()
        loop = ref()
        if loop is not None:
            self._timer = loop.call_later(TICK_SECONDS, self._turn, ref)


_tickers: MutableMapping[asyncio.AbstractEventLoop, AsyncioTicker] = (
    weakref.WeakKeyDictionary()
)
