"""The operations of an execution that blocks the calling thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, cast

from eventbraid.command._port import links_appends, reservations_of
from eventbraid.command._waiter import ThreadWaiter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventbraid.command._execution_trace import ExecutionTrace
    from eventbraid.command._queue import Waiter
    from eventbraid.store import (
        Appended,
        CategoryStreams,
        Expectation,
        NewEvent,
        RecordedEvent,
        Store,
        StreamsSnapshot,
    )


class _Reads(Protocol):
    """Reads of several streams with a limit."""

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> StreamsSnapshot: ...


class _ReadingStore(Protocol):
    """A store that has such reads."""

    @property
    def reads_before_append(self) -> _Reads: ...


class _WholeReads:
    """The reads of a store that has no limit: they return all events."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        """Read a store."""
        self._store = store

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position, without a limit."""
        del limit
        return self._store.read_streams(streams, at=at, after=after)


class ThreadPort:
    """The operations of a store that blocks the calling thread."""

    __slots__ = ("_reads", "_store", "links_appends", "reservations", "trace")

    def __init__(self, store: Store) -> None:
        """Execute commands on a store whose methods block."""
        self._store = store
        self._reads = _reads_of(store)
        self.links_appends = links_appends(store)
        self.reservations = reservations_of(store)
        # Only an `ObservedPort` has a trace.
        self.trace: ExecutionTrace | None = None

    async def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Appended:
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

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append under an idempotency key."""
        return self._store.committed(idempotency_key, content=content)

    async def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position."""
        return self._reads.read_streams(streams, at=at, after=after, limit=limit)

    async def category_streams(
        self, category: str, *, at: int | None, after: int = 0, limit: int
    ) -> CategoryStreams:
        """Return the streams of a category as of one position."""
        return self._store.category_streams(category, at=at, after=after, limit=limit)

    async def read_commit(self, first: int, last: int) -> list[RecordedEvent]:
        """Return the events from one position to another, both included."""
        return list(self._store.read_all(after=first - 1, before=last + 1))

    async def read_last(self, stream: str) -> RecordedEvent | None:
        """Return the newest event of a stream; None if the stream has none."""
        return next(iter(self._store.read_stream(stream, backward=True, limit=1)), None)

    async def sleep(self, seconds: float) -> None:
        """Block the thread; Ctrl-C ends the wait."""
        time.sleep(seconds)  # noqa: ASYNC251 - no loop runs here

    async def checkpoint(self) -> None:
        """Do nothing, because the system switches between threads at any time."""

    def waiter(self) -> Waiter:
        """Return a waiter for the current thread."""
        return ThreadWaiter()

    def now(self) -> float:
        """Return the time of the monotonic clock."""
        return time.monotonic()


def _reads_of(store: Store) -> _Reads:
    """Return the reads of the store that have a limit, if there are any.

    As for `LoopPort`, the attribute is looked up in the class: a test double may
    forward missing attributes to another store.
    """
    if not hasattr(type(store), "reads_before_append"):
        return _WholeReads(store)
    return cast("_ReadingStore", store).reads_before_append
