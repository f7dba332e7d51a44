"""A hook that ends the live streams when the server is asked to end.

A server that is asked to end waits for its open responses, and a live stream has no end
of its own. ASGI notifies the application of the shutdown only after that wait. So the
application handles the signal itself, and then passes it on to the server.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def call_before_shutdown(function: Callable[[], None]) -> Generator[None]:
    """Call a function when a signal asks this process to end, before the server acts.

    Args:
        function: It must be quick, and safe in a signal handler.
    """
    # Signal handlers can only be set in the main thread. A server under test runs in
    # another one, which receives no signals anyway.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}

    def handle(number: int, frame: FrameType | None) -> None:
        function()
        _pass_on(before[signal.Signals(number)], number, frame)

    for number in _ENDING:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(handler: object, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    elif handler is signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
