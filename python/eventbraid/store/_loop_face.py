"""The calls of the engine that an event loop awaits."""

from __future__ import annotations

from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from eventbraid._native import Page
from eventbraid.store._completion_port import TURN_SECONDS, unwrapped
from eventbraid.store._current_port import current_port
from eventbraid.store._face import Face
from eventbraid.store._paging import NAMES_A_PAGE
from eventbraid.store._reads import NativeReads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from eventbraid._native import RecordedEvent, Store, StreamNames
    from eventbraid._recorded import Recorded
    from eventbraid._typed_stream import StreamDecoder
    from eventbraid.store._coordination import NativeCoordination
    from eventbraid.store._handle import Handle
    from eventbraid.store._paging import Paging
    from eventbraid.store._sync_store import EventStore

_INLINE_EVENTS = 256
"""The maximum number of events of a page that an event loop reads itself."""


class LoopFace(Face):
    """The part of `AsyncEventStore` that has no equal in `EventStore`."""

    __slots__ = ("_reads",)

    def __init__(self, handle: Handle, coordination: NativeCoordination) -> None:
        """Wrap an open native store; use `eventbraid.open_async` instead."""
        super().__init__(handle, coordination)
        self._reads = NativeReads(handle)

    @property
    def reads_before_append(self) -> NativeReads:
        """The reads for a caller that appends next, such as an executor of commands.

        They let other tasks run only while they wait for the disk: the append after
        them is the checkpoint. A caller that doesn't append has to let other tasks run
        by itself. They have a limit, so that the caller can read long streams page by
        page.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         read = await store.reads_before_append.read_streams(["a-1"])
            ...         await store.append([("a-1", "x", b"")], expect=read.versions)
            ...         print(await store.version("a-1"))
            >>> asyncio.run(main())
            1
        """
        return self._reads

    def as_sync(self) -> EventStore:
        """Return the same open store for use without an event loop.

        Returns:
            The other face; closing either closes the store.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         print(store.as_sync().head())
            >>> asyncio.run(main())
            0
        """
        from eventbraid.store._sync_store import EventStore  # noqa: PLC0415 - it imports this module

        return EventStore(self._handle, self._coordination)

    async def _caught_up(self) -> Store:
        """Learn of what other processes have written, off the loop if it is much.

        The calls that follow do so by themselves, but would keep the loop waiting.
        """
        native = await self._handle.own_async()
        port = current_port()
        await port.checkpoint()
        token = native.catch_up_async(port.native)
        if token is not None:
            unwrapped(await port.result(token), type(None))
        return native

    async def _stream_names(self, prefix: str, *, system: bool) -> AsyncIterator[str]:
        native = await self._caught_up()
        listing = native.streams(prefix, system)
        port = current_port()
        while names := await _next_names(listing):
            began = monotonic()
            for name in names:
                if monotonic() - began > TURN_SECONDS:
                    await port.checkpoint()
                    began = monotonic()
                yield name

    async def _events(self, paging: Paging) -> AsyncGenerator[RecordedEvent, None]:
        while not paging.done:
            native = await self._handle.own_async()
            port = current_port()
            await port.checkpoint()
            limit = min(paging.limit, _INLINE_EVENTS)
            page = native.read_async(
                port.native, paging.query, paging.cursor, limit, paging.at
            )
            if isinstance(page, int):
                page = unwrapped(await port.result(page), Page)
            paging.advance(page)
            began = monotonic()
            for recorded in page.events:
                if monotonic() - began > TURN_SECONDS:
                    await port.checkpoint()
                    began = monotonic()
                yield recorded

    async def _typed_events(
        self,
        events: AsyncGenerator[RecordedEvent, None],
        decoder: StreamDecoder[Any],
        *,
        backward: bool,
    ) -> AsyncIterator[Recorded[Any]]:
        # If decoding raises, the read is closed here: left to the garbage collector, it
        # would be reported by trio as a generator that nothing has closed.
        async with aclosing(events):
            async for recorded in events:
                decoded = decoder.decode(recorded)
                # The newest first, also among the events of one record.
                for one in reversed(decoded) if backward else decoded:
                    yield one


async def _next_names(listing: StreamNames) -> list[str]:
    port = current_port()
    while True:
        result = await port.result(listing.page_async(port.native, NAMES_A_PAGE))
        # Nothing arrives after each slice that leaves more to gather.
        if result is not None:
            return cast("list[str]", unwrapped(result, list))
