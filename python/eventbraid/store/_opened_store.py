"""The store that a call of `open` or `open_async` opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid._native import Store
from eventbraid.store._async_store import AsyncEventStore
from eventbraid.store._completion_port import unwrapped
from eventbraid.store._coordination import NativeCoordination
from eventbraid.store._current_port import current_port
from eventbraid.store._opening import handle_of, opened
from eventbraid.store._sync_store import EventStore

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from eventbraid._event_types import EventTypes
    from eventbraid.store._location import Location
    from eventbraid.store._open_options import OpenOptions


def opened_store(
    place: Location, options: OpenOptions, event_types: EventTypes | None
) -> EventStore:
    """Open a store and wait until it is open."""
    handle = handle_of(opened(place, options), place, options, event_types)
    return EventStore(handle, NativeCoordination(handle))


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

    __slots__ = ("_event_types", "_options", "_place", "_store")

    def __init__(
        self, place: Location, options: OpenOptions, event_types: EventTypes | None
    ) -> None:
        """Store the arguments; the store is opened when this is awaited or entered."""
        self._place = place
        self._options = options
        self._event_types = event_types
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
        token = Store.open_async(port.native, self._place, self._options)
        native = unwrapped(await port.result(token), Store)
        handle = handle_of(native, self._place, self._options, self._event_types)
        return AsyncEventStore(handle, NativeCoordination(handle))
