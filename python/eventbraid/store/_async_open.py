"""Opening a store for event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid._event_types import validated
from eventbraid.store._coroutine import ASYNC
from eventbraid.store._location import Location
from eventbraid.store._open_options import (
    DEFAULT_CACHE_SIZE,
    DEFAULT_LOCK_TIMEOUT,
    DEFAULT_MAX_SEGMENT_SIZE,
    DEFAULT_SEGMENT_SIZE,
    OpenOptions,
    StoreMode,
)
from eventbraid.store._opened_store import OpenedStore, opened_store
from eventbraid.store._opening import refuse_fresh_view

if TYPE_CHECKING:
    import os

    from eventbraid._event_types import EventTypes


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
    registry: EventTypes | None = None,
) -> OpenedStore:
    """Open an event store, for use under asyncio, uvloop or trio.

    Args:
        location: The path of a directory, or ``"memory:"`` for a new store that is lost
            when it is closed. The store stays the one that is opened here, whatever the
            path leads to later, after `os.chdir` for example.
        create: Whether to create a new store if there is none.
        segment_size: The size of the first file of the log, in bytes; later ones grow.
        max_segment_size: The size up to which files grow, in bytes.
        cache_size: How much of the log is kept in memory for reads, in bytes.
        read_only: Whether the store is only read: nothing is created, written or
            synced, so a read-only file system is enough. The log is shown up to the
            last commit that is proven to be on the disk (`StoreStats.unproven` counts
            the bytes after it), of a damaged store up to the damage. Appends raise
            `StoreUnavailable`. If other sessions write to the store, their commits
            become visible as they are made. If no session does at the opening, the view
            stays as it is, even if the store is opened for writing later.
        mode: Which processes may open the store at the same time: with ``"shared"`` all
            processes of this machine that open it shared as well, with ``"exclusive"``
            no other. A shared store that no other process has open is as fast as an
            exclusive one. A store in memory belongs to its process alone.
        lock_timeout: How long to wait, in seconds (0 to 86400), for a process that has
            the store or one of its locks and does not respond, because it was stopped
            for example. It applies to the opening and to each append. Where one of two
            sessions is exclusive, `StoreBusy` is raised at once, because a session may
            last as long as its program.
        registry: The `EventRegistry` of the store's typed events, also for the
            executors and sagas on the store; by default, the one that all programs use.

    Returns:
        An opening: ``async with`` it, or await it and close the store yourself. A wrong
        argument is refused at the call, all else is raised when it is awaited.

    Raises:
        CorruptStore: If acknowledged data is damaged.
        IncompatibleFormat: If the store was written in a newer format.
        InvalidArgument: If the location or an option is invalid.
        InvalidEventType: If a version of a registered event type can't be read: its
            upcasters have a gap or a cycle, or it has two readers.
        NotAStore: If the path is something else, or doesn't exist and `create` is
            false.
        SharingUnsupported: If the file system can't be trusted to share a store; open
            it with ``mode="exclusive"``.
        StorageFull: If there is no space for a new store.
        StoreBusy: If another process has the store open exclusively, or doesn't
            respond.
        StoreDetached: If a file by which its processes coordinate was deleted.
        StoreUnavailable: If the system refuses an operation, for lack of permission for
            example.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         done = await store.append(
        ...             [("account-alice", "account.opened", b"{}")]
        ...         )
        ...         print(await store.version("account-alice"))
        >>> asyncio.run(main())
        1
    """
    options = OpenOptions(
        create=create,
        segment_size=segment_size,
        max_segment_size=max_segment_size,
        cache_size=cache_size,
        read_only=read_only,
        mode=mode,
        lock_timeout=lock_timeout,
    )
    place = Location.parse(location)
    refuse_fresh_view(place, options)
    event_types = validated(registry)
    if not ASYNC:
        return opened_store(place, options, event_types)
    return OpenedStore(place, options, event_types)
