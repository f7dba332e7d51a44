"""Leases in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.lease._holding import Holding
from eventbraid.lease._lease_attributes import NO_TIME, LeaseAttributes
from eventbraid.lease._liveness import STALE_AFTER
from eventbraid.lease._port import LoopPort
from eventbraid.store._coroutine import ASYNC, run_without_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from eventbraid.store import Appended, AsyncStore, Expectation, NewEvent


class AsyncLease(LeaseAttributes):
    """An exclusive right among all sessions of a store; an async context manager.

    The lease is acquired at the beginning of the block and released at its end, also if
    the block raises. At any time the store accepts the appends of at most one holder:
    as soon as another holder has acquired the lease, the store refuses an append of the
    former holder that is made by `append` or has the expectation `fence`.

    If the holder's process ends or closes the store, the lease is free at once. If the
    process is stopped, the lease is free after ``stale_after``. A caller that waits for
    a lease polls it every 50 ms. A forked child process doesn't hold its parent's
    leases.

    The heartbeat comes from the event loop in which the lease is acquired. If that loop
    hangs for ``stale_after``, the lease is free. When another holder has acquired it,
    the store refuses the appends of the former holder.

    Args:
        store: The store, open.
        name: The lease's name, such as ``"projection-orders"``. Its stream is
            ``$lease-`` and the name.
        stale_after: The age of the last heartbeat from which a holder counts as
            stopped; at least 1 s.
        wait: The maximum duration of the wait for a lease that another holder has;
            None: without limit.

    Raises:
        LeaseHeld: On entering: another holder has it.
        LeaseLost: On leaving, and from `append`: another holder has acquired it.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         async with eb.AsyncLease(store, "projection-orders") as lease:
        ...             done = await store.append(
        ...                 [("order-1", "seen", b"")], expect=lease.fence
        ...             )
        ...             print(done.versions["order-1"], lease.token)
        ...             try:
        ...                 async with eb.AsyncLease(store, "projection-orders"):
        ...                     pass
        ...             except eb.LeaseHeld as error:
        ...                 print(error.lease)
        >>> asyncio.run(main())
        1 1
        projection-orders
    """

    def __init__(
        self,
        store: AsyncStore,
        name: str,
        /,
        *,
        stale_after: timedelta = STALE_AFTER,
        wait: timedelta | None = NO_TIME,
    ) -> None:
        """Validate the arguments; the lease is acquired on entering."""
        super().__init__(Holding(LoopPort(store), name, stale_after, wait))

    async def __aenter__(self) -> Self:
        """Acquire the lease."""
        if not ASYNC:
            run_without_loop(self._holding.acquire())
            return self
        await self._holding.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the lease; raise `LeaseLost` if another holder has acquired it."""
        if not ASYNC:
            run_without_loop(self._holding.release(error))
            return
        await self._holding.release(error)

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append events if the lease is still held.

        Args:
            events: The events, in order: `NewEvent` objects or ``(stream, type, data)``
                tuples.
            expect: The expectations besides `fence`.
            idempotency_key: The key of the request, 1 to 255 bytes of UTF-8. The same
                key with the same content returns the first result again.

        Returns:
            The positions of the first and the last event, and the new versions.

        Raises:
            LeaseLost: Another holder has acquired the lease; nothing was written.
            EventbraidError: The store refused the append, for the same reasons as an
                append without a lease.

        Example:
            >>> import asyncio
            >>> import eventbraid as eb
            >>> async def main() -> None:
            ...     async with eb.open_async("memory:") as store:
            ...         async with eb.AsyncLease(store, "importer") as lease:
            ...             done = await lease.append([("order-1", "imported", b"")])
            ...             print(done.last_position)
            >>> asyncio.run(main())
            2
        """
        if not ASYNC:
            appending = self._holding.append(events, expect, idempotency_key)
            return run_without_loop(appending)
        return await self._holding.append(events, expect, idempotency_key)
