"""Commands that conflicted on a stream wait for each other instead of racing.

Each stream that is fought for has a line. Whoever stands first has the turn; those who
only read the stream share theirs, because they never disturb each other. Commands that
come new to a stream that others want to write stand in line as well, so that nobody in
it loses again and again to newcomers.

Turns are advice, not locks: what is written is decided by versions alone. A turn that
is skipped, for a deadline or a full line, costs at most one more attempt.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

LONGEST_LINE = 4096
"""Beyond so many, a command races after all: memory stays bounded."""

MOST_LINES = 64
"""A command stands in so many lines; the rest is left to its retries."""


class Waiter(Protocol):
    """Somebody who waits for a turn, in a thread or a task."""

    def wake(self) -> None:
        """Say that the turn has come; called from any thread."""
        ...

    async def wait(self, seconds: float) -> bool:
        """Wait for `wake`; tell whether it came in time."""
        ...


@dataclass(slots=True)
class Place:
    """A place in a line."""

    waiter: Waiter
    writes: bool
    has_turn: bool = False


class Line:
    """Those who want one stream, in the order in which they came."""

    __slots__ = ("_places", "_writers")

    def __init__(self) -> None:
        """Begin with nobody."""
        self._places: deque[Place] = deque()
        self._writers = 0

    def __len__(self) -> int:
        """Count the people."""
        return len(self._places)

    @property
    def has_writers(self) -> bool:
        """Whether somebody in it wants to write the stream."""
        return self._writers > 0

    def append(self, place: Place) -> None:
        """Stand at the end."""
        alone = not self._places
        self._places.append(place)
        self._writers += place.writes
        place.has_turn = alone or not self.has_writers

    def remove(self, waiter: Waiter) -> list[Waiter]:
        """Leave, wherever one stands; give those who have the turn now."""
        leaving = next((p for p in self._places if p.waiter is waiter), None)
        if leaving is None:
            return []
        self._places.remove(leaving)
        self._writers -= leaving.writes
        return [place.waiter for place in self._newly_first()]

    def _newly_first(self) -> list[Place]:
        found: list[Place] = []
        for place in self._places:
            if place.writes and place is not self._places[0]:
                break
            if not place.has_turn:
                place.has_turn = True
                found.append(place)
            if place.writes:
                break
        return found


class StreamQueues:
    """The lines of one store, shared by all of its executors and all threads."""

    __slots__ = ("__weakref__", "_lines", "_lock")

    def __init__(self) -> None:
        """Begin with no lines."""
        self._lock = threading.Lock()
        self._lines: dict[str, Line] = {}

    def contended(self, streams: Iterable[str]) -> list[str]:
        """Give those of the streams that somebody stands in line for to write."""
        if not self._lines:
            return []
        with self._lock:
            lines = self._lines
            return [s for s in streams if s in lines and lines[s].has_writers]

    def join(self, stream: str, waiter: Waiter, *, writes: bool) -> bool:
        """Stand in a stream's line; tell whether the turn has come already.

        A line that is full isn't joined, and counts as a turn.
        """
        with self._lock:
            line = self._lines.setdefault(stream, Line())
            if len(line) >= LONGEST_LINE:
                return True
            place = Place(waiter, writes)
            line.append(place)
            return place.has_turn

    def leave(self, stream: str, waiter: Waiter) -> None:
        """Leave a stream's line and wake whoever has the turn now."""
        with self._lock:
            line = self._lines.get(stream)
            following = [] if line is None else line.remove(waiter)
            if line is not None and not line:
                del self._lines[stream]
        for one in following:
            one.wake()


class QueueingPort(Protocol):
    """What taking turns needs of the world."""

    def waiter(self) -> Waiter:
        """Make somebody who can wait here."""
        ...

    def now(self) -> float:
        """Give a time in seconds that never goes back."""
        ...


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
        self, streams: Mapping[str, bool], port: QueueingPort, until: float
    ) -> None:
        """Wait for the turn on each stream, but not longer than until a time.

        Args:
            streams: The streams, with whether they are to be written.
            port: Who waits, and by which clock.
            until: The time on that clock.
        """
        for stream in sorted(streams)[:MOST_LINES]:
            waiter = port.waiter()
            self._taken.append((stream, waiter))
            if self._queues.join(stream, waiter, writes=streams[stream]):
                continue
            if not await waiter.wait(max(0.0, until - port.now())):
                return

    def give_back(self) -> None:
        """Leave all lines."""
        while self._taken:
            self._queues.leave(*self._taken.pop())


_queues: MutableMapping[object, PerProcess[StreamQueues]] = weakref.WeakKeyDictionary()
_queues_lock = PerProcess(threading.Lock)


def queues_of(store: object) -> PerProcess[StreamQueues]:
    """Give the lines of a store, the same for its sync and its async face.

    A stand-in for a store that can't be referred to weakly has lines of its own for
    each executor; its commands race where others queue.
    """
    owner = getattr(store, "_handle", store)
    if not _can_be_weak(owner):
        return PerProcess(StreamQueues)
    with _queues_lock.get():
        return _queues.setdefault(owner, PerProcess(StreamQueues))


def _can_be_weak(owner: object) -> bool:
    return any("__weakref__" in vars(kind) for kind in type(owner).__mro__)
