"""Up to where the coordinator has read the orders, so that a start reads only new ones.

The bookmark is an event like any other. It is written now and then and may be behind,
never ahead: an order that is read twice has its saga already, and is left alone.
"""

from __future__ import annotations

from typing import Self, cast

import eventbraid as eb

STREAM = "bookmark-order-api"
_ORDERS_A_NOTE = 1_000


@eb.event("order_api.orders_read")
class OrdersRead:
    """Every order up to a place in the log has its saga.

    Attributes:
        position: The place.
    """

    position: int


class Bookmark:
    """Knows which orders are still in hand, though they are done in any order.

    Args:
        store: The open store.
        position: Up to where every order is done.

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
        self._noted = position
        self._since = 0
        # In the order of the log, because they are taken in that order.
        self._in_hand: dict[int, None] = {}

    @classmethod
    async def find(cls, store: eb.AsyncEventStore) -> Self:
        """The bookmark that an earlier run left, or one before the first order."""
        position = 0
        async for recorded in store.read_stream(STREAM, backward=True, limit=1):
            position = cast("OrdersRead", eb.decode_event(recorded)).position
        return cls(store, position)

    @property
    def position(self) -> int:
        """Up to where every order is done."""
        return next(iter(self._in_hand), self._last + 1) - 1

    def take(self, position: int) -> None:
        """Take the order at this place in hand; the places rise."""
        self._in_hand[position] = None
        self._last = position

    async def done(self, position: int) -> None:
        """Be done with an order that was taken in hand."""
        del self._in_hand[position]
        self._since += 1
        if self._since >= _ORDERS_A_NOTE:
            await self.note()

    async def note(self) -> None:
        """Write down where every order is done, unless that is known."""
        self._since = 0
        position = self.position
        if position > self._noted:
            self._noted = position
            await self._store.append([eb.new_event(STREAM, OrdersRead(position))])
