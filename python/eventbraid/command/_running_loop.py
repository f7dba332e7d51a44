"""The event loop that runs in a thread, as seen from other threads."""

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
        """Return whether it runs; one that was stopped or closed doesn't."""
        return self.loop.is_running()

    def call(self, function: Callable[[], object]) -> bool:
        """Have the loop call a function; return False if the loop is closed."""
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
        """Return whether it runs."""
        return self.call(_nothing)

    def call(self, function: Callable[[], object]) -> bool:
        """Have the run call a function; return False if it is over."""
        try:
            self.token.run_sync_soon(function, idempotent=True)
        except RuntimeError:
            return False
        return True


def _nothing() -> None:
    """Do nothing: trio shows whether a run is over by refusing a call into it."""


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
