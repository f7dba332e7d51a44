"""The compiled half of Eventbraid: bytes and numbers only, no policy.

`NewEvent`, `RecordedEvent`, `Appended`, `StreamsSnapshot` and `uuid7` are public in
`eventbraid`; everything else is used only by `eventbraid.store`.

A method whose name ends in ``_async`` never waits. It returns its result at once if it
can. Otherwise it returns a token (an int), and later `CompletionPort.drain` returns the
result or the exception with that token.

Every method of `Store` raises `StoreClosed` after the store was closed, and in a forked
child of the process that opened it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self, final
from uuid import UUID

from typing_extensions import Buffer, disjoint_base

from eventbraid.errors import StreamCondition
from eventbraid.store._location import Location
from eventbraid.store._open_options import OpenOptions

__all__ = [
    "Appended",
    "CompletionPort",
    "EventBuffer",
    "EventId",
    "LogFilter",
    "LogWaiter",
    "NewEvent",
    "Page",
    "PendingAppend",
    "Query",
    "RecordedEvent",
    "Store",
    "StreamNames",
    "StreamsSnapshot",
    "forks",
    "mark_interrupted",
    "system_event",
    "traced_event",
    "uuid7",
]

@final
class EventId:
    """The id of an event whose text is needed before the event is appended: a UUIDv7.

    An `EventId` with its text costs a third of a `uuid.UUID`; most records of a saga
    have one.

    Example:
        >>> from eventbraid._native import EventId
        >>> len(str(EventId()))
        36
    """

    def __new__(cls) -> Self: ...

@final
class NewEvent:
    """An event to be appended. Immutable.

    Args:
        stream: The id of the stream to append it to: 1 to 255 bytes of UTF-8.
        type: The event type: 1 to 255 bytes of UTF-8.
        data: The body, at most 8 MiB; copied unless it is `bytes`.
        metadata: Facts about the event besides its body, at most 64 KiB.
        event_id: The event's id; if not given, one is generated when it is appended.
        original_time: When the event happened, if that isn't when it is recorded; with
            a time zone.
        content: The bytes that an idempotency key compares in place of the body. Pass
            the plain body here if `data` is encrypted, because a body that is encrypted
            again has other bytes. It isn't stored.

    Raises:
        InvalidArgument: If the original time has no time zone.
        TypeError: If an argument is of another type.

    Example:
        >>> import eventbraid as eb
        >>> eb.NewEvent("account-alice", "account.opened", b"{}", metadata={"by": "me"})
        NewEvent('account-alice', 'account.opened', b'{}', metadata={'by': 'me'})
    """

    def __new__(
        cls,
        stream: str,
        type: str,  # noqa: A002 - the fact's name everywhere
        data: Buffer,
        *,
        metadata: Mapping[str, str] | None = None,
        event_id: UUID | EventId | None = None,
        original_time: datetime | None = None,
        content: Buffer | None = None,
    ) -> NewEvent: ...
    @property
    def stream(self) -> str:
        """The id of the stream to append it to."""
    @property
    def type(self) -> str:
        """The event type."""
    @property
    def data(self) -> bytes:
        """The body."""
    @property
    def metadata(self) -> Mapping[str, str]:
        """Facts about the event besides its body; read only."""
    @property
    def event_id(self) -> UUID | None:
        """The id that was given, if any."""
    @property
    def original_time(self) -> datetime | None:
        """When the event happened, in UTC, if the caller passed it."""
    @property
    def content(self) -> bytes:
        """What an idempotency key compares: the body, unless `content` was given."""
    @property
    def is_system(self) -> bool:
        """Whether the library created it, so that a ``$`` stream accepts it."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(
        self,
    ) -> tuple[tuple[str, str, bytes], dict[str, object]]: ...

@final
class RecordedEvent:
    """An event in the log. Immutable; each field is converted when it is read.

    Stores return these. The constructor is for tests and for code that moves events
    between processes.

    Args:
        stream: The id of its stream.
        version: Its place in its stream, counted from 1.
        position: Its place in the log, counted from 1.
        type: The event type.
        event_id: Its id.
        recorded_at: When it was appended, with a time zone; kept in whole microseconds.
        data: The body.
        metadata: Facts about the event besides its body.
        original_time: When the event happened, if that isn't when it was recorded.

    Raises:
        InvalidArgument: If a number or a time is out of range.
        TypeError: If an argument is of another type.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("account-alice", "account.opened", b"{}")])
        ...     [recorded] = store.read_all()
        >>> recorded.stream, recorded.version, recorded.position
        ('account-alice', 1, 1)
    """

    def __new__(
        cls,
        *,
        stream: str,
        version: int,
        position: int,
        type: str,  # noqa: A002 - the fact's name everywhere
        event_id: UUID,
        recorded_at: datetime,
        data: Buffer,
        metadata: Mapping[str, str] | None = None,
        original_time: datetime | None = None,
    ) -> RecordedEvent: ...
    @property
    def stream(self) -> str:
        """The id of its stream."""
    @property
    def version(self) -> int:
        """Its place in its stream, counted from 1."""
    @property
    def position(self) -> int:
        """Its place in the log, counted from 1."""
    @property
    def type(self) -> str:
        """The event type."""
    @property
    def event_id(self) -> UUID:
        """Its id: a UUIDv7 unless the writer gave another."""
    @property
    def recorded_at(self) -> datetime:
        """When it was appended, in UTC."""
    @property
    def original_time(self) -> datetime | None:
        """When the event happened, in UTC, if its writer passed it; else None."""
    @property
    def metadata(self) -> Mapping[str, str]:
        """Facts about the event besides its body; read only."""
    @property
    def correlation_id(self) -> str | None:
        """The metadata's ``correlation_id``: the request that the event belongs to."""
    @property
    def causation_id(self) -> str | None:
        """The metadata's ``causation_id``: the cause, an event or a command."""
    def metadata_value(self, key: str, /) -> str | None:
        """Return one value of the metadata without building a mapping.

        Args:
            key: The key.

        Returns:
            The value; None if the key is missing.
        """
    @property
    def data(self) -> bytes:
        """The body."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]: ...

@final
class Appended:
    """The result of an append. Immutable.

    Args:
        first_position: The position of the first event; `None` if there were no events.
        last_position: The position of the last event; `None` if there were no events.
        versions: The new version of each written stream.
        replayed: Whether this is the result of an earlier append with the same key.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     store.append([("a", "opened", b"{}")])
        Appended(first_position=1, last_position=1, versions={'a': 1}, replayed=False)
    """

    def __new__(
        cls,
        first_position: int | None,
        last_position: int | None,
        versions: Mapping[str, int],
        replayed: bool,
    ) -> Appended: ...
    @property
    def first_position(self) -> int | None:
        """The position of the first event; `None` if there were no events."""
    @property
    def last_position(self) -> int | None:
        """The position of the last event; `None` if there were no events."""
    @property
    def versions(self) -> Mapping[str, int]:
        """The new version of each written stream; read only."""
    @property
    def replayed(self) -> bool:
        """Whether this is the result of an earlier append with the same key."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs__(
        self,
    ) -> tuple[int | None, int | None, dict[str, int], bool]: ...

@final
class PendingAppend:
    """An append on which later appends may build before its outcome is known.

    An append that builds on others is refused with `VersionConflict` unless all of them
    were accepted before it. Each object belongs to one append of one session, without
    an idempotency key.

    Args:
        builds_on: The appends on which this one builds.
    """

    def __new__(cls, builds_on: Sequence[PendingAppend] = ..., /) -> PendingAppend: ...
    @property
    def is_durable(self) -> bool:
        """Whether the append was committed and is durable."""
    @property
    def is_accepted(self) -> bool:
        """Whether the append was written; it may not be durable yet."""
    @property
    def is_refused(self) -> bool:
        """Whether the append failed, or its outcome is unknown."""

@final
class StreamsSnapshot:
    """Several streams as of one position.

    Stores return these. The constructor is for tests and for code that moves snapshots
    between processes.

    Args:
        position: The position as of which the streams were read.
        versions: Each stream's version at that position.
        events: The streams' events up to that position, in global order.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("account-alice", "account.opened", b"{}")])
        ...     snapshot = store.read_streams(["account-alice", "account-bob"])
        >>> snapshot.position, snapshot.versions, len(snapshot.events)
        (1, {'account-alice': 1, 'account-bob': 0}, 1)
    """

    def __new__(
        cls, position: int, versions: dict[str, int], events: list[RecordedEvent]
    ) -> StreamsSnapshot: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment] # pyright: ignore[reportIncompatibleMethodOverride]
    def __getnewargs__(self) -> tuple[int, dict[str, int], list[RecordedEvent]]: ...
    @property
    def position(self) -> int:
        """The position as of which it was read: the durable head, or the one given."""
    @property
    def versions(self) -> dict[str, int]:
        """Each stream's version as of `position`, in the order of the arguments."""
    @property
    def events(self) -> list[RecordedEvent]:
        """The streams' events up to `position`, in global order."""
    def _fill(self) -> bool:
        """Create some of the events; return whether there are more."""

@final
class Page:
    """The result of one bounded read of a stream or the log."""

    @property
    def events(self) -> list[RecordedEvent]:
        """The events. With a filter the list may be empty although `more` is true."""
    @property
    def next(self) -> int:
        """The cursor for the next page: a version of a stream, or a position."""
    @property
    def more(self) -> bool:
        """Whether there may be more events up to `at`."""
    @property
    def at(self) -> int:
        """The position to which the read is pinned."""

@final
class LogFilter:
    """The conditions on the events of the log; all that are given must hold.

    System streams, whose ids begin with ``$``, are left out unless `system` is true or
    one of the other arguments names them.

    Args:
        stream: Only events of this stream.
        prefix: Only events of streams whose ids begin with these bytes.
        category: Only events of streams of this category.
        types: Only events of these types.
        system: Whether events of system streams are included.

    Raises:
        InvalidArgument: If the types are one string instead of several, or if a text
            has no UTF-8.
        InvalidEventType: If an event type has no UTF-8.
        InvalidStreamId: If no stream could have this id.
        TypeError: If an argument is of another type.
    """

    def __new__(
        cls,
        *,
        stream: str | None = None,
        prefix: str | None = None,
        category: str | None = None,
        types: Iterable[str] | None = None,
        system: bool = False,
    ) -> LogFilter: ...

@final
class Query:
    """The events of one stream, or of the log through a filter.

    Args:
        wanted: The id of a stream, or a filter of the log.
        after: Only events after this version of the stream or position in the log.
        before: Only events before this version or position.
        backward: Whether to begin with the newest event.

    Raises:
        InvalidStreamId: If no stream could have this id.
        TypeError: If `wanted` is neither a str nor a `LogFilter`.
    """

    def __new__(
        cls,
        wanted: str | LogFilter,
        after: int = 0,
        before: int | None = None,
        backward: bool = False,
    ) -> Query: ...

@disjoint_base
class EventBuffer:
    """A position in the log, and the events that were read after it.

    Taking an event and adding a page are one step each: neither another thread nor an
    exception of a signal handler can interrupt them. Iteration takes events, and calls
    ``_more`` when there are none.
    """

    # Any, because a subclass takes arguments of its own.
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _begin(self, after: int) -> None:
        """Start after a position."""
    @property
    def _after(self) -> int:
        """The position up to which every matching event was taken."""
    @property
    def _fetched(self) -> int:
        """The position up to which every matching event was read."""
    @property
    def _size(self) -> int:
        """The maximum number of events of the next page."""
    @property
    def _has_unread(self) -> bool:
        """Whether there are events to take."""
    @property
    def closed(self) -> bool:
        """Whether iteration has ended."""
    def _end(self) -> None:
        """End iteration."""
    def _take(self) -> RecordedEvent | None:
        """Take the next event; `None` if there is none."""
    def _extend(self, page: Page) -> bool:
        """Add the page that was read after `_fetched`.

        Returns:
            Whether the page is empty and ends at the head: the caller has to wait.
        """
    def _pass(self, position: int) -> None:
        """Record that no event up to a position matches."""
    def __next__(self) -> RecordedEvent: ...

@final
class CompletionPort:
    """Delivers the results of the engine's threads to one event loop.

    The engine adds results and makes the descriptor readable. It never runs
    Python code.

    Raises:
        OSError: If the system has no descriptor left.
    """

    def __new__(cls) -> CompletionPort: ...
    def fileno(self) -> int:
        """Return the descriptor to wait on; it is readable while there are results."""
    def drain(self, most: int) -> list[tuple[int, object]]:
        """Take results that have arrived: (token, result or exception).

        Args:
            most: The maximum number. If there are more, the descriptor stays readable.
        """

@final
class LogWaiter:
    """Waits for the log to grow; one waiter serves one subscription.

    Args:
        store: The store to wait on.
    """

    def __new__(cls, store: Store) -> LogWaiter: ...
    def wait(self, position: int, wanted: LogFilter | None = None) -> bool:
        """Wait until the durable head is beyond a position; any thread may `close`.

        With a filter, wait until an event beyond the position matches. It may return
        earlier, if reading the new events would take long.

        Returns:
            False if the waiter was closed; true otherwise, even if the store closed.

        Raises:
            EventbraidError: If the store has stopped, so that no further event appears.
            KeyboardInterrupt: At once, as every exception of a signal handler.
        """
    def wait_async(
        self, port: CompletionPort, position: int, wanted: LogFilter | None = None
    ) -> int:
        """Like `wait`; the result arrives at the port."""
    def abandon(self, token: int) -> None:
        """Remove a wait whose task was cancelled."""
    @property
    def passed(self) -> int:
        """The position up to which the waits have found that no event matches."""
    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
    def close(self) -> None:
        """End every wait, now and later. Never blocks."""

@final
class StreamNames:
    """A listing of the streams that had events when it began."""

    def page(self, limit: int) -> list[str]:
        """Return the next ids, in ascending order of their bytes; no ids at the end.

        Args:
            limit: The maximum number of ids.

        Raises:
            KeyboardInterrupt: Soon, as every exception of a signal handler.
        """
    def page_async(self, port: CompletionPort, limit: int) -> int:
        """Like `page`; the result is `None` while there is more to gather."""

@final
class Store:
    """An open event store."""

    @staticmethod
    def open(
        location: Location, options: OpenOptions, identity: bytes | None = None
    ) -> Store:
        """Open a directory, or a new store in memory.

        Args:
            location: The location.
            options: The options, validated.
            identity: The id that the store must have, as `identity` returns it; any
                other store is refused with `StoreDetached`.

        Raises:
            CorruptStore: If acknowledged data is damaged.
            IncompatibleFormat: If the store was written in a newer format.
            NotAStore: If there is something else at the path, or if there is nothing
                and `create` is false.
            SharingUnsupported: If the file system can't be trusted to share a store.
            StorageFull: If there is no space for a new store.
            StoreBusy: If another process has opened it exclusively, or doesn't respond.
            StoreDetached: If a file by which its processes coordinate was changed.
            StoreUnavailable: If the system refuses an operation.
        """
    @staticmethod
    def open_async(
        port: CompletionPort, location: Location, options: OpenOptions
    ) -> int:
        """Like `open`; a `Store` arrives at the port."""
    def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        expect: Mapping[str, int | StreamCondition] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        reservation: int = 0,
        expect_categories: Mapping[str, int | StreamCondition] | None = None,
        pending: PendingAppend | None = None,
    ) -> Appended:
        """Append events and wait until they are durable.

        Args:
            events: The events, in order.
            expect: The expected version or condition of each stream.
            idempotency_key: The request's key: 1 to 255 bytes of UTF-8.
            content: The content of the key; the events and expectations if not given.
            reservation: The reservation under which the append is made; 0 for none.
            expect_categories: The expected version or condition of each category.
            pending: Lets other appends build on this one, and names those on which it
                builds.

        Raises:
            IdempotencyMismatch: If the key was used before with other content.
            InvalidArgument: If a name, a size or a number is out of its limits.
            KeyboardInterrupt: With `outcome_unknown` set: the commit continues.
            OutcomeUnknown: If the disk failed while writing.
            StorageFull: If there is no space.
            StoreBusy: If another process doesn't release a lock in time.
            StoreDetached: If a file by which its processes coordinate was changed.
            StorePoisoned: If an earlier sync has failed.
            TypeError: If an argument is of a wrong type.
            VersionConflict: If an expectation failed.
        """
    def append_async(
        self,
        port: CompletionPort,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        expect: Mapping[str, int | StreamCondition] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        reservation: int = 0,
        expect_categories: Mapping[str, int | StreamCondition] | None = None,
        pending: PendingAppend | None = None,
    ) -> int:
        """Like `append`; `Appended` arrives at the port. Bad input raises at once."""
    def reserve(
        self, streams: list[str], seconds: float, categories: list[str] = ...
    ) -> int | None:
        """Reserve streams: other callers' appends to them wait.

        Args:
            streams: The streams.
            seconds: The maximum duration of the reservation, at most 5 s.
            categories: Categories, each with all its streams. Only the first 16
                categories and streams are reserved, the categories first.

        Returns:
            The id for `append` and `release`; None if another reservation exists.
        """
    def release(self, reservation: int) -> None:
        """End a reservation, unless it has ended."""
    def committed(
        self, idempotency_key: str, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append with a key; None if there is none.

        Raises:
            IdempotencyMismatch: If `content` is given and differs from the append's.
        """
    def committed_async(
        self, port: CompletionPort, idempotency_key: str, content: bytes | None = None
    ) -> Appended | int | None:
        """Like `committed`; return a token only if the result isn't in memory."""
    def catch_up_async(self, port: CompletionPort) -> int | None:
        """Make other processes' commits visible; return a token if that has to wait.

        The result is `None`. If it can't catch up, the next read raises the error.
        """
    def head(self) -> int:
        """Return the position of the last durable event; 0 if there is none."""
    def version(self, stream: str) -> int:
        """Return the durable version of a stream; 0 if it has no events."""
    def read(
        self, query: Query, cursor: int | None, limit: int, at: int | None
    ) -> Page:
        """Read one page of a query.

        Args:
            query: The query.
            cursor: The `Page.next` of the page before; None for the first page.
            limit: The maximum number of events.
            at: Only events up to this position; the durable head if not given.
        """
    def read_async(
        self,
        port: CompletionPort,
        query: Query,
        cursor: int | None,
        limit: int,
        at: int | None,
    ) -> Page | int:
        """Like `read`; return a token only if the page isn't in memory."""
    def read_streams(
        self,
        streams: Iterable[str],
        at: int | None,
        after: Mapping[str, int] | None,
        limit: int | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position.

        Args:
            streams: Their ids.
            at: The position; the durable head if not given.
            after: For some streams, the version up to which events are left out.
            limit: The maximum number of events; all if not given. With a limit, the
                snapshot has the first events of the first streams, up to a page of
                bytes. If a version is higher than that of the last event of its stream,
                there are more.
        """
    def read_streams_async(
        self,
        port: CompletionPort,
        streams: Iterable[str],
        at: int | None,
        after: Mapping[str, int] | None,
        limit: int | None = None,
    ) -> StreamsSnapshot | int:
        """Like `read_streams`; return a token only if an event isn't in memory."""
    def category_streams(
        self,
        category: str,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> tuple[int, int, tuple[str, ...]]:
        """Read the streams of a category as of one position.

        Args:
            category: The category.
            at: The position; the durable head if not given.
            after: The number of streams to leave out.
            limit: The maximum number of streams; all if not given.

        Returns:
            The position, the number of the category's streams as of it, and the ids.
        """
    def category_streams_async(
        self,
        port: CompletionPort,
        category: str,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> tuple[int, int, tuple[str, ...]] | int:
        """Like `category_streams`; return a token only if an event isn't in memory."""
    def streams(self, prefix: str, system: bool) -> StreamNames:
        """Begin a listing of the streams that have events now.

        Args:
            prefix: Only ids that begin with this text.
            system: Whether ids that begin with ``$`` are listed.
        """
    def identity(self) -> bytes:
        """Return the id that the store received when it was created."""
    def stats(self) -> dict[str, int]:
        """Return the store's counters by name."""
    def sessions(self) -> list[tuple[str, dict[str, int]]]:
        """Return the sessions: each session's program, and its counters by name."""
    def verify(self, quick: bool) -> dict[str, int]:
        """Read and verify the store's files; return the counts.

        Args:
            quick: Read only the small files, the headers and the newest frames.

        Raises:
            CorruptStore: If a byte of the store is not the one that was written.
        """
    def verify_async(self, port: CompletionPort, quick: bool) -> int:
        """Like `verify`; the counts arrive at the port."""
    def start_heartbeat(self) -> str:
        """Start the heartbeat of this session, unless it runs already.

        Returns:
            The session's id: the same at each call, and unique among all sessions.

        Raises:
            StoreUnavailable: If no thread can be started, or the store is read only.
        """
    def register_loop(self) -> int:
        """Register an event loop whose tasks hold leases; return its number.

        The heartbeat that other sessions see is the last tick of the slowest loop.
        """
    def tick(self, number: int) -> None:
        """Record that a registered event loop runs. Ignored in a forked child."""
    def unregister_loop(self, number: int) -> None:
        """End the registration of an event loop. Ignored in a forked child."""
    def heartbeat_ages(self) -> list[tuple[str, float]]:
        """Return the live sessions: id, and seconds since the last heartbeat."""
    def heartbeat_ages_async(self, port: CompletionPort) -> int:
        """Like `heartbeat_ages`; the list arrives at the port."""
    def close(self) -> None:
        """Finish pending appends and release the directory. May be called again."""
    def close_async(self, port: CompletionPort) -> int:
        """Like `close`; `None` arrives at the port."""

def mark_interrupted(error: BaseException, idempotency_key: str | None, /) -> None:
    """Mark an exception that ended a call of `append` but is not its outcome.

    The exception gets ``outcome_unknown=True`` and a note. An exception that the native
    call itself raised on this thread is left as it is.
    """

def system_event(event: NewEvent, /) -> NewEvent:
    """Mark an event as created by the library, so that a ``$`` stream accepts it."""

def traced_event(
    stream: str,
    type: str,  # noqa: A002 - the name of the field of NewEvent
    data: bytes,
    correlation_id: str,
    causation_id: str,
    schema_version: int,
    event_id: UUID | EventId | None = None,
    /,
) -> NewEvent:
    """Create an event of the library's own, with the metadata that traces it.

    Args:
        stream: The id of the stream to append it to.
        type: The event type.
        data: The body.
        correlation_id: The request that the event belongs to.
        causation_id: The event that led to it.
        schema_version: The schema version of the body.
        event_id: The event's id; if not given, one is generated when it is appended.

    Raises:
        InvalidArgument: A text has a lone surrogate.

    Example:
        >>> from eventbraid._native import traced_event
        >>> traced_event("lamp-1", "lamp.lit", b"{}", "lamp-1", "lamp-1", 2).metadata
        mappingproxy({'causation_id': 'lamp-1', 'correlation_id': 'lamp-1', 'v': '2'})
    """

def uuid7() -> UUID:
    """Generate a UUIDv7. UUIDv7s sort by the time of their generation.

    Example:
        >>> import eventbraid as eb
        >>> first, second = eb.store.uuid7(), eb.store.uuid7()
        >>> first.version, first < second
        (7, True)
    """

def forks() -> int:
    """Count the forks between this process and its first ancestor that called this.

    The number in a forked child differs from the number in its parent.
    """
