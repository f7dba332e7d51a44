"""The queues of contended streams, in which commands wait instead of conflicting.

A stream on which commands have conflicted has a queue. The first command of the queue
has the turn, and executes its next attempt. Commands that only read the stream share a
turn, because they never conflict with each other. If a command waits to write a stream,
a new command on the same stream joins the queue, too. Otherwise new commands would
commit first, and the waiting command would have another conflict.

A turn isn't a lock: the store decides by versions alone whether a commit is accepted. A
command that doesn't wait for its turn costs at most one more attempt. So a command
never waits for a holder of the turn that can't run. If the holder's event loop is
closed or isn't running, the holder loses its turn at the next check by a waiting
command. Any other holder, for example in an event loop that hangs, loses its turn when
its time is over.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from eventbraid.command._shared_reservation import SharedReservations
from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from eventbraid.command._shared_state import SharedStates

QUEUES_LIMIT = 64
"""The maximum number of queues that a command joins; it retries on other streams."""

TURN_SECONDS = 0.5
"""The duration of a turn, in addition to three times the longest attempt so far."""

CHECK_SECONDS = 0.25
"""The interval in seconds at which a waiter near the front checks the holders."""

_NEXT = 64
"""The number of waiters that check at this interval; others check less often."""

_OLDEST = 16
"""The maximum number of holders of a shared turn that one check examines."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Waiter(Protocol):
    """A thread or a task that waits for a turn."""

    @property
    def runner(self) -> object:
        """The event loop or the thread that executes the waiting command."""
        ...

    @property
    def blocked(self) -> tuple[object, ...]:
        """The event loops and threads that are blocked while it waits."""
        ...

    @property
    def is_urgent(self) -> bool:
        """Whether its wait blocks an event loop."""
        ...

    def can_run(self) -> bool:
        """Return whether its event loop is running; True for a thread."""
        ...

    def wake(self) -> bool:
        """Signal that the waiter has the turn; return whether the waiter can run.

        Any thread may call this method.
        """
        ...

    async def wait(self, seconds: float) -> bool:
        """Wait for `wake`; return whether it was called in time."""
        ...


class Hold:
    """The turns of one attempt, and the time at which they expire.

    Attributes:
        allowed: The duration of a turn in seconds.
        expires_at: The time at which the attempt's turns expire. They don't expire
            while the attempt waits for one more turn, because the length of that wait
            depends on other commands.
        has_run: Whether the command has continued since its last turn was granted.
    """

    __slots__ = ("allowed", "expires_at", "has_run")

    def __init__(self, allowed: float = TURN_SECONDS) -> None:
        """Begin without turns."""
        self.allowed = allowed
        self.expires_at = math.inf
        self.has_run = True


@dataclass(slots=True, eq=False)
class Place:
    """A place of a command in a queue.

    Attributes:
        waiter: The thread or task that waits.
        writes: Whether the command writes to the stream.
        hold: The turns of the attempt.
        builds_on: The identity of the pending states of the stream on which the command
            can decide. A command can only decide on the states of commands with an
            equal value. None if it decides on durable states only.
        has_passed_on: Whether the command has published its state, and lets commands
            that can build on it have the turn, too.
    """

    waiter: Waiter
    writes: bool
    hold: Hold
    builds_on: object = None
    has_passed_on: bool = False


class StreamQueue:
    """The queue of one stream: the commands with the turn, and the waiting commands.

    Attributes:
        states: The states that the commands share.
        version: The version of the stream after the last commit in a turn; 0 if it
            isn't known. The next command may have an older state in its cache: the
            commit may be that of a command with another kind of the stream, or with
            another cache.
    """

    __slots__ = ("_active", "_holders", "_waiting", "_writers", "states", "version")

    def __init__(self) -> None:
        """Begin without commands."""
        self.states: SharedStates = {}
        self.version = 0
        self._holders: dict[Place, None] = {}
        self._waiting: OrderedDict[Place, None] = OrderedDict()
        self._writers = 0
        # The number of holders that have not passed on the turn.
        self._active = 0

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self._holders) + len(self._waiting)

    @property
    def has_writers(self) -> bool:
        """Whether a command writes to the stream that has or awaits the turn alone."""
        return self._writers > 0

    @property
    def is_awaited(self) -> bool:
        """Whether a command waits for the turn."""
        return bool(self._waiting)

    def is_held_by(self, runners: tuple[object, ...]) -> bool:
        """Return whether a holder of the turn runs in one of these threads or loops."""
        return any(place.waiter.runner in runners for place in self._holders)

    def join(self, place: Place) -> bool:
        """Add a place; return whether it has the turn."""
        self._writers += place.writes
        if not self._waiting and self._admits(place):
            self._holders[place] = None
            self._active += 1
            return True
        self._waiting[place] = None
        if place.waiter.is_urgent:
            # Its wait blocks an event loop, so it waits only for the end of the present
            # turn.
            self._waiting.move_to_end(place, last=False)
        return False

    def has(self, place: Place) -> bool:
        """Return whether a place is in this queue."""
        return place in self._waiting or place in self._holders

    def remove(self, place: Place, now: float) -> list[Place]:
        """Remove a place, if it is there; return the places that now have the turn."""
        if not self._discard(place):
            return []
        return self._grant(now)

    def pass_on(self, place: Place, now: float) -> list[Place]:
        """Let commands have the turn that can build on the pending state of a holder.

        The place remains until the append is durable. Any other command would decide on
        a state before that of the holder, and have a conflict.
        """
        if place not in self._holders or place.has_passed_on or not place.builds_on:
            return []
        if not place.writes:
            return self.remove(place, now)
        place.has_passed_on = True
        self._active -= 1
        # New commands that can build on it needn't queue, which takes some time.
        self._writers -= 1
        return self._grant(now)

    def expire(self, now: float) -> tuple[list[Place], list[Place]]:
        """Remove holders that can't run or whose time is over.

        Returns:
            The places that now have the turn, and those that were removed.
        """
        # Thousands of readers may share a turn, so only some of them are examined.
        oldest = itertools.islice(self._holders, _OLDEST)
        late = [
            place
            for place in oldest
            if place.hold.expires_at <= now or not place.waiter.can_run()
        ]
        if not late:
            return [], []
        # If a command hasn't continued since it got the turn, its thread or event loop
        # hangs. The other commands there can't continue either, so all of them are
        # removed.
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
                if not place.has_passed_on:
                    self._writers -= place.writes
                    self._active -= places is self._holders
                return True
        return False

    def _admits(self, place: Place) -> bool:
        # Several holders are readers, or have equal values of `builds_on`. So it is
        # enough to examine the first one.
        first = next(iter(self._holders), None)
        if first is None:
            return True
        if not self._active:
            return place.builds_on == first.builds_on
        return not (place.writes or first.writes)

    def _grant(self, now: float) -> list[Place]:
        granted: list[Place] = []
        while self._waiting and self._admits(first := next(iter(self._waiting))):
            del self._waiting[first]
            self._holders[first] = None
            self._active += 1
            first.hold.has_run = False
            first.hold.expires_at = now + first.hold.allowed
            granted.append(first)
            if first.writes:
                break
        return granted


class StreamQueues:
    """The queues of one store, shared by all of its executors and all threads."""

    __slots__ = ("__weakref__", "_lock", "_queues", "reservations")

    def __init__(self) -> None:
        """Begin without queues."""
        self.reservations = SharedReservations()
        self._lock = threading.Lock()
        self._queues: dict[str, StreamQueue] = {}

    def contended(self, streams: Iterable[str]) -> list[str]:
        """Return the streams whose queue has a command that writes."""
        if not self._queues:
            return []
        with self._lock:
            queues = self._queues
            return [s for s in streams if s in queues and queues[s].has_writers]

    def join(self, stream: str, place: Place, now: float) -> float:
        """Join a stream's queue.

        Returns:
            The seconds to wait before the next `check`; 0 if the command must not wait,
            because it has the turn, or because its wait would block the holder of the
            turn.
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
        """Return the shared states of a stream's queue."""
        with self._lock:
            queue = self._queues.get(stream)
            return {} if queue is None else queue.states

    def versions(self, streams: Iterable[str]) -> dict[str, int]:
        """Return the versions of streams that were noted in their queues."""
        with self._lock:
            queues = self._queues
            return {
                stream: version
                for stream in streams
                if stream in queues and (version := queues[stream].version)
            }

    def is_awaited(self, stream: str) -> bool:
        """Return whether a command waits for the turn on a stream."""
        with self._lock:
            queue = self._queues.get(stream)
            return queue is not None and queue.is_awaited

    def check(self, stream: str, place: Place, now: float) -> bool:
        """Remove holders whose turn is over; return whether the place remains."""
        with self._lock:
            queue = self._queues.get(stream)
            if queue is None:
                return False
            woken, removed = queue.expire(now)
            waits = queue.has(place)
            self._drop_if_empty(stream, queue)
        self._wake(stream, woken, now)
        # No command waits for the removed commands any more, so they needn't wait
        # either.
        for one in removed:
            one.waiter.wake()
        return waits

    def pass_on(self, stream: str, place: Place, now: float) -> None:
        """Share a turn with the commands that can build on the holder's state."""
        with self._lock:
            queue = self._queues.get(stream)
            woken = [] if queue is None else queue.pass_on(place, now)
        self._wake(stream, woken, now)

    def leave(self, stream: str, place: Place, now: float, version: int = 0) -> None:
        """Leave a stream's queue, and wake the commands that have the turn now.

        Args:
            stream: The stream.
            place: The place that is left.
            now: The time.
            version: The version of the stream after the command; 0 if it isn't known.
        """
        with self._lock:
            queue = self._queues.get(stream)
            woken = [] if queue is None else queue.remove(place, now)
            if queue is not None:
                queue.version = max(queue.version, version)
                self._drop_if_empty(stream, queue)
        self._wake(stream, woken, now)

    def _drop_if_empty(self, stream: str, queue: StreamQueue) -> None:
        if not queue:
            del self._queues[stream]

    def _wake(self, stream: str, places: Iterable[Place], now: float) -> None:
        """Wake commands outside of the lock; one that can't run loses its turn."""
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
    """The operations that `Turns` needs of its thread or event loop."""

    def waiter(self) -> Waiter:
        """Return a waiter for the current thread or task."""
        ...

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        ...


class Turns:
    """The turns that one attempt acquires, in the order of the streams' names.

    All attempts acquire turns in this order, and release all of them before the next
    attempt. So there is no deadlock.
    """

    __slots__ = ("_committed", "_hold", "_now", "_queues", "_taken", "_waiter")

    def __init__(
        self, queues: StreamQueues, port: QueueingPort, allowed: float = TURN_SECONDS
    ) -> None:
        """Begin without a turn.

        Args:
            queues: The queues of the store.
            port: Builds waiters, and has the clock.
            allowed: The duration of a turn in seconds.
        """
        self._queues = queues
        self._waiter: Callable[[], Waiter] = port.waiter
        self._now: Callable[[], float] = port.now
        self._hold = Hold(allowed)
        self._taken: list[tuple[str, Place]] = []
        self._committed: Mapping[str, int] = _NOTHING

    async def take(
        self,
        streams: Mapping[str, bool],
        until: float,
        builds_on: Mapping[str, object] = _NOTHING,
    ) -> None:
        """Wait for the turn on each stream, at most until a time.

        Args:
            streams: For each stream, whether the command writes to it.
            until: The time on the port's clock.
            builds_on: What identifies the pending states on which the command can
                decide, for each stream that can have some; see `Place`.
        """
        hold = self._hold
        for stream in sorted(streams)[:QUEUES_LIMIT]:
            place = Place(self._waiter(), streams[stream], hold, builds_on.get(stream))
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
        """Wait for one turn; return False if the time is over."""
        while (left := until - self._now()) > 0:
            if await place.waiter.wait(min(seconds, left)):
                self._hold.has_run = True
                return True
            if not self._queues.check(stream, place, self._now()):
                return True
        return False

    def extend(self) -> None:
        """Let the turns begin anew, because the command makes progress.

        A command may need longer than a turn to read a very long stream for the first
        time. If its turn ended meanwhile, the next command would read the stream, too.
        """
        self._hold.expires_at = self._now() + self._hold.allowed

    def states(self) -> SharedStates:
        """Return the shared states of the first stream's queue."""
        return self._queues.states(self._taken[0][0]) if self._taken else {}

    def versions(self) -> dict[str, int]:
        """Return the versions that the streams have at least, as far as known."""
        return self._queues.versions([stream for stream, _ in self._taken])

    def note_versions(self, versions: Mapping[str, int]) -> None:
        """Note the versions after a commit, for the next commands of the queues."""
        self._committed = versions

    def awaited(self) -> list[str]:
        """Return the streams for whose turns other commands wait."""
        return [one for one, _ in self._taken if self._queues.is_awaited(one)]

    def pass_on(self) -> None:
        """Share the turns with the commands that can build on this one's append."""
        now = self._now()
        for stream, place in self._taken:
            self._queues.pass_on(stream, place, now)

    def give_back(self) -> None:
        """Leave all queues."""
        while self._taken:
            stream, place = self._taken.pop()
            version = self._committed.get(stream, 0)
            self._queues.leave(stream, place, self._now(), version)


_queues: MutableMapping[object, PerProcess[StreamQueues]] = weakref.WeakKeyDictionary()
_queues_lock = PerProcess(threading.Lock)


def queues_of(coordination: object) -> PerProcess[StreamQueues]:
    """Return the queues of all executors that share a store.

    Args:
        coordination: The store's `Coordination`, which is the same object for the store
            and its async form. The queues exist as long as this object or one of the
            executors.

    Returns:
        The queues. For an object without weak references, they are new queues. Then the
        commands of different executors don't wait for each other.
    """
    if not _can_be_weak(coordination):
        return PerProcess(StreamQueues)
    with _queues_lock.get():
        return _queues.setdefault(coordination, PerProcess(StreamQueues))


def _can_be_weak(coordination: object) -> bool:
    return any("__weakref__" in vars(kind) for kind in type(coordination).__mro__)
