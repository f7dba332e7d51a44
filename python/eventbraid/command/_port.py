"""The operations that an execution needs of a store, a clock and its event loop.

An execution is one coroutine. With `ThreadPort` the coroutine never suspends, because
each operation blocks until it has its result. With `LoopPort` an event loop runs the
coroutine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from eventbraid.store import StreamReservations
from eventbraid.store._async_store import AsyncEventStore
from eventbraid.store._sync_store import EventStore

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
        RecordedEvent,
        Store,
        StreamsSnapshot,
    )


class Port(Protocol):
    """The operations that an execution needs."""

    @property
    def trace(self) -> ExecutionTrace | None:
        """The trace to which the execution reports; None without hooks."""
        ...

    @property
    def links_appends(self) -> bool:
        """Whether an append can build on one whose outcome isn't known yet."""
        ...

    @property
    def reservations(self) -> StreamReservations | None:
        """The reservations of the store; None if it has none."""
        ...

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
        ...

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Awaitable[Appended | None]:
        """Return the result of an earlier append under an idempotency key."""
        ...

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> Awaitable[StreamsSnapshot]:
        """Read several streams as of one position.

        With a limit, the result has the first events of each stream, possibly none of
        the last ones; see `ReadsBeforeAppend`. A store without such reads returns all
        events.
        """
        ...

    def category_streams(
        self, category: str, *, at: int | None, after: int = 0, limit: int
    ) -> Awaitable[CategoryStreams]:
        """Return the streams of a category as of one position."""
        ...

    def read_commit(self, first: int, last: int) -> Awaitable[list[RecordedEvent]]:
        """Return the events from one position to another, both included."""
        ...

    def read_last(self, stream: str) -> Awaitable[RecordedEvent | None]:
        """Return the newest event of a stream; None if the stream has none."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run, and raise if this task is cancelled.

        An append does this, too. An execution that ends without an append calls this
        method, because its reads may not have let other tasks run.
        """
        ...

    def waiter(self) -> Waiter:
        """Return a waiter for the current thread or task."""
        ...

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        ...


def coordination_of(store: Store | AsyncStore) -> object:
    """Return the coordination of a store, or the store itself.

    Commands need only `append`, `committed`, `read_streams` and `read_all`. An object
    with only these methods, for example a test double, has no coordination. Then no
    streams are reserved, and only commands on the same object queue for a contended
    stream.
    """
    return getattr(store, "coordination", store)


def reservations_of(store: Store | AsyncStore) -> StreamReservations | None:
    """Return the reservations of a store; None if it has none."""
    coordination = coordination_of(store)
    return coordination if isinstance(coordination, StreamReservations) else None


def links_appends(store: Store | AsyncStore) -> bool:
    """Return whether appends of a store can build on each other.

    The link is meant for one append of the engine. A subclass whose `append` makes
    further appends, or makes it later or in another task, could give the link to the
    wrong one.
    """
    made_by = getattr(getattr(store, "append", None), "__func__", None)
    return made_by in (EventStore.append, AsyncEventStore.append)
