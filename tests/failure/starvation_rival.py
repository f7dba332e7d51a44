"""A process beside a command: appends to its stream, or holds a reservation of it.

Args: what to do, the store, the stream. It prints a line when it has begun, and goes on
until its standard input ends.
"""

from __future__ import annotations

import sys
import threading
import time

import eventbraid as eb
from eventbraid.store._reservation import LONGEST_SECONDS
from tests.commands import Deposited, Money, raw


def say(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


def append(path: str, stream: str) -> None:
    """Append as fast as the disk allows; print how many, and the longest wait."""
    ended = threading.Event()
    threading.Thread(
        target=lambda: (sys.stdin.read(), ended.set()), daemon=True
    ).start()
    appended, longest = 0, 0.0
    with eb.open(path) as store:
        say("ready")
        while not ended.is_set():
            began = time.monotonic()
            store.append([raw(stream, Deposited(Money(1)))])
            appended, longest = appended + 1, max(longest, time.monotonic() - began)
    say(f"{appended} {longest}")


def hold(path: str, stream: str) -> None:
    """Reserve the stream for as long as possible."""
    with eb.open(path) as store:
        assert store.coordination.reserve([stream], LONGEST_SECONDS)
        say("ready")
        sys.stdin.read()


if __name__ == "__main__":
    {"append": append, "hold": hold}[sys.argv[1]](*sys.argv[2:])
