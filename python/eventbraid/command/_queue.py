"""Commands that conflicted on a stream wait for each other instead of racing.

A line is a stream's queue; who stands first has the turn. Turns are advice, not locks:
what is written is decided by the versions alone. So a line may be left early, and a
command that never conflicted may come in between, without any harm but a retry.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

LONGEST_LINE = 4096
"""Beyond so many, a command races after all: memory stays bounded."""

MOST_LINES = 64
"""A command queues for so many streams; the rest is left to its retries."""


class Waiter(Protocol):
    """Somebody who waits for a turn, in a thread or a task."""

    def wake(self) -> None:
        """Say that the turn has come; called from any thread."""
        ...

    async def wait(self, seconds: float) -> bool:
        """Wait for `wake`; tell whether it came in time."""
        ...


class StreamQueues:
    """The lines of one store, shared by all of its executors and all threads."""

    __slots__ = ("__weakref__", "_lines", "_lock")

    def __init__(self) -> None:
        """Begin with no lines."""
        self._lock = threading.Lock()
        self._lines: dict[str, deque[Waiter]] = {}

    def contended(self, streams: Iterable[str]) -> list[str]:
        """Give those of the streams that somebody queues for."""
        if not self._lines:
            return []
        return [stream for stream in streams if stream in self._lines]

    def join(self, stream: str, waiter: Waiter) -> bool:
        """Stand in a stream's line; tell whether the turn has come already.

        A line that is full isn't joined, and counts as a turn.
        """
        with self._lock:
            line = self._lines.setdefault(stream, deque())
            if len(line) >= LONGEST_LINE:
                return True
            line.append(waiter)
            return line[0] is waiter

    def leave(self, stream: str, waiter: Waiter) -> None:
        """Leave a stream's line, wherever one stands, and wake who is next."""
        with self._lock:
            following = self._without(stream, waiter)
        if following is not None:
            following.wake()

    def _without(self, stream: str, waiter: Waiter) -> Waiter | None:
        line = self._lines.get(stream)
        if line is None or waiter not in line:
            return None
        had_turn = line[0] is waiter
        line.remove(waiter)
        if not line:
            del self._lines[stream]
            return None
        return line[0] if had_turn else None


class Turns:
    """The turns that one attempt takes, in the order of the streams' names.

    Everybody takes turns in the same order and gives all of them back before taking
    others, so nobody ever waits in a circle.
    """

    __slots__ = ("_queues", "_taken")

    def __init__(self, queues: StreamQueues) -> None:
        """Begin without any turn."""
        self._queues = queues
        self._taken: list[tuple[str, Waiter]] = []

    async def take(
        self, streams: Iterable[str], port: QueueingPort, until: float
    ) -> None:
        """Wait for the turn on each stream, but not longer than until a time."""
        for stream in sorted(streams)[:MOST_LINES]:
            waiter = port.waiter()
            self._taken.append((stream, waiter))
            if self._queues.join(stream, waiter):
                continue
            if not await waiter.wait(max(0.0, until - port.now())):
                return

    def give_back(self) -> None:
        """Leave all lines."""
        while self._taken:
            self._queues.leave(*self._taken.pop())


class QueueingPort(Protocol):
    """What taking turns needs of the world."""

    def waiter(self) -> Waiter:
        """Make somebody who can wait here."""
        ...

    def now(self) -> float:
        """Give a time in seconds that never goes back."""
        ...


_queues: MutableMapping[object, StreamQueues] = weakref.WeakKeyDictionary()
_queues_lock = threading.Lock()


def queues_of(store: object) -> StreamQueues:
    """Give the lines of a store, the same for its sync and its async face.

    A stand-in for a store that can't be referred to weakly has lines of its own for
    each executor; its commands race where others queue.
    """
    owner = getattr(store, "_handle", store)
    if not _can_be_weak(owner):
        return StreamQueues()
    with _queues_lock:
        return _queues.setdefault(owner, StreamQueues())


def _can_be_weak(owner: object) -> bool:
    return any("__weakref__" in vars(kind) for kind in type(owner).__mro__)
