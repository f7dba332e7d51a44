"""Subscriptions whose events are decoded."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from eventbraid._native import RecordedEvent
    from eventbraid._recorded import Recorded
    from eventbraid._typed_stream import StreamDecoder
    from eventbraid.store._subscription import (
        AsyncSubscription,
        LogCursor,
        Subscription,
    )

E = TypeVar("E")


class TypedCursor(Generic[E]):
    """The position of a typed subscription, and its end."""

    __slots__ = ("_cursor", "_decoder", "_held", "_parts")

    def __init__(self, cursor: LogCursor, decoder: StreamDecoder[E]) -> None:
        """Start at the position of a subscription; nothing is read yet."""
        self._cursor = cursor
        self._decoder = decoder
        # The typed events of the last record that have not been handed out.
        self._parts: deque[Recorded[E]] = deque()
        # The position before the last record, while not all of it is handed out. The
        # cursor has passed the record: a program that is stopped between two events of
        # one record, and continues at the cursor's position, would lose the second.
        self._held: int | None = None

    @property
    def position(self) -> int:
        """The position up to which every matching event has been handed out.

        Kept in a safe place, it is the ``after`` of a later subscription. It moves over
        a record when all events that upcasters make of it have been handed out, so none
        of them is lost; after a restart between two of them, the first comes again. It
        moves over a record that can't be decoded when the iteration continues. It also
        moves over records that upcasters drop or the policy sets aside, and over those
        that the filter leaves out, also while the subscription waits.
        """
        held = self._held
        return self._cursor.position if held is None else held

    @property
    def closed(self) -> bool:
        """Whether the subscription was closed."""
        return self._cursor.closed

    def close(self) -> None:
        """End the subscription, and a blocked wait at once.

        Any thread or task may call it.
        """
        self._cursor.close()

    def _next_part(self) -> Recorded[E] | None:
        """Return the next event of the last record; None if there is none."""
        if self._cursor.closed or not self._parts:
            return None
        part = self._parts.popleft()
        if not self._parts:
            self._held = None
        return part

    def _decode(self, recorded: RecordedEvent) -> None:
        self._held = recorded.position - 1
        # If this raises, the position remains before the record.
        self._parts.extend(self._decoder.decode(recorded))
        if not self._parts:
            self._held = None

    def __repr__(self) -> str:
        """Show the position."""
        state = ", closed" if self.closed else ""
        return f"<{type(self).__name__} after {self.position}{state}>"


class TypedSubscription(TypedCursor[E]):
    """Every event of a kind of stream once, in order and decoded, and then new ones.

    Made by `EventStore.subscribe` for a kind of stream. It waits in the thread that
    iterates over it; any other thread may close it. Threads that iterate over one
    subscription take turns: each event goes to one of them.

    An event that can't be decoded raises `UnknownEventType` or `EventDecodeError`,
    unless ``on_undecodable`` is another policy. The next call continues after it.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.turnstile.passed")
        ... class Passed:
        ...     ticket: str
        >>> class Turnstile(eb.Stream[Passed], category="turnstile"): ...
        >>> with eb.open("memory:") as store:
        ...     passed = eb.new_event(Turnstile("turnstile-1"), Passed("A7"))
        ...     done = store.append([passed])
        ...     with store.subscribe(Turnstile) as subscription:
        ...         print(next(subscription).event.ticket)
        A7
    """

    __slots__ = ("_subscription", "_turn")

    def __init__(self, subscription: Subscription, decoder: StreamDecoder[E]) -> None:
        """Decode the events of a subscription."""
        super().__init__(subscription, decoder)
        self._subscription = subscription
        # It protects the parts of the last record and the held position, which belong
        # together: without it, a thread could decode a second record while another one
        # hands out the first, and the position would pass events not handed out.
        # Reentrant, because a signal handler may interrupt its holder and read on.
        self._turn = PerProcess(threading.RLock)

    def __iter__(self) -> Self:
        """Iterate over the events."""
        return self

    def __next__(self) -> Recorded[E]:
        """Return the next event; wait for it if necessary.

        Raises:
            EventDecodeError: If an event can't be decoded as one of the kind's events.
            StopIteration: If the subscription was closed.
            StoreClosed: If the store was closed.
            StorePoisoned: If the disk failed.
            UnknownEventType: If neither a class nor an upcaster is registered for it.
        """
        with self._turn.get():
            while True:
                part = self._next_part()
                if part is not None:
                    return part
                if not self._parts:
                    self._held = None
                self._decode(next(self._subscription))

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


class AsyncTypedSubscription(TypedCursor[E]):
    """Every event of a kind of stream once, in order and decoded, and then new ones.

    Made by `AsyncEventStore.subscribe` for a kind of stream. One task iterates over it,
    and a second one that waits for an event at the same time is refused with
    `RuntimeError`; any task or thread may close it.

    An event that can't be decoded raises `UnknownEventType` or `EventDecodeError`,
    unless ``on_undecodable`` is another policy. The next call continues after it.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> @eb.event("doc.turnstile.left")
        ... class Left:
        ...     ticket: str
        >>> class Exit(eb.Stream[Left], category="exit"): ...
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         await store.append([eb.new_event(Exit("exit-1"), Left("A7"))])
        ...         async with store.subscribe(Exit) as subscription:
        ...             async for recorded in subscription:
        ...                 print(recorded.event.ticket)
        ...                 break
        >>> asyncio.run(main())
        A7
    """

    __slots__ = ("_subscription",)

    def __init__(
        self, subscription: AsyncSubscription, decoder: StreamDecoder[E]
    ) -> None:
        """Decode the events of a subscription."""
        super().__init__(subscription, decoder)
        self._subscription = subscription

    def __aiter__(self) -> Self:
        """Iterate over the events."""
        return self

    async def __anext__(self) -> Recorded[E]:
        """Return the next event; wait for it if necessary.

        Raises:
            EventDecodeError: If an event can't be decoded as one of the kind's events.
            RuntimeError: If another task waits for an event of this subscription.
            StopAsyncIteration: If the subscription was closed.
            StoreClosed: If the store was closed.
            StorePoisoned: If the disk failed.
            UnknownEventType: If neither a class nor an upcaster is registered for it.
        """
        while True:
            part = self._next_part()
            if part is not None:
                return part
            if not self._parts:
                self._held = None
            self._decode(await anext(self._subscription))

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
