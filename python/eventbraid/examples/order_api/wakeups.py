"""Wakes the readers of live streams when an event was recorded in their streams.

Each worker has one subscription, however many clients it serves, and none while it
serves no live stream. A wakeup carries no event: the reader reads its streams from its
own position. So a slow client costs no memory, and two wakeups cost one read.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

import eventbraid as eb
from eventbraid.web import Problem

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from anyio.abc import TaskGroup

_log = logging.getLogger(__name__)


class Wakeup:
    """The wakeup of one reader.

    Attributes:
        is_last: Whether none follows, because the worker is about to end.
    """

    def __init__(self) -> None:
        self.is_last = False
        self._notified = anyio.Event()

    def reset(self) -> None:
        """Forget earlier notifications; call it before a read, so that none is lost."""
        self._notified = anyio.Event()

    def notify(self) -> None:
        """Wake the reader."""
        self._notified.set()

    def notify_end(self) -> None:
        """Wake the reader for the last time."""
        self.is_last = True
        self._notified.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for a notification since the last reset; return whether there was one.

        Args:
            seconds: The maximum duration of the wait.
        """
        with anyio.move_on_after(seconds):
            await self._notified.wait()
        return self._notified.is_set()


class StreamWakeups:
    """The wakeups of all readers in this process.

    Args:
        store: The open store.
        types: The types of the events that wake a reader.
        tasks: The task group of the task that follows the log.
    """

    def __init__(
        self, store: eb.AsyncEventStore, types: Sequence[str], tasks: TaskGroup
    ) -> None:
        self._store = store
        self._types = types
        self._tasks = tasks
        self._wakeups: defaultdict[str, set[Wakeup]] = defaultdict(set)
        self._subscription: eb.AsyncSubscription | None = None
        self._closed = False

    @property
    def listeners(self) -> int:
        """The number of readers."""
        return len(self._all())

    @property
    def following(self) -> bool:
        """Whether the log is followed, which it is while there are readers."""
        return self._subscription is not None

    def require_open(self) -> None:
        """Raise unless readers are accepted.

        Raises:
            Problem: The worker is about to end.
        """
        if self._closed:
            raise Problem(
                503, "ending", "this worker ends; connect again", retry_after=1
            )

    @contextmanager
    def listening(self, *streams: str) -> Generator[Wakeup]:
        """Yield a wakeup that is notified of each event in these streams from now on.

        Raises:
            Problem: The worker is about to end.
        """
        self.require_open()
        if self._subscription is None:
            self._follow()
        wakeup = Wakeup()
        for stream in streams:
            self._wakeups[stream].add(wakeup)
        try:
            yield wakeup
        finally:
            self._remove(wakeup, streams)

    def close(self) -> None:
        """Notify all readers of the end. Safe in a signal handler."""
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()

    def _follow(self) -> None:
        # From the present head: a reader reads its streams after this call, so it sees
        # all events up to the head, and is notified of the later ones.
        head = self._store.as_sync().head()
        self._subscription = self._store.subscribe(after=head, types=self._types)
        self._tasks.start_soon(self._notify_readers, self._subscription)

    def _remove(self, wakeup: Wakeup, streams: Sequence[str]) -> None:
        for stream in streams:
            self._wakeups[stream].discard(wakeup)
            if not self._wakeups[stream]:
                del self._wakeups[stream]
        if not self._wakeups and self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            subscription.close()

    async def _notify_readers(self, subscription: eb.AsyncSubscription) -> None:
        try:
            async with subscription:
                async for recorded in subscription:
                    for wakeup in self._wakeups.get(recorded.stream, ()):
                        wakeup.notify()
        except eb.EventbraidError:
            _log.exception("the log can't be followed; the live streams end")
        if subscription is self._subscription:
            self._subscription = None
            for wakeup in self._all():
                wakeup.notify_end()

    def _all(self) -> set[Wakeup]:
        return set[Wakeup]().union(*self._wakeups.values())
