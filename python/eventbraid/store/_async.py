"""The store for event loops: the same methods as the other face, awaited."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, cast

from eventbraid._native import (
    Appended,
    Page,
    StreamsSnapshot,
    check_stream_id,
    mark_interrupted,
)
from eventbraid.store._completion import TURN_SECONDS, unwrapped
from eventbraid.store._event_loop import current_port
from eventbraid.store._paging import (
    NAMES_A_PAGE,
    Paging,
    checked_listing,
    log_filter,
)
from eventbraid.store._reads import NativeReads
from eventbraid.store._report import (
    StoreStats,
    VerifyReport,
    stats_of,
    verify_report_of,
)
from eventbraid.store._reservation import used_reservation
from eventbraid.store._subscription import AsyncSubscription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from eventbraid._native import (
        LogFilter,
        NewEvent,
        RecordedEvent,
        Store,
        StreamNames,
    )
    from eventbraid.store._coordination import NativeCoordination
    from eventbraid.store._expectation import Expectation
    from eventbraid.store._handle import Handle
    from eventbraid.store._sync import EventStore

_INLINE_EVENTS = 256


class AsyncEventStore:
    """An open event store, for asyncio, uvloop and trio.

    Made by `eventbraid.open_async`. It never blocks the event loop and uses no
    thread for a call. The documentation of `EventStore` applies here, too, except that
    a forked child opens the store when the first call is awaited.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         await store.append([("account-alice", "account.opened", b"{}")])
        ...         async for recorded in store.read_stream("account-alice"):
        ...             print(recorded.type)
        >>> asyncio.run(main())
        account.opened
    """

    __slots__ = ("_coordination", "_handle", "_reads")

    def __init__(self, handle: Handle, coordination: NativeCoordination) -> None:
        """Wrap an open native store; use `eventbraid.open_async` instead."""
        self._handle = handle
        self._coordination = coordination
        self._reads = NativeReads(handle)

    @property
    def coordination(self) -> NativeCoordination:
        """The sessions that share the store, for leases and saga coordinators."""
        return self._coordination

    @property
    def reads_before_append(self) -> NativeReads:
        """The reads for a caller that appends next, such as an executor of commands.

        They let other tasks run only while they wait for the disk: the append after
        them is the checkpoint. A caller that doesn't append has to let other tasks run
        by itself.

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

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
    ) -> Appended:
        """Append events to any number of streams: all or nothing, and durable.

        If the task is cancelled while it waits, the commit runs on, and the
        cancellation carries ``outcome_unknown=True``.

        Args:
            events: As for `EventStore.append`.
            expect: As for `EventStore.append`.
            idempotency_key: As for `EventStore.append`.
            content: As for `EventStore.append`.

        Returns:
            The positions of the first and the last event, and the new versions.

        Raises:
            EventbraidError: As `EventStore.append` does.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         done = await store.append([("account-alice", "opened", b"")])
            ...         print(done.last_position)
            >>> asyncio.run(main())
            1
        """
        native = await self._handle.own_async()
        port = current_port()
        await port.raise_if_cancelled()
        reservation = used_reservation()
        result: object = None
        try:
            token = native.append_async(
                port.native,
                events,
                expect,
                idempotency_key,
                content,
                reservation,
            )
            result = await port.result(token)
            return unwrapped(result, Appended)
        except BaseException as error:
            # What arrived is the outcome; anything else came while the commit ran on.
            if error is not result:
                mark_interrupted(error, idempotency_key)
            raise

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Look up the result of the append with an idempotency key.

        Args:
            idempotency_key: The key.
            content: The content that the key must identify; not checked by default.

        Returns:
            The durable result, marked as replayed; `None` if the key is not known.

        Raises:
            IdempotencyMismatch: If the key was used for other content.
        """
        await current_port().checkpoint()
        return await self._reads.committed(idempotency_key, content=content)

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
    ) -> AsyncIterator[RecordedEvent]:
        """Read the events of one stream, page by page.

        Args:
            stream: The stream's id. A stream without events reads as empty.
            after: Only events after this version.
            before: Only events before this version.
            limit: The maximum number of events.
            backward: Whether to begin with the newest event.

        Returns:
            The events.

        Raises:
            InvalidArgument: If the id or a number makes no sense.
        """
        self._handle.begin_async_read()
        check_stream_id(stream)
        paging = Paging(after=after, before=before, limit=limit, backward=backward)
        return self._stream_events(stream, paging)

    async def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position.

        Args:
            streams: Their ids.
            at: The position; the durable head if not given, or if it is beyond it.
            after: For some of the streams, the version up to which events are left out.

        Returns:
            The position, the streams' versions as of it, and the events in order.

        Raises:
            InvalidArgument: If an id or a number makes no sense.
        """
        # Before the read: what follows it runs before any other task can append.
        await current_port().checkpoint()
        return await self._reads.read_streams(streams, at=at, after=after)

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
        """Read the log, page by page.

        Args:
            after: Only events after this position.
            before: Only events before this position.
            limit: The maximum number of events that pass the filter.
            backward: Whether to begin with the newest event.
            stream: Only events of this stream.
            prefix: Only events of streams whose id begins with this, byte for byte.
            category: Only events of streams of this category.
            types: Only events of these types.
            system: Whether events of system streams are included, whose ids begin with
                ``$``: the library's own records. They are also included if `stream`,
                `prefix` or `category` begins with ``$``.

        Returns:
            The events.

        Raises:
            InvalidArgument: If a number makes no sense.
        """
        self._handle.begin_async_read()
        paging = Paging(after=after, before=before, limit=limit, backward=backward)
        wanted = log_filter(
            stream=stream,
            prefix=prefix,
            category=category,
            types=types,
            system=system,
        )
        return self._log_events(wanted, paging)

    def subscribe(
        self,
        *,
        after: int = 0,
        stream: str | None = None,
        prefix: str | None = None,
        category: str | None = None,
        types: Iterable[str] | None = None,
        system: bool = False,
    ) -> AsyncSubscription:
        """Follow the log: first the events in it, then new ones.

        Args:
            after: The position after which it begins; `head()` for new events only.
            stream: Only events of this stream.
            prefix: Only events of streams whose id begins with this, byte for byte.
            category: Only events of streams of this category.
            types: Only events of these types.
            system: Whether events of system streams are included, whose ids begin with
                ``$``: the library's own records. They are also included if `stream`,
                `prefix` or `category` begins with ``$``.

        Returns:
            An endless async iterator that waits for events; close it to end it.

        Raises:
            InvalidArgument: If the position makes no sense.
        """
        self._handle.begin_async_read()
        wanted = log_filter(
            stream=stream,
            prefix=prefix,
            category=category,
            types=types,
            system=system,
        )
        return AsyncSubscription(self._handle, after, wanted)

    async def version(self, stream: str) -> int:
        """Return a stream's version: the number of its events.

        Args:
            stream: The stream's id.

        Returns:
            The durable version; 0 if the stream has no events.

        Raises:
            InvalidStreamId: If no stream could have this id.
        """
        native = await self._caught_up()
        return native.version(stream)

    async def head(self) -> int:
        """Return the position of the last durable event.

        Returns:
            The position; 0 if the log is empty.

        Raises:
            StoreDetached: If what other processes have written can't be known any more.
            StoreUnavailable: If the disk doesn't let it be read.
        """
        native = await self._caught_up()
        return native.head()

    def streams(
        self, prefix: str | None = None, *, system: bool = False
    ) -> AsyncIterator[str]:
        """List the streams that have events.

        Args:
            prefix: Only ids that begin with this, byte for byte.
            system: Whether system streams are listed, whose ids begin with ``$``. They
                are also listed if `prefix` begins with ``$``.

        Returns:
            Their ids in ascending order of bytes, as of the first one asked for.

        Raises:
            InvalidArgument: If the prefix has no UTF-8.
        """
        self._handle.begin_async_read()
        prefix, system = checked_listing(prefix, system)
        return self._stream_names(prefix, system=system)

    async def stats(self) -> StoreStats:
        """Return the store's counters and its sessions.

        Returns:
            The counters as of now. Of a store that has stopped, or can't learn of what
            others have written, they are those of what it shows.
        """
        native = await self._caught_up()
        return stats_of(native.stats(), native.sessions())

    async def verify(self, *, quick: bool = False) -> VerifyReport:
        """Read the whole log again and check it, off the event loop.

        Args:
            quick: Read the small files, the headers and about the newest MiB alone:
                enough to see that the disk keeps what it is given.

        Returns:
            What was counted.

        Raises:
            CorruptStore: If a byte of it is not what was written.
        """
        native = await self._handle.own_async()
        port = current_port()
        token = native.verify_async(port.native, quick)
        counts = cast("dict[str, int]", unwrapped(await port.result(token), dict))
        return verify_report_of(counts, quick=quick)

    async def close(self) -> None:
        """Finish the appends under way and free the directory. May be called again."""
        port = current_port()
        native = self._handle.let_go()
        if native is None:
            await port.checkpoint()
            return
        token = native.close_async(port.native)
        unwrapped(await port.shielded_result(token), type(None))

    def as_sync(self) -> EventStore:
        """Return the same open store for use without an event loop.

        Returns:
            The other face; closing either closes the store.
        """
        # The sync face offers `as_async` at class level, so this one looks it up late.
        from eventbraid.store._sync import EventStore  # noqa: PLC0415

        return EventStore(self._handle, self._coordination)

    async def __aenter__(self) -> Self:
        """Use it in an ``async with`` block, which closes it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    def __repr__(self) -> str:
        """Name the location."""
        return self._handle.describe("AsyncEventStore")

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

    async def _stream_events(
        self, stream: str, paging: Paging
    ) -> AsyncIterator[RecordedEvent]:
        while not paging.done:
            native = await self._handle.own_async()
            port = current_port()
            await port.checkpoint()
            page = native.read_stream_async(
                port.native,
                stream,
                paging.after,
                paging.before,
                paging.limit(_INLINE_EVENTS),
                paging.backward,
                paging.at,
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

    async def _log_events(
        self, wanted: LogFilter, paging: Paging
    ) -> AsyncIterator[RecordedEvent]:
        while not paging.done:
            native = await self._handle.own_async()
            port = current_port()
            await port.checkpoint()
            page = native.read_log_async(
                port.native,
                paging.after,
                paging.before,
                paging.limit(_INLINE_EVENTS),
                paging.backward,
                paging.at,
                wanted,
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


async def _next_names(listing: StreamNames) -> list[str]:
    port = current_port()
    while True:
        result = await port.result(listing.page_async(port.native, NAMES_A_PAGE))
        # Nothing arrives after each slice that leaves more to gather.
        if result is not None:
            return cast("list[str]", unwrapped(result, list))
