"""The event loop of a thread, for use from other threads."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio


@dataclass(frozen=True, slots=True)
class AsyncioLoop:
    """An event loop of asyncio or uvloop."""

    loop: asyncio.AbstractEventLoop

    def is_running(self) -> bool:
        """Return whether the loop runs, and wasn't stopped or closed."""
        return self.loop.is_running()

    def call(self, function: Callable[[], object]) -> bool:
        """Schedule a call in the loop; return False if the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class TrioLoop:
    """A run of trio."""

    token: trio.lowlevel.TrioToken

    def is_running(self) -> bool:
        """Return whether the run isn't over."""
        return self.call(_nothing)

    def call(self, function: Callable[[], object]) -> bool:
        """Schedule a call in the run; return False if the run is over."""
        try:
            self.token.run_sync_soon(function, idempotent=True)
        except RuntimeError:
            return False
        return True


def _nothing() -> None:
    """Do nothing. Trio refuses to schedule this function if the run is over."""


def running_loop() -> AsyncioLoop | TrioLoop | None:
    """Return the event loop that runs in this thread, if there is one."""
    if "trio" in sys.modules:
        import trio  # noqa: PLC0415 - an optional dependency, imported already

        if trio.lowlevel.in_trio_run():
            return TrioLoop(trio.lowlevel.current_trio_token())
    try:
        return AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        return None
