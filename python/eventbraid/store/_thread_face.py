"""The calls of the engine that block the calling thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.store._async_store import AsyncEventStore
from eventbraid.store._face import Face
from eventbraid.store._paging import NAMES_A_PAGE
from eventbraid.store._reads import BlockingReads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventbraid._native import RecordedEvent
    from eventbraid._recorded import Recorded
    from eventbraid._typed_stream import StreamDecoder
    from eventbraid.store._paging import Paging


class ThreadFace(Face):
    """The part of `EventStore` that has no equal in `AsyncEventStore`."""

    __slots__ = ()

    @property
    def reads_before_append(self) -> BlockingReads:
        """The reads for a caller that appends next, such as an executor of commands.

        They have a limit, so that the caller can read long streams page by page.

        Example:
            >>> import eventbraid as eb
            >>> with eb.open("memory:") as store:
            ...     done = store.append([("a-1", "x", b""), ("a-1", "y", b"")])
            ...     read = store.reads_before_append.read_streams(["a-1"], limit=1)
            ...     read.versions, [recorded.type for recorded in read.events]
            ({'a-1': 2}, ['x'])
        """
        return BlockingReads(self._handle)

    def as_async(self) -> AsyncEventStore:
        """Return the same open store for use in an event loop.

        Returns:
            The other face; closing either closes the store.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> with eb.open("memory:") as store:
            ...     asyncio.run(store.as_async().head())
            0
        """
        return AsyncEventStore(self._handle, self._coordination)

    def _stream_names(self, prefix: str, *, system: bool) -> Iterator[str]:
        listing = self._handle.own().streams(prefix, system)
        while names := listing.page(NAMES_A_PAGE):
            yield from names

    def _events(self, paging: Paging) -> Iterator[RecordedEvent]:
        while not paging.done:
            page = self._handle.own().read(
                paging.query, paging.cursor, paging.limit, paging.at
            )
            paging.advance(page)
            yield from page.events

    def _typed_events(
        self,
        events: Iterator[RecordedEvent],
        decoder: StreamDecoder[Any],
        *,
        backward: bool,
    ) -> Iterator[Recorded[Any]]:
        if not backward:
            return decoder.decode_all(events)
        return self._typed_events_backward(events, decoder)

    def _typed_events_backward(
        self, events: Iterator[RecordedEvent], decoder: StreamDecoder[Any]
    ) -> Iterator[Recorded[Any]]:
        for recorded in events:
            # The newest first, also among the events of one record.
            yield from reversed(decoder.decode(recorded))
