"""Following the log: catch up, then wait for more. One cursor does both."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from eventbraid._native import EventBuffer, LogWaiter, Page, Query
from eventbraid.store._completion_port import TURN_SECONDS, unwrapped
from eventbraid.store._current_port import current_port
from eventbraid.store._fork import PerProcess
from eventbraid.store._paging import checked

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from eventbraid._native import LogFilter, RecordedEvent, Store
    from eventbraid.store._handle import Handle


class _Waiting:
    """Waits for matching events: in a forked child, for the child's own store."""

    __slots__ = ("_closed", "_native", "_waiter")

    def __init__(self, native: Store) -> None:
        self._closed = False
        self._native = native
        self._waiter = LogWaiter(native)

    @property
    def closed(self) -> bool:
        return self._closed

    def on(self, native: Store) -> LogWaiter:
        """Return the waiter of this store."""
        if self._native is not native:
            self._waiter, self._native = LogWaiter(native), native
            if self._closed:
                # By another thread, which saw the one before.
                self._waiter.close()
        return self._waiter

    @property
    def passed(self) -> int:
        """The position up to which the waits have passed events that don't match."""
        return self._waiter.passed

    def close(self) -> None:
        # In this order: whoever makes a waiter meanwhile sees it.
        self._closed = True
        self._waiter.close()


class LogCursor(EventBuffer):
    """The position of a subscription, and its end."""

    __slots__ = ("_filter", "_handle", "_query", "_waiting")

    def __init__(self, handle: Handle, after: int, wanted: LogFilter) -> None:
        """Start at a position; nothing is read yet."""
        self._handle = handle
        self._filter = wanted
        self._query = Query(wanted)
        self._begin(checked("after", after))
        self._waiting = _Waiting(handle.native)

    @property
    def position(self) -> int:
        """The position up to which every matching event has been handed out.

        Kept in a safe place, it is the ``after`` of a later subscription. It also moves
        over events that the filter leaves out, also while the subscription waits.
        """
        self._pass(self._waiting.passed)
        return self._after

    def close(self) -> None:
        """End the subscription, and a blocked wait at once.

        Any thread or task may call it.
        """
        self._end()
        self._waiting.close()

    def __repr__(self) -> str:
        """Show the position."""
        state = ", closed" if self.closed else ""
        return f"<{type(self).__name__} after {self.position}{state}>"


class Subscription(LogCursor):
    """Every matching event once, in order: first those that are there, then new ones.

    Made by `EventStore.subscribe`. It waits in the thread that iterates over it; any
    other thread may close it. Threads that iterate over one subscription take turns:
    each event goes to one of them. If a signal handler raises while it waits, the next
    call continues with the next event.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("account-alice", "account.opened", b"{}")])
        ...     with store.subscribe(category="account") as subscription:
        ...         print(next(subscription).type)
        account.opened
    """

    __slots__ = ("_turn",)

    def __init__(self, handle: Handle, after: int, wanted: LogFilter) -> None:
        """Start at a position; nothing is read yet."""
        super().__init__(handle, after, wanted)
        # Reentrant, because a signal handler may interrupt its holder and read on.
        self._turn = PerProcess(threading.RLock)

    def __iter__(self) -> Self:
        """Iterate over the events."""
        return self

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

    def _more(self) -> bool:
        """Read a page, and wait if it ends at the head; false if closed meanwhile."""
        with self._turn.get():
            if self.closed:
                return False
            if self._has_unread:
                # Another thread has read a page meanwhile.
                return True
            native = self._handle.own()
            # The wait has passed what it left out: it needn't be read again.
            self._pass(self._waiting.passed)
            page = native.read(self._query, self._fetched, self._size, None)
            if not self._extend(page):
                return True
            return self._waiting.on(native).wait(self._fetched, self._filter)


class AsyncSubscription(LogCursor):
    """Every matching event once, in order: first those that are there, then new ones.

    Made by `AsyncEventStore.subscribe`. One task iterates over it, and a second one
    that waits for an event at the same time is refused with `RuntimeError`, as by an
    async generator; any task or thread may close it.

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

    __slots__ = ("_is_reading", "_turn_began")

    def __init__(self, handle: Handle, after: int, wanted: LogFilter) -> None:
        """Start at a position; nothing is read yet."""
        super().__init__(handle, after, wanted)
        self._is_reading = False
        self._turn_began = 0.0

    def __aiter__(self) -> Self:
        """Iterate over the events."""
        return self

    async def __anext__(self) -> RecordedEvent:
        """Return the next event; wait for it if necessary.

        Raises:
            RuntimeError: If another task waits for an event of this subscription.
            StopAsyncIteration: If the subscription was closed.
            StoreClosed: If the store was closed.
            StoreDetached: If what other processes write can't be known any more.
            StorePoisoned: If the disk failed.
        """
        if monotonic() - self._turn_began > TURN_SECONDS:
            await current_port().checkpoint()
            self._turn_began = monotonic()
        while not self.closed:
            recorded = self._take()
            if recorded is not None:
                return recorded
            if self._is_reading:
                message = (
                    "another task waits for the next event of this subscription; "
                    "give each task a subscription of its own"
                )
                raise RuntimeError(message)
            self._is_reading = True
            try:
                if not await self._more():
                    break
            finally:
                self._is_reading = False
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

    async def _more(self) -> bool:
        """Read a page, and wait if it ends at the head; false if closed meanwhile."""
        native = await self._handle.own_async()
        port = current_port()
        await port.checkpoint()
        self._turn_began = monotonic()
        # The wait has passed what it left out: it needn't be read again.
        self._pass(self._waiting.passed)
        page = native.read_async(
            port.native, self._query, self._fetched, self._size, None
        )
        if isinstance(page, int):
            page = unwrapped(await port.result(page), Page)
        if not self._extend(page):
            return True
        waiter = self._waiting.on(native)
        token = waiter.wait_async(port.native, self._fetched, self._filter)
        try:
            return unwrapped(await port.result(token), bool)
        except BaseException:
            waiter.abandon(token)
            raise
