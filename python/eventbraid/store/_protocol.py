"""The interface of a store that commands and leases use, without an event loop.

`EventStore` implements it. Any other class with these methods
works, too; `eventbraid.testing` checks that it keeps the promises behind them.
"""

# Generated from _async_protocol.py by scripts/generate_sync.py; don't edit it.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import (
        Iterable,
        Iterator,
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


class Store(Protocol):
    """A store that blocks the calling thread; see `EventStore` for each method.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.store import Store
        >>> def count(store: Store) -> int:
        ...     return store.head()
        >>> with eb.open("memory:") as store:
        ...     print(count(store))
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
    ) -> Appended:
        """Append events to any number of streams: all or nothing, and durable."""
        ...

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
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
    ) -> Iterator[RecordedEvent]:
        """Read the events of one stream."""
        ...

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> StreamsSnapshot:
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
    ) -> CategoryStreams:
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
    ) -> Iterator[RecordedEvent]:
        """Read the log."""
        ...

    def version(self, stream: str) -> int:
        """Return the version of a stream; 0 without events."""
        ...

    def head(self) -> int:
        """Return the position of the last durable event."""
        ...
