"""What the suite asks of a backend: an opening, and `AsyncEventStore`'s methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from eventbraid import Appended, NewEvent, RecordedEvent
    from eventbraid.store import Coordination, Expectation


class SnapshotUnderTest(Protocol):
    """Several streams as of one position, as `StreamsSnapshot` is.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import SnapshotUnderTest
        >>> with eb.open("memory:") as store:
        ...     snapshot: SnapshotUnderTest = store.read_streams(["account-alice"])
        >>> snapshot.versions
        {'account-alice': 0}
    """

    @property
    def position(self) -> int:
        """The position that was read at."""
        ...

    @property
    def versions(self) -> Mapping[str, int]:
        """Each stream's version as of it."""
        ...

    @property
    def events(self) -> Sequence[RecordedEvent]:
        """The streams' events up to it, in global order."""
        ...


class CategoryUnderTest(Protocol):
    """The streams of a category as of one position.

    Example:
        >>> from eventbraid.store import CategoryStreams
        >>> from eventbraid.testing import CategoryUnderTest
        >>> found: CategoryUnderTest = CategoryStreams(0, 0, ())
        >>> found.version
        0
    """

    @property
    def position(self) -> int:
        """The position as of which the category was read."""
        ...

    @property
    def version(self) -> int:
        """The number of the category's streams as of it."""
        ...

    @property
    def streams(self) -> Sequence[str]:
        """The ids of the streams, in the order of their first events."""
        ...


class SubscriptionUnderTest(Protocol):
    """A subscription, as `AsyncSubscription` is.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> from eventbraid.testing import SubscriptionUnderTest
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         subscription: SubscriptionUnderTest = store.subscribe()
        ...         print(subscription.position)
        >>> asyncio.run(main())
        0
    """

    @property
    def position(self) -> int:
        """The position up to which every matching event has been handed out."""
        ...

    def close(self) -> None:
        """End it, and a blocked wait at once."""
        ...

    def __aiter__(self) -> AsyncIterator[RecordedEvent]:
        """Iterate over the events."""
        ...

    async def __anext__(self) -> RecordedEvent:
        """Return the next event; wait for it if necessary."""
        ...

    async def __aenter__(self) -> Self:
        """Use it in an ``async with`` block, which closes it."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """Close it."""
        ...


class StoreUnderTest(Protocol):
    """An open store: the part of `AsyncEventStore` that the contract speaks of.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> from eventbraid.testing import StoreUnderTest
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as opened:
        ...         store: StoreUnderTest = opened
        ...         print(await store.version("account-alice"))
        >>> asyncio.run(main())
        0
    """

    @property
    def coordination(self) -> Coordination:
        """The sessions that share the store."""
        ...

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Appended:
        """Append events, all or nothing."""
        ...

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Look up what was done under a key."""
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

    async def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> SnapshotUnderTest:
        """Read several streams as of one position."""
        ...

    async def category_streams(
        self,
        category: str,
        /,
        *,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> CategoryUnderTest:
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

    def subscribe(
        self,
        *,
        after: int = 0,
        stream: str | None = None,
        prefix: str | None = None,
        category: str | None = None,
        types: Iterable[str] | None = None,
        system: bool = False,
    ) -> SubscriptionUnderTest:
        """Follow the log."""
        ...

    async def version(self, stream: str) -> int:
        """Return a stream's version."""
        ...

    async def head(self) -> int:
        """Return the position of the last event."""
        ...

    def streams(
        self, prefix: str | None = None, *, system: bool = False
    ) -> AsyncIterator[str]:
        """List the streams that have events, in ascending order of bytes."""
        ...

    async def close(self) -> None:
        """Close it. May be called again."""
        ...


class StoreBackend(Protocol):
    """One kind of store, and one place where such a store lives.

    A backend that is durable must survive pickling: the suite opens it in a process of
    its own, which it kills.

    Example:
        >>> from contextlib import asynccontextmanager
        >>> from dataclasses import dataclass
        >>> import eventbraid as eb
        >>> @dataclass(frozen=True)
        ... class Embedded:
        ...     path: str
        ...     durable: bool = True
        ...     shared: bool = True
        ...
        ...     @asynccontextmanager
        ...     async def open(self):
        ...         async with eb.open_async(self.path) as store:
        ...             yield store
        >>> from eventbraid.testing import StoreBackend
        >>> backend: StoreBackend = Embedded("shop.braid")
    """

    @property
    def durable(self) -> bool:
        """Whether a store that is opened again has what was acknowledged before."""
        ...

    @property
    def shared(self) -> bool:
        """Whether the place may be open several times at once."""
        ...

    def open(self) -> AbstractAsyncContextManager[StoreUnderTest]:
        """Open the store; closed at the end of the block."""
        ...
