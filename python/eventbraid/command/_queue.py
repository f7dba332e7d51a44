"""Commands that conflicted on a stream queue for it instead of racing.

Each contended stream has a queue. Its first command has the turn; commands that only
read the stream share a turn, because they never conflict with each other. Commands that
are new to a stream which others wait to write join the queue as well, so that newcomers
don't win against those that wait.

Turns are advice, not locks: what is written is decided by versions alone, and a turn
that is skipped costs at most one more attempt. So no wait depends on a holder that
can't run. A holder whose event loop was closed or isn't running loses its turn when
the next command looks; any other holder that doesn't give its turn back in time, a hung
event loop for instance, loses it then.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from eventbraid.command._shared_state import SharedStates

QUEUES_LIMIT = 64
"""A command waits in at most so many queues; the other streams are left to retries."""

TURN_SECONDS = 0.5
"""How long a turn lasts, besides the time that the command's attempts have taken."""

CHECK_SECONDS = 0.25
"""How often one of the next waiters checks that the turn can still come."""

_NEXT = 64
"""How many waiters check that often; those far from the front do so less often."""

_OLDEST = 16
"""How many holders of a turn that they share one check looks at."""


class Waiter(Protocol):
    """A thread or a task that waits for a turn."""

    @property
    def runner(self) -> object:
        """What runs it: its event loop, or its thread."""
        ...

    @property
    def blocked(self) -> tuple[object, ...]:
        """The runners that stand still while it waits."""
        ...

    @property
    def is_urgent(self) -> bool:
        """Whether an event loop stands still while it waits."""
        ...

    def can_run(self) -> bool:
        """Return whether its runner is there and runs."""
        ...

    def wake(self) -> bool:
        """Signal the turn, from any thread; return whether the waiter can run."""
        ...

    async def wait(self, seconds: float) -> bool:
        """Wait for `wake`; return whether it came in time."""
        ...


class Hold:
    """The turns of one attempt, and until when they count.

    Attributes:
        allowed: For how many seconds a turn counts.
        expires_at: When the turns that it has expire. Never while it waits for one more
            turn: whether that comes is for the other queue.
        has_run: Whether the command ran since its last turn was granted.
    """

    __slots__ = ("allowed", "expires_at", "has_run")

    def __init__(self, allowed: float = TURN_SECONDS) -> None:
        """Begin without turns."""
        self.allowed = allowed
        self.expires_at = math.inf
        self.has_run = True


@dataclass(slots=True, eq=False)
class Place:
    """A place in a queue."""

    waiter: Waiter
    writes: bool
    hold: Hold


class StreamQueue:
    """The commands that want one stream: those with the turn, and those that wait."""

    __slots__ = ("_holders", "_waiting", "_writers", "states")

    def __init__(self) -> None:
        """Begin empty."""
        self.states: SharedStates = {}
        self._holders: dict[Place, None] = {}
        self._waiting: OrderedDict[Place, None] = OrderedDict()
        self._writers = 0

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self._holders) + len(self._waiting)

    @property
    def has_writers(self) -> bool:
        """Whether a command in it writes the stream."""
        return self._writers > 0

    def is_held_by(self, runners: tuple[object, ...]) -> bool:
        """Return whether a holder of the turn is run by one of these runners."""
        return any(place.waiter.runner in runners for place in self._holders)

    def join(self, place: Place) -> bool:
        """Add a place; return whether it has the turn."""
        self._writers += place.writes
        if not self._waiting and self._admits(place):
            self._holders[place] = None
            return True
        self._waiting[place] = None
        if place.waiter.is_urgent:
            # It waits for the end of one turn, not for that of all.
            self._waiting.move_to_end(place, last=False)
        return False

    def has(self, place: Place) -> bool:
        """Return whether the place waits or has the turn."""
        return place in self._waiting or place in self._holders

    def remove(self, place: Place, now: float) -> list[Place]:
        """Remove a place, if it is there; return the places that now have the turn."""
        if not self._discard(place):
            return []
        return self._grant(now)

    def expire(self, now: float) -> tuple[list[Place], list[Place]]:
        """Remove holders that can't run or whose time is over.

        Returns:
            The places that now have the turn, and those that were removed.
        """
        # Only readers share a turn, and there may be thousands of them.
        oldest = itertools.islice(self._holders, _OLDEST)
        late = [
            place
            for place in oldest
            if place.hold.expires_at <= now or not place.waiter.can_run()
        ]
        if not late:
            return [], []
        # A runner that didn't even begin its turn would not begin the next one either.
        hung = {
            place.waiter.runner
            for place in late
            if not (place.hold.has_run and place.waiter.can_run())
        }
        removed = dict.fromkeys(late)
        for place in (*self._holders, *self._waiting) if hung else ():
            if place.waiter.runner in hung:
                removed[place] = None
        for place in removed:
            self._discard(place)
        return self._grant(now), list(removed)

    def _discard(self, place: Place) -> bool:
        for places in (self._holders, self._waiting):
            if place in places:
                del places[place]
                self._writers -= place.writes
                return True
        return False

    def _admits(self, place: Place) -> bool:
        # A command that writes has its turn alone, so the first holder stands for all.
        first = next(iter(self._holders), None)
        return first is None or not (place.writes or first.writes)

    def _grant(self, now: float) -> list[Place]:
        granted: list[Place] = []
        while self._waiting and self._admits(first := next(iter(self._waiting))):
            del self._waiting[first]
            self._holders[first] = None
            first.hold.has_run = False
            first.hold.expires_at = now + first.hold.allowed
            granted.append(first)
            if first.writes:
                break
        return granted


class StreamQueues:
    """The queues of one store, shared by all of its executors and all threads."""

    __slots__ = ("__weakref__", "_lock", "_queues")

    def __init__(self) -> None:
        """Begin with no queues."""
        self._lock = threading.Lock()
        self._queues: dict[str, StreamQueue] = {}

    def contended(self, streams: Iterable[str]) -> list[str]:
        """Return those of the streams that a command waits or has a turn to write."""
        if not self._queues:
            return []
        with self._lock:
            queues = self._queues
            return [s for s in streams if s in queues and queues[s].has_writers]

    def join(self, stream: str, place: Place, now: float) -> float:
        """Join a stream's queue.

        Returns:
            After how many seconds at most to check whether the turn can still come; 0
            if there is nothing to wait for, because the place has the turn or because
            the command itself keeps the holder of the turn from running.
        """
        with self._lock:
            queue = self._queues.setdefault(stream, StreamQueue())
            woken, _ = queue.expire(now)
            ahead = len(queue)
            if queue.is_held_by(place.waiter.blocked) or queue.join(place):
                seconds = 0.0
            else:
                is_next = ahead <= _NEXT or place.waiter.is_urgent
                seconds = CHECK_SECONDS if is_next else 8 * CHECK_SECONDS
        self._wake(stream, woken, now)
        return seconds

    def states(self, stream: str) -> SharedStates:
        """Return the states that the commands of a stream's queue share."""
        with self._lock:
            queue = self._queues.get(stream)
            return {} if queue is None else queue.states

    def check(self, stream: str, place: Place, now: float) -> bool:
        """Remove holders that are late; return whether the place still waits."""
        with self._lock:
            queue = self._queues.get(stream)
            if queue is None:
                return False
            woken, removed = queue.expire(now)
            waits = queue.has(place)
            self._drop_if_empty(stream, queue)
        self._wake(stream, woken, now)
        # Those that were removed are not waited for any more, and needn't wait either.
        for one in removed:
            one.waiter.wake()
        return waits

    def leave(self, stream: str, place: Place, now: float) -> None:
        """Leave a stream's queue and wake the commands that now have the turn."""
        with self._lock:
            queue = self._queues.get(stream)
            woken = [] if queue is None else queue.remove(place, now)
            if queue is not None:
                self._drop_if_empty(stream, queue)
        self._wake(stream, woken, now)

    def _drop_if_empty(self, stream: str, queue: StreamQueue) -> None:
        if not queue:
            del self._queues[stream]

    def _wake(self, stream: str, places: Iterable[Place], now: float) -> None:
        """Wake commands, outside of the lock. One that can't run loses its turn."""
        woken = deque(places)
        while woken:
            place = woken.popleft()
            if place.waiter.wake():
                continue
            with self._lock:
                queue = self._queues.get(stream)
                if queue is not None:
                    woken.extend(queue.remove(place, now))
                    self._drop_if_empty(stream, queue)


class QueueingPort(Protocol):
    """What a hold needs from its thread or event loop."""

    def waiter(self) -> Waiter:
        """Make a waiter that waits here."""
        ...

    def now(self) -> float:
        """Return a time in seconds that never goes back."""
        ...


class Turns:
    """The turns that one attempt takes, in the order of the streams' names.

    Each attempt takes turns in the same order and gives all of them back before it
    takes others, so there is never a circle of waits.
    """

    __slots__ = ("_hold", "_now", "_queues", "_taken", "_waiter")

    def __init__(
        self, queues: StreamQueues, port: QueueingPort, allowed: float = TURN_SECONDS
    ) -> None:
        """Begin without any turn.

        Args:
            queues: The queues of the store.
            port: Where the command waits, and its clock.
            allowed: For how many seconds a turn counts.
        """
        self._queues = queues
        self._waiter: Callable[[], Waiter] = port.waiter
        self._now: Callable[[], float] = port.now
        self._hold = Hold(allowed)
        self._taken: list[tuple[str, Place]] = []

    async def take(self, streams: Mapping[str, bool], until: float) -> None:
        """Wait for the turn on each stream, but not longer than until a time.

        Args:
            streams: The streams, with whether they are to be written.
            until: The time on the port's clock.
        """
        hold = self._hold
        for stream in sorted(streams)[:QUEUES_LIMIT]:
            place = Place(self._waiter(), streams[stream], hold)
            self._taken.append((stream, place))
            hold.expires_at = math.inf
            seconds = self._queues.join(stream, place, self._now())
            if seconds and not await self._wait(stream, place, seconds, until):
                break
        hold.has_run = True
        hold.expires_at = self._now() + hold.allowed

    async def _wait(
        self, stream: str, place: Place, seconds: float, until: float
    ) -> bool:
        """Wait for one turn; return whether there is time left for further ones."""
        while (left := until - self._now()) > 0:
            if await place.waiter.wait(min(seconds, left)):
                self._hold.has_run = True
                return True
            if not self._queues.check(stream, place, self._now()):
                return True
        return False

    def states(self) -> SharedStates:
        """Return the states that the commands of the first queue share."""
        return self._queues.states(self._taken[0][0]) if self._taken else {}

    def give_back(self) -> None:
        """Leave all queues."""
        while self._taken:
            stream, place = self._taken.pop()
            self._queues.leave(stream, place, self._now())


_queues: MutableMapping[object, PerProcess[StreamQueues]] = weakref.WeakKeyDictionary()
_queues_lock = PerProcess(threading.Lock)


def queues_of(coordination: object) -> PerProcess[StreamQueues]:
    """Return the queues of all executors that share a store.

    Args:
        coordination: The object by which executors recognize the store: its
            `Coordination`, which is the same for its sync and its async face. The
            queues last as long as this object or one of the executors.

    Returns:
        The queues. For an object that can't be referred to weakly they are new ones:
        the commands of different executors race where others queue.
    """
    if not _can_be_weak(coordination):
        return PerProcess(StreamQueues)
    with _queues_lock.get():
        return _queues.setdefault(coordination, PerProcess(StreamQueues))


def _can_be_weak(coordination: object) -> bool:
    return any("__weakref__" in vars(kind) for kind in type(coordination).__mro__)
