"""Heartbeats that come from an event loop, for leases that live in it.

The engine's heartbeat comes from a thread that continues to run while an event loop
hangs. So each loop whose tasks hold leases ticks, and the engine never reports a
heartbeat that is newer than the oldest of the loops' last ticks.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from eventbraid.store._current_port import current_ticker

if TYPE_CHECKING:
    from eventbraid._native import Store


class LoopHeartbeat:
    """The heartbeat of one holder of leases that lives in an event loop."""

    __slots__ = ("_number", "_store", "_ticker")

    def __init__(self, store: Store) -> None:
        """Start the heartbeat; call it in the running event loop.

        Args:
            store: The native store.
        """
        self._store = store
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
