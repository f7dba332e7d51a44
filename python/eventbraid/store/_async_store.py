"""The store for event loops: asyncio, uvloop and trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from eventbraid._native import Appended, LogFilter, mark_interrupted
from eventbraid.store._category import (
    CategoryStreams,
    category_name,
    checked_bounds,
)
from eventbraid.store._completion_port import unwrapped
from eventbraid.store._coroutine import ASYNC
from eventbraid.store._current_port import current_port
from eventbraid.store._loop_face import LoopFace
from eventbraid.store._paging import Paging, checked_listing
from eventbraid.store._pending_append import used_pending_append
from eventbraid.store._report import (
    StoreStats,
    VerifyReport,
    stats_of,
    verify_report_of,
)
from eventbraid.store._reservation import used_reservation
from eventbraid.store._subscription import AsyncSubscription
from eventbraid.store._typed_reads import log_source, stream_source
from eventbraid.store._typed_subscription import AsyncTypedSubscription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Literal, Self

    from typing_extensions import Buffer

    from eventbraid._native import NewEvent, RecordedEvent, StreamsSnapshot
    from eventbraid._recorded import Recorded
    from eventbraid._typed_stream import TypedStream
    from eventbraid._undecoded import OnUndecodable, UndecodedEvent
    from eventbraid.store._expectation import Expectation

E = TypeVar("E")


class AsyncEventStore(LoopFace):
    """An open event store, for asyncio, uvloop and trio.

    Made by `eventbraid.open_async`. A call never blocks the event loop, and uses no
    thread of its own.

    Every method raises `StoreClosed` once the store is closed. A method that returns
    an iterator raises this, and refuses wrong arguments, at the call.

    A forked child opens the store again, with the same options, at its first use of it;
    subscriptions and reads continue there. A store that the parent has open exclusively
    can't be opened in the child (`StoreBusy`), and a store in memory does not exist
    there (`StoreClosed`).

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         done = await store.append(
        ...             [("account-alice", "account.opened", b"{}")],
        ...             expect={"account-alice": eb.NO_STREAM},
        ...         )
        ...         async for recorded in store.read_stream("account-alice"):
        ...             print(recorded.position, recorded.version, recorded.type)
        >>> asyncio.run(main())
        1 1 account.opened
    """

    __slots__ = ()

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Appended:
        """Append events to any number of streams: all or nothing, and durable.

        If a cancellation or Ctrl-C interrupts the call during the commit, the commit
        continues, and the exception has ``outcome_unknown=True``.

        Args:
            events: The events, in order: `NewEvent` objects, which `new_event` builds
                of typed events
                (``new_event(Account("account-alice"), PaidIn(Money(5)))``), or
                ``(stream, type, data)`` tuples.
            expect: The expected version or condition of each stream. A stream may be
                expected without being written; a written stream without an expectation
                may have any version.
            idempotency_key: The key of the request, 1 to 255 bytes of UTF-8. The same
                key with the same content returns the first result again.
            content: The content that the key identifies, if that isn't the events and
                expectations.
            expect_categories: The expected version or condition of each category, such
                as ``account`` of ``account-alice``. The version of a category is the
                number of its streams, so the append fails if a stream of the category
                was created since. An event in a stream that existed doesn't change it.

        Returns:
            The positions of the first and the last event, and the new versions.

        Raises:
            IdempotencyMismatch: If the key was used for other content.
            InvalidArgument: If a name, a size or a number is out of its limits, or if
                the append has neither events nor expectations nor a key.
            OutcomeUnknown: If the disk failed while writing.
            StorageFull: If there is no space.
            StoreBusy: If another process holds the lock of the log for longer than the
                store's ``lock_timeout``.
            StoreDetached: If a file by which the store's processes coordinate was
                deleted.
            StorePoisoned: If the disk failed before.
            VersionConflict: If an expectation failed. It lists all that failed.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         done = await store.append(
            ...             [eb.NewEvent("account-alice", "account.opened", b"{}")],
            ...             expect={"account-alice": eb.NO_STREAM},
            ...             idempotency_key="open-alice",
            ...         )
            ...         print(done.last_position, done.versions["account-alice"])
            >>> asyncio.run(main())
            1 1
        """
        used = used_pending_append()
        link = used[1] if used is not None and used[0] is events else None
        if not ASYNC:
            reservation = used_reservation()
            native = self._handle.own()
            try:
                return native.append(
                    events,
                    expect,
                    idempotency_key,
                    content,
                    reservation,
                    expect_categories,
                    link,
                )
            except BaseException as error:
                # A signal handler runs as soon as the native call has returned.
                mark_interrupted(error, idempotency_key)
                raise
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
                expect_categories,
                link,
            )
            result = await port.result(token)
            return unwrapped(result, Appended)
        except BaseException as error:
            # The result is the outcome; any other exception came while the commit ran.
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

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         print(await store.committed("open-alice"))
            >>> asyncio.run(main())
            None
        """
        if not ASYNC:
            return self._handle.own().committed(idempotency_key, content)
        await current_port().checkpoint()
        return await self._reads.committed(idempotency_key, content=content)

    @overload
    def read_stream(
        self,
        stream: TypedStream[E],
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
        on_undecodable: Literal["raise"] | Callable[[UndecodedEvent], object] = "raise",
    ) -> AsyncIterator[Recorded[E]]: ...

    @overload
    def read_stream(
        self,
        stream: TypedStream[E],
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
        on_undecodable: Literal["raw"],
    ) -> AsyncIterator[Recorded[E | UndecodedEvent]]: ...

    @overload
    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
    ) -> AsyncIterator[RecordedEvent]: ...

    def read_stream(
        self,
        stream: str | TypedStream[Any],
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
        on_undecodable: OnUndecodable = "raise",
    ) -> AsyncIterator[Any]:
        """Read the events of one stream, page by page.

        The read ends at what was durable when its first page was fetched.

        Args:
            stream: The stream's id, or a typed stream such as
                ``Account("account-alice")``, whose events are decoded. A stream without
                events reads as empty.
            after: Only events after this version.
            before: Only events before this version.
            limit: The maximum number of recorded events. Upcasters may make several
                typed events of one, or none.
            backward: Whether to begin with the newest event.
            on_undecodable: What a typed read does with an event that can't be decoded
                as one of the kind's events: ``"raise"``, ``"raw"`` to get an
                `UndecodedEvent` in its place, or a function that sets it aside. A read
                ends when it raises.

        Returns:
            The events: `RecordedEvent`, or `Recorded` of a typed stream.

        Raises:
            InvalidArgument: If the id, a number or the policy is invalid.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         done = await store.append([("a", "x", b"1"), ("a", "x", b"2")])
            ...         async for recorded in store.read_stream("a", backward=True):
            ...             print(recorded.version, recorded.data)
            >>> asyncio.run(main())
            2 b'2'
            1 b'1'

            A typed stream:

            >>> import asyncio
            >>> import eventbraid as eb
            >>> @eb.event("doc.tank.filled_in_loop")
            ... class TankFilled:
            ...     litres: int
            >>> class Tank(eb.Stream[TankFilled], category="tank"): ...
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         filled = eb.new_event(Tank("tank-1"), TankFilled(5))
            ...         done = await store.append([filled])
            ...         async for recorded in store.read_stream(Tank("tank-1")):
            ...             print(recorded.version, recorded.event.litres)
            >>> asyncio.run(main())
            1 5
        """
        self._handle.begin_async_read()
        decoder = None
        # Reads of a plain id, which commands make, pay no call for the typed ones.
        if type(stream) is not str or on_undecodable != "raise":
            stream, decoder = stream_source(stream, on_undecodable, self.registry)
        events = self._events(
            Paging(stream, after=after, before=before, limit=limit, backward=backward)
        )
        if decoder is None:
            return events
        return self._typed_events(events, decoder, backward=backward)

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
            after: For some of the streams, the version up to which events are left out,
                because the caller has them already.

        Returns:
            The position, the streams' versions as of it, and the events in order.

        Raises:
            InvalidArgument: If an id or a number is invalid.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         done = await store.append([("a", "x", b""), ("b", "y", b"")])
            ...         snapshot = await store.read_streams(["a", "b", "c"])
            ...         print(snapshot.position, snapshot.versions)
            >>> asyncio.run(main())
            2 {'a': 1, 'b': 1, 'c': 0}
        """
        if not ASYNC:
            return self._handle.own().read_streams(streams, at, after)
        # Before the read: what follows it runs before any other task can append.
        await current_port().checkpoint()
        return await self._reads.read_streams(streams, at=at, after=after)

    async def category_streams(
        self,
        category: str | type[TypedStream[Any]],
        /,
        *,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> CategoryStreams:
        """Return the streams of a category, in the order of their first events.

        An append can expect the category's version with ``expect_categories``: then no
        stream of the category has been created since.

        Args:
            category: The category, such as ``account`` of ``account-alice``; or a kind
                of stream, for the category of its streams.
            at: The position as of which the category is read; the durable head if not
                given, or if it is beyond it.
            after: The number of streams to leave out, because the caller has them
                already. The order of the streams never changes.
            limit: The maximum number of streams. Without a limit, the ids of all
                streams are in memory at once.

        Returns:
            The position, the version of the category as of it, and the streams' ids.

        Raises:
            InvalidArgument: If no stream can have this category, or a number is
                invalid.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         rooms = await store.category_streams("room")
            ...         done = await store.append(
            ...             [("room-1", "room.opened", b"")],
            ...             expect_categories={"room": rooms.version},
            ...         )
            ...         print((await store.category_streams("room")).streams)
            >>> asyncio.run(main())
            ('room-1',)
        """
        name = category_name(category)
        at, after, limit = checked_bounds(at, after, limit)
        if not ASYNC:
            found = self._handle.own().category_streams(name, at, after, limit)
            return CategoryStreams(*found)
        await current_port().checkpoint()
        return await self._reads.category_streams(name, at=at, after=after, limit=limit)

    @overload
    def read_all(
        self,
        source: type[TypedStream[E]] | TypedStream[E],
        /,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
        types: Iterable[str] | None = None,
        on_undecodable: Literal["raise"] | Callable[[UndecodedEvent], object] = "raise",
    ) -> AsyncIterator[Recorded[E]]: ...

    @overload
    def read_all(
        self,
        source: type[TypedStream[E]] | TypedStream[E],
        /,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backward: bool = False,
        types: Iterable[str] | None = None,
        on_undecodable: Literal["raw"],
    ) -> AsyncIterator[Recorded[E | UndecodedEvent]]: ...

    @overload
    def read_all(
        self,
        /,
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
    ) -> AsyncIterator[RecordedEvent]: ...

    def read_all(
        self,
        source: type[TypedStream[Any]] | TypedStream[Any] | None = None,
        /,
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
        on_undecodable: OnUndecodable = "raise",
    ) -> AsyncIterator[Any]:
        """Read the log, page by page.

        The read ends at what was durable when its first page was fetched.

        Args:
            source: A kind of stream, for the decoded events of all its streams, or a
                typed stream. Every event of its category is read, also those of types
                that are unknown.
            after: Only events after this position.
            before: Only events before this position.
            limit: The maximum number of recorded events that pass the filter. Upcasters
                may make several typed events of one, or none.
            backward: Whether to begin with the newest event.
            stream: Only events of this stream.
            prefix: Only events of streams whose id begins with this, byte for byte.
            category: Only events of streams of this category.
            types: Only events of these types.
            system: Whether events of system streams are included, whose ids begin with
                ``$``: the library's own records. They are also included if `stream`,
                `prefix` or `category` begins with ``$``.
            on_undecodable: What a typed read does with an event that can't be decoded
                as one of the kind's events: ``"raise"``, ``"raw"`` to get an
                `UndecodedEvent` in its place, or a function that sets it aside. A read
                ends when it raises.

        Returns:
            The events: `RecordedEvent`, or `Recorded` of a typed source.

        Raises:
            InvalidArgument: If a number or the policy is invalid, or if a typed source
                is combined with another choice of streams.
            InvalidStreamId: If no stream could have this id.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         done = await store.append(
            ...             [("order-1", "x", b""), ("account-1", "y", b"")]
            ...         )
            ...         async for recorded in store.read_all(category="order"):
            ...             print(recorded.stream)
            >>> asyncio.run(main())
            order-1
        """
        self._handle.begin_async_read()
        decoder = None
        if source is not None or on_undecodable != "raise":
            stream, category, decoder = log_source(
                source,
                on_undecodable,
                self.registry,
                stream=stream,
                prefix=prefix,
                category=category,
                system=system,
            )
        # `subscribe` repeats these five arguments. One object for them, or
        # `**conditions`, would hide their types and defaults from editors and `help()`.
        wanted = LogFilter(
            stream=stream,
            prefix=prefix,
            category=category,
            types=types,
            system=system,
        )
        events = self._events(
            Paging(wanted, after=after, before=before, limit=limit, backward=backward)
        )
        if decoder is None:
            return events
        return self._typed_events(events, decoder, backward=backward)

    @overload
    def subscribe(
        self,
        source: type[TypedStream[E]] | TypedStream[E],
        /,
        *,
        after: int = 0,
        types: Iterable[str] | None = None,
        on_undecodable: Literal["raise"] | Callable[[UndecodedEvent], object] = "raise",
    ) -> AsyncTypedSubscription[E]: ...

    @overload
    def subscribe(
        self,
        source: type[TypedStream[E]] | TypedStream[E],
        /,
        *,
        after: int = 0,
        types: Iterable[str] | None = None,
        on_undecodable: Literal["raw"],
    ) -> AsyncTypedSubscription[E | UndecodedEvent]: ...

    @overload
    def subscribe(
        self,
        /,
        *,
        after: int = 0,
        stream: str | None = None,
        prefix: str | None = None,
        category: str | None = None,
        types: Iterable[str] | None = None,
        system: bool = False,
    ) -> AsyncSubscription: ...

    def subscribe(
        self,
        source: type[TypedStream[Any]] | TypedStream[Any] | None = None,
        /,
        *,
        after: int = 0,
        stream: str | None = None,
        prefix: str | None = None,
        category: str | None = None,
        types: Iterable[str] | None = None,
        system: bool = False,
        on_undecodable: OnUndecodable = "raise",
    ) -> AsyncSubscription | AsyncTypedSubscription[Any]:
        """Follow the log: first the events in it, then new ones.

        Args:
            source: A kind of stream, for the decoded events of all its streams, or a
                typed stream. Every event of its category is read, also those of types
                that are unknown.
            after: The position after which it begins; `head()` for new events only.
            stream: Only events of this stream.
            prefix: Only events of streams whose id begins with this, byte for byte.
            category: Only events of streams of this category.
            types: Only events of these types.
            system: Whether events of system streams are included, whose ids begin with
                ``$``: the library's own records. They are also included if `stream`,
                `prefix` or `category` begins with ``$``.
            on_undecodable: What a typed subscription does with an event that can't be
                decoded as one of the kind's events: ``"raise"``, ``"raw"`` to get an
                `UndecodedEvent` in its place, or a function that sets it aside.

        Returns:
            An endless iterator that waits for events; close it to end it.

        Raises:
            InvalidArgument: If the position or the policy is invalid, or if a typed
                source is combined with another choice of streams.
            InvalidStreamId: If no stream could have this id.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         done = await store.append([("order-1", "x", b"")])
            ...         async with store.subscribe(types=["x"]) as subscription:
            ...             async for recorded in subscription:
            ...                 print(recorded.stream)
            ...                 break
            >>> asyncio.run(main())
            order-1
        """
        self._handle.begin_async_read()
        decoder = None
        if source is not None or on_undecodable != "raise":
            stream, category, decoder = log_source(
                source,
                on_undecodable,
                self.registry,
                stream=stream,
                prefix=prefix,
                category=category,
                system=system,
            )
        wanted = LogFilter(
            stream=stream,
            prefix=prefix,
            category=category,
            types=types,
            system=system,
        )
        subscription = AsyncSubscription(self._handle, after, wanted)
        if decoder is None:
            return subscription
        return AsyncTypedSubscription(subscription, decoder)

    async def version(self, stream: str) -> int:
        """Return a stream's version: the number of its events.

        Args:
            stream: The stream's id.

        Returns:
            The durable version; 0 if the stream has no events.

        Raises:
            InvalidStreamId: If no stream could have this id.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         print(await store.version("account-alice"))
            >>> asyncio.run(main())
            0
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

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         print(await store.head())
            >>> asyncio.run(main())
            0
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

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         done = await store.append([("b", "x", b""), ("a", "x", b"")])
            ...         async for stream in store.streams():
            ...             print(stream)
            >>> asyncio.run(main())
            a
            b
        """
        self._handle.begin_async_read()
        prefix, system = checked_listing(prefix, system)
        return self._stream_names(prefix, system=system)

    async def stats(self) -> StoreStats:
        """Return the store's counters and its sessions.

        Returns:
            The counters as of now. Of a store that has stopped, or can't learn of what
            others have written, they are those of what it shows.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         stats = await store.stats()
            ...         print(stats.events)
            >>> asyncio.run(main())
            0
        """
        native = await self._caught_up()
        return stats_of(native.stats(), native.sessions())

    async def verify(self, *, quick: bool = False) -> VerifyReport:
        """Read the whole log again, check every byte, and compare it with the index.

        Args:
            quick: Read the small files, the headers and about the newest MiB alone:
                enough to see that the disk keeps what it is given.

        Returns:
            What was counted.

        Raises:
            CorruptStore: If a byte of it is not what was written.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         report = await store.verify()
            ...         print(report.frames)
            >>> asyncio.run(main())
            0
        """
        if not ASYNC:
            return verify_report_of(self._handle.own().verify(quick), quick=quick)
        native = await self._handle.own_async()
        port = current_port()
        token = native.verify_async(port.native, quick)
        counts = cast("dict[str, int]", unwrapped(await port.result(token), dict))
        return verify_report_of(counts, quick=quick)

    async def close(self) -> None:
        """Finish the appends under way and free the directory. May be called again.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     store = await eb.open_async("memory:")
            ...     await store.close()
            >>> asyncio.run(main())
        """
        if not ASYNC:
            self._handle.close()
            return
        port = current_port()
        native = self._handle.let_go()
        if native is None:
            await port.checkpoint()
            return
        token = native.close_async(port.native)
        unwrapped(await port.shielded_result(token), type(None))

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
