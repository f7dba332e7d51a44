"""Reads the records of the log that a coordinator handles, in the log's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.saga.running._pace import Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from eventbraid.store import AsyncStore, RecordedEvent

# The number of records that are read at a time.
_PAGE = 1_024


class LogReader:
    """Reads the log from a position on.

    Args:
        store: The store.
        types: The types of the records that are read.

    Attributes:
        position: The position up to which all records were read and handled.
    """

    __slots__ = ("_store", "_types", "position")

    def __init__(self, store: AsyncStore, types: Sequence[str]) -> None:
        """Begin at the start of the log."""
        self._store = store
        self._types = types
        self.position = 0

    def begin_at(self, position: int) -> None:
        """Set the position after which `read_new` begins."""
        self.position = position

    def wait_for_more(self) -> Awaitable[object]:
        """Return an awaitable that ends when the log has unread records."""
        return self._store.coordination.wait_beyond(self.position)

    async def read_new(
        self, handle: Callable[[RecordedEvent], Awaitable[None]]
    ) -> None:
        """Read up to the present head of the log.

        Args:
            handle: Is awaited for each record, in the order of the log.
        """
        # The head is read before the records. A page may also have records beyond this
        # head, which are handled, too. If a page isn't full, there are no further
        # records of these types up to this head. Beyond it there may be records that
        # were appended after the read.
        head = await self._store.head()
        pace = Pace()
        while self.position < head:
            news = self._store.read_all(
                after=self.position, types=self._types, limit=_PAGE, system=True
            )
            # Read the whole page before the loop. If the loop were over the read
            # itself, a cancellation inside the loop would leave the read open.
            page = [found async for found in news]
            for recorded in page:
                await handle(recorded)
                self.position = max(self.position, recorded.position)
                await pace.yield_if_due()
            if len(page) < _PAGE:
                # Up to the head there are no further records of these types.
                self.position = max(self.position, head)
