"""The position up to which each order has its saga; a start reads only newer orders.

The bookmark is an event like any other. It is recorded from time to time and may be too
low, never too high: an order that is read again has its saga already.
"""

from __future__ import annotations

from typing import Self, cast

import anyio

import eventbraid as eb

STREAM = "bookmark-order-api"
_ORDERS_PER_RECORD = 1_000


@eb.event("order_api.orders_read")
class OrdersRead:
    """Every order up to a position has its saga.

    Attributes:
        position: The position.
    """

    position: int


class Bookmark:
    """The position up to which every order is done, though they end in any order.

    Args:
        store: The open store.
        position: The position up to which every order was done before.

    Example:
        >>> import anyio
        >>> async def read_three() -> int:
        ...     async with eb.open_async("memory:") as store:
        ...         bookmark = Bookmark(store, 0)
        ...         for position in (5, 7, 9):
        ...             bookmark.take(position)
        ...         await bookmark.done(9)
        ...         await bookmark.done(5)
        ...         return bookmark.position
        >>> anyio.run(read_three)
        6
    """

    def __init__(self, store: eb.AsyncEventStore, position: int) -> None:
        self._store = store
        self._last = position
        self._recorded = position
        self._done_since = 0
        # In the order of the log, because they are taken in that order.
        self._in_progress: dict[int, None] = {}
        # One record at a time, so that no lower position follows a higher one.
        self._saving = anyio.Lock()

    @classmethod
    async def find(cls, store: eb.AsyncEventStore) -> Self:
        """Return the bookmark of an earlier run, or one before the first order."""
        position = 0
        async for recorded in store.read_stream(STREAM, backward=True, limit=1):
            position = cast("OrdersRead", eb.decode_event(recorded)).position
        return cls(store, position)

    @property
    def position(self) -> int:
        """The position up to which every order is done."""
        return next(iter(self._in_progress), self._last + 1) - 1

    def take(self, position: int) -> None:
        """Begin the order at a position; call this in the order of positions."""
        self._in_progress[position] = None
        self._last = position

    async def done(self, position: int) -> None:
        """End an order that was begun."""
        del self._in_progress[position]
        self._done_since += 1
        if self._done_since >= _ORDERS_PER_RECORD:
            await self.save()

    async def save(self) -> None:
        """Record the position, unless it is recorded already."""
        self._done_since = 0
        async with self._saving:
            position = self.position
            if position > self._recorded:
                await self._store.append([eb.new_event(STREAM, OrdersRead(position))])
                # Only now: an append that was cancelled or refused recorded nothing.
                self._recorded = position
