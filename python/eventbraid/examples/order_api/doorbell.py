"""Wakes those who follow an order when something was recorded of it.

Each worker has one subscription, however many clients it serves, and none while nobody
follows anything. What was recorded is not handed over: who is woken reads on where he
was. So a slow client costs no memory, and whatever rings twice is read once.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

import eventbraid as eb

from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from anyio.abc import TaskGroup

_log = logging.getLogger(__name__)


class Ring:
    """One listener's bell.

    Attributes:
        ended: Whether it rings no more, because the worker is about to end.
    """

    def __init__(self) -> None:
        self.ended = False
        self._rung = anyio.Event()

    def arm(self) -> None:
        """Forget what has rung. To be called before reading, so that none is missed."""
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the listener."""
        self._rung.set()

    def end(self) -> None:
        """Wake the listener for the last time."""
        self.ended = True
        self._rung.set()

    async def rung_within(self, seconds: float) -> bool:
        """Wait until it has rung since it was armed, or for so long."""
        with anyio.move_on_after(seconds):
            await self._rung.wait()
        return self._rung.is_set()


class Doorbell:
    """The bells of all who listen in this process.

    Args:
        store: The open store.
        types: The types of the events that ring.
        tasks: Where the task that follows the log runs.
    """

    def __init__(
        self, store: eb.AsyncEventStore, types: Sequence[str], tasks: TaskGroup
    ) -> None:
        self._store = store
        self._types = types
        self._tasks = tasks
        self._rings: defaultdict[str, set[Ring]] = defaultdict(set)
        self._subscription: eb.AsyncSubscription | None = None
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(set[Ring]().union(*self._rings.values()))

    @property
    def following(self) -> bool:
        """Whether the log is followed, which it is while somebody listens."""
        return self._subscription is not None

    def require_open(self) -> None:
        """Make sure that one can listen here.

        Raises:
            Problem: The worker is about to end.
        """
        if self._closed:
            raise Problem(
                503, "ending", "this worker ends; connect again", retry_after=1
            )

    @contextmanager
    def listening(self, *streams: str) -> Generator[Ring]:
        """Listen for what is recorded in these streams from now on.

        Raises:
            Problem: The worker is about to end.
        """
        self.require_open()
        if self._subscription is None:
            self._follow()
        ring = Ring()
        for stream in streams:
            self._rings[stream].add(ring)
        try:
            yield ring
        finally:
            self._leave(ring, streams)

    def close(self) -> None:
        """Let all who listen go. Safe to be called from a signal handler."""
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()

    def _follow(self) -> None:
        # From the head of this very moment: a listener reads after this, and sees at
        # least that much.
        head = self._store.as_sync().head()
        self._subscription = self._store.subscribe(after=head, types=self._types)
        self._tasks.start_soon(self._ring_all, self._subscription)

    def _leave(self, ring: Ring, streams: Sequence[str]) -> None:
        for stream in streams:
            self._rings[stream].discard(ring)
            if not self._rings[stream]:
                del self._rings[stream]
        if not self._rings and self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            subscription.close()

    async def _ring_all(self, subscription: eb.AsyncSubscription) -> None:
        try:
            async with subscription:
                async for recorded in subscription:
                    for ring in self._rings.get(recorded.stream, ()):
                        ring.ring()
        except eb.EventbraidError:
            _log.exception("the log cannot be followed any more; clients come again")
        if subscription is self._subscription:
            self._subscription = None
            for ring in set[Ring]().union(*self._rings.values()):
                ring.end()
