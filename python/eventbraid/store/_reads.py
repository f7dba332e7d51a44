"""Reads for a caller that appends next, such as an executor of commands.

Those of an event loop leave their checkpoint to the append after them. All of them have
a limit, so that a caller can read long streams page by page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from eventbraid._native import Appended, StreamsSnapshot
from eventbraid.store._category import CategoryStreams
from eventbraid.store._completion_port import unwrapped
from eventbraid.store._current_port import current_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from eventbraid.store._handle import Handle


class ReadsBeforeAppend(Protocol):
    """Reads for a caller that appends next: the append is their checkpoint.

    An optional part of `AsyncStore`: a store whose class has a property
    ``reads_before_append`` is asked by the executors of commands for these reads
    instead of its own. Each own read of a store lets other tasks run, which costs a
    command a turn of the event loop, and returns all events at once.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> from eventbraid.store import ReadsBeforeAppend
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         reads: ReadsBeforeAppend = store.reads_before_append
        ...         print((await reads.read_streams(["account-alice"])).versions)
        >>> asyncio.run(main())
        {'account-alice': 0}
    """

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Awaitable[Appended | None]:
        """Return the result of an earlier append under an idempotency key."""
        ...

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> Awaitable[StreamsSnapshot]:
        """Read several streams as of one position.

        Args:
            streams: Their ids.
            at: The position; the durable head if not given.
            after: For some streams, the version up to which events are left out.
            limit: The maximum number of events; all if not given. The result has the
                first events of each stream, possibly none of the last ones, and fewer
                events than the limit if they are large. If the version of a stream is
                higher than that of its last event, the stream has more of them: the
                next call reads these ``after`` that event and ``at`` the position of
                the first result.
        """
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


class NativeReads:
    """The reads of a store of the engine without a checkpoint of their own."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        """Read the store of a handle."""
        self._handle = handle

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append under an idempotency key."""
        native = await self._handle.own_async()
        port = current_port()
        found = native.committed_async(port.native, idempotency_key, content)
        if not isinstance(found, int):
            return found
        late = await port.result(found)
        return None if late is None else unwrapped(late, Appended)

    async def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position; see `ReadsBeforeAppend`."""
        native = await self._handle.own_async()
        port = current_port()
        found = native.read_streams_async(port.native, streams, at, after, limit)
        if isinstance(found, int):
            found = unwrapped(await port.result(found), StreamsSnapshot)
        while found._fill():  # noqa: SLF001 - of the same layer
            await port.checkpoint()
        return found

    async def category_streams(
        self,
        category: str,
        /,
        *,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> CategoryStreams:
        """Return the streams of a category as of one position."""
        native = await self._handle.own_async()
        port = current_port()
        found = native.category_streams_async(port.native, category, at, after, limit)
        if isinstance(found, int):
            found = cast(
                "tuple[int, int, tuple[str, ...]]",
                unwrapped(await port.result(found), tuple),
            )
        return CategoryStreams(*found)


class BlockingReads:
    """The reads of a store of the engine that block the calling thread."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        """Read the store of a handle."""
        self._handle = handle

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position; see `ReadsBeforeAppend`."""
        return self._handle.own().read_streams(streams, at, after, limit)
