"""Other threads run while the engine works, each call of it.

The hazard: a binding that holds the interpreter's lock while the disk works, so that every
other thread of the program stands still.

The interpreter never takes its lock from a thread here: another one runs only if the lock
is let go of. It asks for it all the time, so that one release in many is enough.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import eventbraid as eb

TRIES = 2_000


class Other:
    """A thread that counts, and lets go of the lock after each number."""

    def __init__(self) -> None:
        self.count = 0
        self.ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.ended:
            self.count += 1
            time.sleep(0)

    def end(self) -> None:
        self.ended = True
        self._thread.join()

    def ran_during(self, work: Callable[[], object]) -> bool:
        """Whether it could count while the work was done, once in many times."""
        for _ in range(TRIES):
            before = self.count
            work()
            if self.count != before:
                return True
        return False


@pytest.fixture
def other() -> Iterator[Other]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e6)
    thread = Other()
    try:
        yield thread
    finally:
        thread.end()
        sys.setswitchinterval(usual)


@pytest.fixture
def store(tmp_path) -> Iterator[eb.EventStore]:
    # Nothing is cached, so that a read takes long enough for another thread to wake up.
    with eb.open(tmp_path / "store", cache_size=0) as opened:
        for number in range(30):
            opened.append([(f"s-{number % 3}", "x", bytes(100_000))])
        yield opened


CALLS = {
    "a small append": lambda store: store.append([("a", "x", b"")]),
    "a large append": lambda store: store.append([("a", "x", bytes(100_000))]),
    "read_all": lambda store: list(store.read_all(limit=30)),
    "read_stream": lambda store: list(store.read_stream("s-1")),
    "read_streams": lambda store: store.read_streams(["s-0", "s-1"]),
    "verify": lambda store: store.verify(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_other_threads_run_meanwhile(other, store, call):
    assert other.ran_during(lambda: call(store))


def test_a_call_that_holds_the_lock_would_be_found(other):
    numbers = list(range(10_000))
    assert not other.ran_during(lambda: sum(numbers))
