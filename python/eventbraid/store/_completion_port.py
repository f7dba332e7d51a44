"""The way of results from the engine's threads into an event loop.

Each event loop has one port. The engine's threads put results into it and make its
descriptor readable; the loop then takes many of them at once and wakes their tasks. No
thread is blocked by a call, and the engine never runs Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from eventbraid._native import CompletionPort

_T = TypeVar("_T")

# Each result wakes a task. This many are well below a millisecond of work; after them
# timers and sockets get their turn.
RESULTS_A_TURN = 64

TURN_SECONDS = 0.002
"""The time for which a task iterates over events in memory before a checkpoint."""


class LoopPort(Protocol):
    """The port of the event loop that runs now."""

    native: CompletionPort

    async def result(self, token: int) -> object:
        """Wait for the result of a token; an exception is returned, not raised."""
        ...

    async def shielded_result(self, token: int) -> object:
        """Wait as `result` does, to the end: a cancellation is raised afterwards."""
        ...

    async def raise_if_cancelled(self) -> None:
        """Raise the cancellation of the task, before an operation begins."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run, and raise the cancellation of this one."""
        ...


def unwrapped(result: object, kind: type[_T]) -> _T:
    """Return a completion's value, or raise the exception that is in its place."""
    if isinstance(result, BaseException):
        raise result
    if not isinstance(result, kind):
        message = f"expected {kind.__name__} from the engine, got {result!r}"
        raise TypeError(message)
    return result
