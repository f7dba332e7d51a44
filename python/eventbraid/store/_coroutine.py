"""Code that is written once, for use with and without an event loop.

Logic that both faces need is a coroutine over a port. Over the port of a thread it
never suspends, because each answer is there when the call returns. The public methods
are written for event loops; those without are generated from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

ASYNC = True
"""Whether a module is written for event loops: True in every module that is run.

`scripts/generate_sync.py` makes the synchronous face of the asynchronous one. Where
more than `async` and `await` differs, a function has a block ``if not ASYNC:``, which
is the body of the synchronous function.
"""


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
