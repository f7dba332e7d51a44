"""Opening a store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from eventbraid._logging import STORE
from eventbraid._native import Store
from eventbraid.errors import InvalidArgument, StoreClosed
from eventbraid.store._async import AsyncEventStore
from eventbraid.store._completion import unwrapped
from eventbraid.store._coordination import NativeCoordination
from eventbraid.store._event_loop import current_port
from eventbraid.store._handle import Handle
from eventbraid.store._location import (
    DEFAULT_CACHE_SIZE,
    DEFAULT_LOCK_TIMEOUT,
    DEFAULT_MAX_SEGMENT_SIZE,
    DEFAULT_SEGMENT_SIZE,
    Location,
    Options,
    StoreMode,
)
from eventbraid.store._sync import EventStore

if TYPE_CHECKING:
    import os
    from collections.abc import Generator
    from types import TracebackType


def open(  # noqa: A001 - met as `eventbraid.open`, like `gzip.open`
    location: str | os.PathLike[str],
    *,
    create: bool = True,
    segment_size: int = DEFAULT_SEGMENT_SIZE,
    max_segment_size: int = DEFAULT_MAX_SEGMENT_SIZE,
    cache_size: int = DEFAULT_CACHE_SIZE,
    read_only: bool = False,
    mode: StoreMode = "shared",
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
) -> EventStore:
    """Open an event store, for use without an event loop.

    Args:
        location: The path of a directory, or ``"memory:"`` for a fresh store that is
            gone when it is closed. The store stays the one that is opened here: what
            the path leads to later, after `os.chdir` for example, changes nothing.
        create: Whether to make a new store if there is none.
        segment_size: The size of the first file of the log, in bytes; later ones grow.
        max_segment_size: The size up to which files grow, in bytes.
        cache_size: How much of the log is kept in memory for reads, in bytes.
        read_only: Whether the store is only looked at: nothing is created, written or
            synced, so a read-only file system will do. The log is shown as far as it
            is proven to be on the disk (`StoreStats.unproven` counts what follows), of
            a damaged store as far as the damage. Appends raise `StoreUnavailable`.
            If others have the store open to write, their commits show as they come; if
            nobody has, what is shown stays as it is, whoever opens the store later.
        mode: Who else may open the store meanwhile: with ``"shared"`` any process of
            this machine that opens it so too, with ``"exclusive"`` nobody. While nobody
            else has a shared store open, sharing it costs nothing. A store in memory
            has nobody else.
        lock_timeout: How long to wait, in seconds (0 to 86400), for another process
            that has the store or one of its locks and does not answer, because it was
            stopped for example: in opening, and in each append. A session that has the
            store open is not waited for where one of the two is exclusive: `StoreBusy`
            is raised at once, because a session may last as long as its program.

    Returns:
        The store. Close it, or use it in a ``with`` block.

    Raises:
        CorruptStore: If acknowledged data is damaged.
        IncompatibleFormat: If it was written in a newer format.
        InvalidArgument: If the location or an option makes no sense.
        NotAStore: If there is something else at the path, or nothing and not `create`.
        SharingUnsupported: If the file system is no safe place to share a store; open
            it with ``mode="exclusive"``.
        StorageFull: If there is no space for a new store.
        StoreBusy: If another process has it to itself, or doesn't answer.
        StoreDetached: If a file by which its processes coordinate was deleted.
        StoreUnavailable: If the system refuses, for want of permission for example.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("account-alice", "account.opened", b"{}")])
        ...     done.last_position
        1
    """
    options = Options(
        create=create,
        segment_size=segment_size,
        max_segment_size=max_segment_size,
        cache_size=cache_size,
        read_only=read_only,
        mode=mode,
        lock_timeout=lock_timeout,
    )
    place = Location.parse(location)
    _refuse_fresh_view(place, options)
    handle = _handle_of(_opened(place, options), place, options)
    return EventStore(handle, NativeCoordination(handle))


def open_async(
    location: str | os.PathLike[str],
    *,
    create: bool = True,
    segment_size: int = DEFAULT_SEGMENT_SIZE,
    max_segment_size: int = DEFAULT_MAX_SEGMENT_SIZE,
    cache_size: int = DEFAULT_CACHE_SIZE,
    read_only: bool = False,
    mode: StoreMode = "shared",
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
) -> OpenedStore:
    """Open an event store, for use under asyncio, uvloop or trio.

    Args:
        location: As for `open`.
        create: As for `open`.
        segment_size: As for `open`.
        max_segment_size: As for `open`.
        cache_size: As for `open`.
        read_only: As for `open`.
        mode: As for `open`.
        lock_timeout: As for `open`.

    Returns:
        An opening: ``async with`` it, or await it and close the store yourself.

    Raises:
        InvalidArgument: If the location or an option makes no sense. All that `open`
            raises besides comes when it is awaited.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         await store.append([("account-alice", "account.opened", b"{}")])
        ...         print(await store.version("account-alice"))
        >>> asyncio.run(main())
        1
    """
    options = Options(
        create=create,
        segment_size=segment_size,
        max_segment_size=max_segment_size,
        cache_size=cache_size,
        read_only=read_only,
        mode=mode,
        lock_timeout=lock_timeout,
    )
    place = Location.parse(location)
    _refuse_fresh_view(place, options)
    return OpenedStore(place, options)


def _refuse_fresh_view(place: Location, options: Options) -> None:
    if options.read_only and place.path is None:
        reason = "a store in memory is a fresh one, with nothing to read; give a path"
        raise InvalidArgument("read_only", "True", reason)


def _opened(place: Location, options: Options, identity: bytes | None = None) -> Store:
    return Store.open(
        place.path,
        create=options.create,
        first_segment=options.segment_size,
        max_segment=options.max_segment_size,
        cache=options.cache_size,
        read_only=options.read_only,
        shared=options.mode == "shared",
        lock_timeout=options.lock_timeout,
        identity=identity,
        base=place.base,
    )


def _handle_of(native: Store, place: Location, options: Options) -> Handle:
    open_again = partial(_opened_in_child, place, options, native.identity())
    STORE.debug("opened %s", place.name)
    return Handle(native, place.name, open_again, is_in_memory=place.path is None)


def _opened_in_child(place: Location, options: Options, identity: bytes) -> Store:
    if place.path is None:
        raise StoreClosed(
            "a store in memory belongs to the process that made it, of which this one "
            "is a fork; open another"
        )
    # It was there: should it be gone, an empty one is no stand-in.
    return _opened(place, replace(options, create=False), identity)


class OpenedStore:
    """The result of `open_async`: await it, or use it in ``async with``.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     store = await eb.open_async("memory:")
        ...     print(await store.head())
        ...     await store.close()
        >>> asyncio.run(main())
        0
    """

    __slots__ = ("_options", "_place", "_store")

    def __init__(self, place: Location, options: Options) -> None:
        """Store the arguments; the store is opened when this is awaited or entered."""
        self._place = place
        self._options = options
        self._store: AsyncEventStore | None = None

    def __await__(self) -> Generator[object, None, AsyncEventStore]:
        """Open the store."""
        return self._open().__await__()

    async def __aenter__(self) -> AsyncEventStore:
        """Open the store."""
        self._store = await self._open()
        return self._store

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        if self._store is not None:
            await self._store.close()

    async def _open(self) -> AsyncEventStore:
        port = current_port()
        token = Store.open_async(
            port.native,
            self._place.path,
            create=self._options.create,
            first_segment=self._options.segment_size,
            max_segment=self._options.max_segment_size,
            cache=self._options.cache_size,
            read_only=self._options.read_only,
            shared=self._options.mode == "shared",
            lock_timeout=self._options.lock_timeout,
            base=self._place.base,
        )
        native = unwrapped(await port.result(token), Store)
        handle = _handle_of(native, self._place, self._options)
        return AsyncEventStore(handle, NativeCoordination(handle))
