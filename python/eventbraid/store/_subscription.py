"""Following the log: catch up, then wait for more. One cursor does both."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from eventbraid._native import LogWaiter, Page
from eventbraid.store._completion import current_port, unwrapped
from eventbraid.store._paging import FIRST_PAGE, LARGEST_PAGE, checked

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from eventbraid._native import LogFilter, RecordedEvent, Store
    from eventbraid.store._handle import Handle


class _Cursor:
    """A place in the log and what was read beyond it. No I/O."""

    __slots__ = ("_fetched", "_size", "_unread", "after")

    def __init__(self, after: int) -> None:
        self.after = checked("after", after)
        self._fetched = self.after
        self._size = FIRST_PAGE
        self._unread: deque[RecordedEvent] = deque()

    @property
    def fetched(self) -> int:
        return self._fetched

    @property
    def size(self) -> int:
        return self._size

    def take(self) -> RecordedEvent | None:
        """Step to the next event that is in hand."""
        if not self._unread:
            return None
        recorded = self._unread.popleft()
        self.after = recorded.position if self._unread else self._fetched
        return recorded

    def advance(self, page: Page) -> bool:
        """Go on behind a page; answer whether there is nothing to do but wait."""
        self._unread.extend(page.events)
        self._fetched = page.next
        if not self._unread:
            self.after = page.next
        self._size = min(self._size * 4, LARGEST_PAGE) if page.more else FIRST_PAGE
        return not page.events and not page.more


class _Waiting:
    """Waits for the log to grow: in a forked child, for the child's own store to."""

    __slots__ = ("_closed", "_native", "_waiter")

    def __init__(self, native: Store) -> None:
        self._closed = False
        self._native = native
        self._waiter = LogWaiter(native)

    @property
    def closed(self) -> bool:
        return self._closed

    def on(self, native: Store) -> LogWaiter:
        """Give what waits on this store."""
        if self._native is not native:
            self._waiter, self._native = LogWaiter(native), native
            if self._closed:
                # By another thread, which saw the one before.
                self._waiter.close()
        return self._waiter

    def close(self) -> None:
        # In this order: whoever makes a waiter meanwhile sees it.
        self._closed = True
        self._waiter.close()


class Subscription:
    """Every matching event once, in order: first those that are there, then new ones.

    Made by `EventStore.subscribe`. It waits in the thread that iterates over it; any
    other thread may close it.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("account-alice", "account.opened", b"{}")])
        ...     with store.subscribe(category="account") as subscription:
        ...         print(next(subscription).type)
        account.opened
    """

    __slots__ = ("_cursor", "_filter", "_handle", "_waiting")

    def __init__(self, handle: Handle, after: int, wanted: LogFilter) -> None:
        """Start at a position; nothing is read yet."""
        self._handle = handle
        self._filter = wanted
        self._cursor = _Cursor(after)
        self._waiting = _Waiting(handle.native)

    @property
    def position(self) -> int:
        """The position up to which every matching event has been handed out.

        Kept in a safe place, it is the ``after`` of a later subscription. It also moves
        over events that the filter leaves out.
        """
        return self._cursor.after

    @property
    def closed(self) -> bool:
        """Whether the subscription was closed."""
        return self._waiting.closed

    def close(self) -> None:
        """End the subscription, and a blocked wait at once. Any thread may call it."""
        self._waiting.close()

    def __iter__(self) -> Self:
        """Iterate over the events."""
        return self

    def __next__(self) -> RecordedEvent:
        """Give the next event; wait for it if need be.

        Raises:
            StopIteration: If the subscription was closed.
            StoreClosed: If the store was closed.
            StoreDetached: If what the processes of the store come together by was
                deleted or changed, and all that is known to be durable was given.
            StorePoisoned: If a sync failed, and all that is durable was given.
        """
        while not self._waiting.closed:
            recorded = self._cursor.take()
            if recorded is not None:
                return recorded
            if not self._more():
                break
        raise StopIteration

    def __enter__(self) -> Self:
        """Use it in a ``with`` block, which closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Say where it is."""
        state = ", closed" if self.closed else ""
        return f"<Subscription after {self.position}{state}>"

    def _more(self) -> bool:
        """Read a page, and wait if it ends at the head; false if closed meanwhile."""
        native = self._handle.own()
        page = native.read_log(
            after=self._cursor.fetched,
            before=None,
            limit=self._cursor.size,
            backward=False,
            at=None,
            wanted=self._filter,
        )
        if not self._cursor.advance(page):
            return True
        return self._waiting.on(native).wait(self._cursor.fetched)


class AsyncSubscription:
    """Every matching event once, in order: first those that are there, then new ones.

    Made by `AsyncEventStore.subscribe`. One task iterates over it; any task or thread
    may close it.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         await store.append([("account-alice", "account.opened", b"{}")])
        ...         async with store.subscribe(category="account") as subscription:
        ...             async for recorded in subscription:
        ...                 print(recorded.type)
        ...                 break
        >>> asyncio.run(main())
        account.opened
    """

    __slots__ = ("_cursor", "_filter", "_handle", "_waiting")

    def __init__(self, handle: Handle, after: int, wanted: LogFilter) -> None:
        """Start at a position; nothing is read yet."""
        self._handle = handle
        self._filter = wanted
        self._cursor = _Cursor(after)
        self._waiting = _Waiting(handle.native)

    @property
    def position(self) -> int:
        """The position up to which every matching event has been handed out.

        Kept in a safe place, it is the ``after`` of a later subscription. It also moves
        over events that the filter leaves out.
        """
        return self._cursor.after

    @property
    def closed(self) -> bool:
        """Whether the subscription was closed."""
        return self._waiting.closed

    def close(self) -> None:
        """End the subscription, and a blocked wait at once. Any task may call it."""
        self._waiting.close()

    def __aiter__(self) -> Self:
        """Iterate over the events."""
        return self

    async def __anext__(self) -> RecordedEvent:
        """Give the next event; wait for it if need be.

        Raises:
            StopAsyncIteration: If the subscription was closed.
            StoreClosed: If the store was closed.
            StoreDetached: As `Subscription` raises it.
            StorePoisoned: As `Subscription` raises it.
        """
        while not self._waiting.closed:
            recorded = self._cursor.take()
            if recorded is not None:
                return recorded
            if not await self._more():
                break
        raise StopAsyncIteration

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
        self.close()

    def __repr__(self) -> str:
        """Say where it is."""
        state = ", closed" if self.closed else ""
        return f"<AsyncSubscription after {self.position}{state}>"

    async def _more(self) -> bool:
        """Read a page, and wait if it ends at the head; false if closed meanwhile."""
        native = await self._handle.own_async()
        port = current_port()
        # A busy log must not starve the loop's other tasks.
        await port.let_others_run()
        page = native.read_log_async(
            port.native,
            after=self._cursor.fetched,
            before=None,
            limit=self._cursor.size,
            backward=False,
            at=None,
            wanted=self._filter,
        )
        if isinstance(page, int):
            page = unwrapped(await port.result(page), Page)
        if not self._cursor.advance(page):
            return True
        waiter = self._waiting.on(native)
        token = waiter.wait_async(port.native, self._cursor.fetched)
        try:
            return unwrapped(await port.result(token), bool)
        except BaseException:
            waiter.abandon(token)
            raise
