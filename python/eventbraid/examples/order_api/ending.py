"""Live streams end when the server is asked to end.

A server that is asked to end waits for the answers under way, and a live stream has no
end of its own. ASGI tells an application of the shutdown only after that wait. So the
application listens to the signal itself, and leaves everything else to the server.
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
def told_of_the_end(tell: Callable[[], None]) -> Generator[None]:
    """Call a function when a signal asks this process to end, before the server acts.

    Args:
        tell: What to call; it must be quick, and safe in a signal handler.
    """
    # Elsewhere than in the main thread no signal arrives, as in a server under test.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}

    def handle(number: int, frame: FrameType | None) -> None:
        tell()
        _hand_on(before[signal.Signals(number)], number, frame)

    for number in _ENDING:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hand_on(handler: object, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    elif handler is signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
