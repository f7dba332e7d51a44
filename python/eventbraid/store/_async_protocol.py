"""The interface of a store that commands, leases and sagas use, for event loops.

`EventStore` and `AsyncEventStore` implement it. Any other class with these methods
works, too; `eventbraid.testing` checks that it keeps the promises behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Iterable,
        Mapping,
    )

    from typing_extensions import Buffer

    from eventbraid._native import (
        Appended,
        NewEvent,
        RecordedEvent,
        StreamsSnapshot,
    )
    from eventbraid.store._category import CategoryStreams
    from eventbraid.store._coordination import Coordination
    from eventbraid.store._expectation import Expectation


class AsyncStore(Protocol):
    """A store that is awaited; see `AsyncEventStore` for each method.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> from eventbraid.store import AsyncStore
        >>> async def count(store: AsyncStore) -> int:
        ...     return await store.head()
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         print(await count(store))
        >>> asyncio.run(main())
        0
    """

    @property
    def coordination(self) -> Coordination:
        """The sessions that share the store."""
        ...

    def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Awaitable[Appended]:
        """Append events to any number of streams: all or nothing, and durable."""
        ...

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Awaitable[Appended | None]:
        """Return the result of an earlier append under an idempotency key."""
        ...

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
    ) -> AsyncIterator[RecordedEvent]:
        """Read the events of one stream."""
        ...

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> Awaitable[StreamsSnapshot]:
        """Read several streams as of one position."""
        ...

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
        ...

    def read_all(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
        stream: str | None = None,
        prefix: str | None = None,
        category: str | None = None,
        types: Iterable[str] | None = None,
        system: bool = False,
    ) -> AsyncIterator[RecordedEvent]:
        """Read the log."""
        ...

    def version(self, stream: str) -> Awaitable[int]:
        """Return the version of a stream; 0 without events."""
        ...

    def head(self) -> Awaitable[int]:
        """Return the position of the last durable event."""
        ...
