"""The operations of an execution in an event loop: asyncio, uvloop or trio."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, cast

import anyio

from eventbraid.command._port import links_appends, reservations_of
from eventbraid.command._waiter import TaskWaiter
from eventbraid.store._current_port import current_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from eventbraid.command._execution_trace import ExecutionTrace
    from eventbraid.command._queue import Waiter
    from eventbraid.store import (
        Appended,
        AsyncStore,
        CategoryStreams,
        Expectation,
        NewEvent,
        ReadsBeforeAppend,
        RecordedEvent,
        StreamsSnapshot,
    )


class _ReadingStore(Protocol):
    """A store whose reads needn't yield to the event loop."""

    @property
    def reads_before_append(self) -> ReadsBeforeAppend: ...


class _WholeReads:
    """The reads of a store without `ReadsBeforeAppend`: they return all events."""

    __slots__ = ("_store", "committed")

    def __init__(self, store: AsyncStore) -> None:
        """Read a store."""
        self._store = store
        self.committed = store.committed

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> Awaitable[StreamsSnapshot]:
        """Read several streams as of one position, without a limit."""
        del limit
        return self._store.read_streams(streams, at=at, after=after)

    def category_streams(
        self,
        category: str,
        /,
        *,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Awaitable[CategoryStreams]:
        """Return the streams of a category as of one position."""
        return self._store.category_streams(category, at=at, after=after, limit=limit)


class LoopPort:
    """The operations of a store that is awaited."""

    __slots__ = ("_reads", "_store", "links_appends", "reservations", "trace")

    def __init__(self, store: AsyncStore) -> None:
        """Execute commands on a store whose methods are awaited."""
        self._store = store
        self._reads = _reads_of(store)
        self.links_appends = links_appends(store)
        self.reservations = reservations_of(store)
        # Only an `ObservedPort` has a trace.
        self.trace: ExecutionTrace | None = None

    def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Awaitable[Appended]:
        """Append events."""
        if expect_categories:
            return self._store.append(
                events,
                expect=expect,
                idempotency_key=idempotency_key,
                content=content,
                expect_categories=expect_categories,
            )
        return self._store.append(
            events, expect=expect, idempotency_key=idempotency_key, content=content
        )

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Awaitable[Appended | None]:
        """Return the result of an earlier append under an idempotency key."""
        return self._reads.committed(idempotency_key, content=content)

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> Awaitable[StreamsSnapshot]:
        """Read several streams as of one position."""
        return self._reads.read_streams(streams, at=at, after=after, limit=limit)

    def category_streams(
        self, category: str, *, at: int | None, after: int = 0, limit: int
    ) -> Awaitable[CategoryStreams]:
        """Return the streams of a category as of one position."""
        return self._reads.category_streams(category, at=at, after=after, limit=limit)

    async def read_commit(self, first: int, last: int) -> list[RecordedEvent]:
        """Return the events from one position to another, both included."""
        log = self._store.read_all(after=first - 1, before=last + 1)
        return [recorded async for recorded in log]

    async def read_last(self, stream: str) -> RecordedEvent | None:
        """Return the newest event of a stream; None if the stream has none."""
        newest = self._store.read_stream(stream, backward=True, limit=1)
        for recorded in [one async for one in newest]:
            return recorded
        return None

    async def sleep(self, seconds: float) -> None:
        """Wait while the loop's other tasks run."""
        await anyio.sleep(seconds)

    async def checkpoint(self) -> None:
        """Let the loop's other tasks run."""
        await current_port().checkpoint()

    def waiter(self) -> Waiter:
        """Return a waiter for the current task."""
        return TaskWaiter()

    def now(self) -> float:
        """Return the time of the monotonic clock."""
        return time.monotonic()


def _reads_of(store: AsyncStore) -> ReadsBeforeAppend:
    """Return the store's reads that don't yield to the event loop, if there are any.

    The append after them yields. The attribute is looked up in the class and not in the
    object. A test double may forward missing attributes to another store: it would
    return the other store's reads, and its own would never be called.
    """
    if not hasattr(type(store), "reads_before_append"):
        return _WholeReads(store)
    return cast("_ReadingStore", store).reads_before_append
