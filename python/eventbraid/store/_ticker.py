"""The periodic sign that an event loop runs."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from eventbraid._native import forks

TICK_SECONDS = 0.1
"""The interval between two ticks of an event loop."""


class Ticking(Protocol):
    """A receiver of ticks."""

    def tick(self) -> None:
        """Report that the event loop runs."""
        ...


class Ticker:
    """The ticks of one event loop, while anything in it needs them."""

    __slots__ = ("__weakref__", "_heartbeats", "made_by", "thread", "ticked_at")

    def __init__(self) -> None:
        """Start without heartbeats."""
        self._heartbeats: set[Ticking] = set()
        self.thread = threading.get_ident()
        self.made_by = forks()
        self.ticked_at = time.monotonic()

    def add(self, heartbeat: Ticking) -> None:
        """Tick for a heartbeat from now on."""
        if not self._heartbeats:
            self.ticked_at = time.monotonic()
            self.start()
        self._heartbeats.add(heartbeat)

    def remove(self, heartbeat: Ticking) -> None:
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
        """Start the ticks."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the ticks."""
        raise NotImplementedError
