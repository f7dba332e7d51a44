"""Runs a coroutine without an event loop.

Code that both faces need is written once, as a coroutine over a port. Over the port of
a thread it never suspends, because each answer is there when the call returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run_without_loop(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine that never suspends, and return its result.

    Raises:
        RuntimeError: It suspended: it was written over the port of an event loop.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a synchronous call waited for an event loop")
