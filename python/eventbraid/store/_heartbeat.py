"""Heartbeats that come from an event loop, for leases that live in it.

The engine's heartbeat comes from a thread, which runs on while an event loop hangs. So
each loop whose tasks hold leases ticks, and the engine never reports a session as newer
than the last tick of its slowest loop.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, cast

from eventbraid._native import forks

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from eventbraid._native import Store
    from eventbraid.store._handle import Handle

TICK_SECONDS = 0.1
"""The interval between two ticks of an event loop."""


class LoopHeartbeat:
    """The heartbeat of one holder of leases that lives in an event loop."""

    __slots__ = ("_number", "_store", "_ticker")

    def __init__(self, store: object) -> None:
        """Start the heartbeat; call it in the running event loop.

        Args:
            store: The store, or an object that wraps one.
        """
        self._store = _native_of(store)
        self._number = self._store.register_loop()
        self._ticker = current_ticker()
        self._ticker.add(self)

    def tick(self) -> None:
        """Report to the engine that the loop runs."""
        self._store.tick(self._number)

    def age(self) -> float:
        """Return the seconds since the last tick; 0 for callers within the loop.

        Code that runs in the loop proves that the loop runs, even if the tick is late.
        """
        if self._ticker.thread == threading.get_ident():
            return 0.0
        return time.monotonic() - self._ticker.ticked_at

    def stop(self) -> None:
        """Stop the heartbeat: the holder has released its leases."""
        self._ticker.remove(self)
        self._store.unregister_loop(self._number)


class Ticker:
    """The ticks of one event loop, while anything in it needs them."""

    __slots__ = ("__weakref__", "_heartbeats", "made_by", "thread", "ticked_at")

    def __init__(self) -> None:
        """Begin without heartbeats."""
        self._heartbeats: set[LoopHeartbeat] = set()
        self.thread = threading.get_ident()
        self.made_by = forks()
        self.ticked_at = time.monotonic()

    def add(self, heartbeat: LoopHeartbeat) -> None:
        """Tick for a heartbeat from now on."""
        if not self._heartbeats:
            self.ticked_at = time.monotonic()
            self.start()
        self._heartbeats.add(heartbeat)

    def remove(self, heartbeat: LoopHeartbeat) -> None:
        """Tick no more for a heartbeat."""
        self._heartbeats.discard(heartbeat)
        if not self._heartbeats:
            self.stop()

    def tick(self) -> None:
        """Record that the loop runs."""
        self.ticked_at = time.monotonic()
        for heartbeat in self._heartbeats:
            heartbeat.tick()

    def start(self) -> None:
        """Have the loop tick."""
        raise NotImplementedError

    def stop(self) -> None:
        """Have the loop tick no more."""
        raise NotImplementedError


class _AsyncioTicker(Ticker):
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


def current_ticker() -> Ticker:
    """Find the ticker of the running event loop, or make it.

    Raises:
        RuntimeError: No event loop runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio_ticker()
    ticker = _tickers.get(loop)
    if ticker is None or ticker.made_by != forks():
        ticker = _tickers[loop] = _AsyncioTicker()
    return ticker


_tickers: MutableMapping[asyncio.AbstractEventLoop, Ticker] = (
    weakref.WeakKeyDictionary()
)


def _trio_ticker() -> Ticker:
    # If trio was never imported, no trio loop runs; importing it would be in vain.
    if "trio" in sys.modules:
        from eventbraid.store import _trio  # noqa: PLC0415 - trio is optional

        if _trio.is_running():
            return _trio.current_ticker()
    message = "no asyncio or trio event loop runs here"
    raise RuntimeError(message)


def _native_of(store: object) -> Store:
    handle = cast("Handle", getattr(store, "_handle"))  # noqa: B009 - of any face, or what wraps one
    return handle.native
