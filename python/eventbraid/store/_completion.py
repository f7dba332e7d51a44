"""How results come back from the engine's threads into an event loop.

Each event loop has one port. The engine's threads put results into it and make its
descriptor readable; the loop then takes many of them in one go and wakes whoever waits.
No thread is parked for a call, and the engine never runs Python.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import types
import weakref
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio

from eventbraid._native import CompletionPort, forks
from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, MutableMapping

_T = TypeVar("_T")

# Each result lets a task go on. So many at a time are well below a millisecond of work,
# after which timers and sockets get their turn.
RESULTS_A_TURN = 64

TURN_SECONDS = 0.002
"""How long a task may iterate over events in memory before other tasks get a turn."""


class LoopPort(Protocol):
    """The port of the event loop that runs now."""

    native: CompletionPort

    async def result(self, token: int) -> object:
        """Wait for what arrives under a token; an exception is answered, not raised."""
        ...

    async def shielded_result(self, token: int) -> object:
        """Like `result`, but no cancellation that is under way ends it."""
        ...

    async def raise_if_cancelled(self) -> None:
        """Stop here if the task has been cancelled, before anything is begun."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let the loop's other tasks run, and stop here if this one is cancelled."""
        ...


def unwrapped(result: object, kind: type[_T]) -> _T:
    """Answer a completion's value, or raise the exception that came in its place."""
    if isinstance(result, BaseException):
        raise result
    if not isinstance(result, kind):
        message = f"expected {kind.__name__} from the engine, got {result!r}"
        raise TypeError(message)
    return result


def current_port() -> LoopPort:
    """Find the port of the running event loop, or make it.

    Raises:
        RuntimeError: If no event loop runs that the library knows.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio_port()
    known = _ports.get(loop)
    port = None if known is None else known()
    if port is None or port.made_by != forks():
        port = _AsyncioPort(loop)
        with _ports_lock.get():
            _ports[loop] = weakref.ref(port)
    return port


class _AsyncioPort:
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


_ports: MutableMapping[asyncio.AbstractEventLoop, weakref.ref[_AsyncioPort]] = (
    weakref.WeakKeyDictionary()
)
_ports_lock = PerProcess(threading.Lock)


def _trio_port() -> LoopPort:
    # If trio was never imported, no trio loop runs; importing it would be in vain.
    if "trio" in sys.modules:
        from eventbraid.store import _trio  # noqa: PLC0415 - trio is optional

        if _trio.is_running():
            return _trio.current_port()
    message = "no asyncio or trio event loop runs here; use eventbraid.open instead"
    raise RuntimeError(message)
