"""Leases, for threads and for event loops."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from eventbraid.lease._holding import Holding
from eventbraid.lease._port import LoopPort, ThreadPort
from eventbraid.store._coroutine import run_without_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from eventbraid.store import (
        Appended,
        AsyncStore,
        Expectation,
        NewEvent,
        Store,
    )

_STALE_AFTER = timedelta(seconds=10)
_NO_TIME = timedelta(0)


class _Lease:
    """The attributes of a lease that both faces have."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    @property
    def name(self) -> str:
        """The lease's name."""
        return self._holding.name

    @property
    def token(self) -> int:
        """The fencing token: the version of the lease's stream after acquiring it."""
        return self._holding.token

    @property
    def fence(self) -> Mapping[str, int]:
        """The expectation of each append under the lease; pass it as ``expect``.

        Raises:
            InvalidArgument: The parent of this forked process acquired the lease.
        """
        return self._holding.fence


class Lease(_Lease):
    """An exclusive right among all sessions of a store; a context manager.

    Entering acquires the lease, and leaving releases it, also if the block raised. At
    any time the lease has at most one holder whose appends are accepted: an append that
    carries `fence`, or that is made by `append`, is refused by the store as soon as
    another holder has acquired the lease.

    If the holder's process ends or closes the store, the lease is free at once. If the
    process is stopped, the lease is free after ``stale_after``. A caller that waits for
    a lease polls it every 50 ms. A forked child doesn't hold its parent's leases.

    The heartbeat comes from a thread of the store: it shows that the process runs, not
    that the thread that holds the lease makes progress. An `AsyncLease` is as alive as
    its event loop. For other processes the heartbeat of a session is that of its
    slowest event loop, so open another session for a `Lease` that has to outlive a
    hanging event loop of its process.

    Args:
        store: The store, open.
        name: The lease's name, such as ``"projection-orders"``. Its stream is
            ``$lease-`` and the name.
        stale_after: The age of the last heartbeat from which a holder counts as
            stopped; at least 1 s.
        wait: How long to wait for a lease that another holder has; None: without limit.

    Raises:
        LeaseHeld: On entering: another holder has it.
        LeaseLost: On leaving, and by `append`: another holder has acquired it.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     with eb.Lease(store, "projection-orders") as lease:
        ...         done = store.append([("order-1", "seen", b"")], expect=lease.fence)
        ...         print(done.versions["order-1"], lease.token)
        1 1
    """

    def __init__(
        self,
        store: Store,
        name: str,
        /,
        *,
        stale_after: timedelta = _STALE_AFTER,
        wait: timedelta | None = _NO_TIME,
    ) -> None:
        """Name the lease; it is acquired on entering."""
        super().__init__(Holding(ThreadPort(store), name, stale_after, wait))

    def __enter__(self) -> Self:
        """Acquire the lease."""
        run_without_loop(self._holding.acquire())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the lease; raise `LeaseLost` for a conflict that its loss caused."""
        run_without_loop(self._holding.release(error))

    def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append events if the lease is still held.

        Args:
            events: As for `EventStore.append`.
            expect: The expectations besides `fence`.
            idempotency_key: As for `EventStore.append`.

        Raises:
            LeaseLost: Another holder has acquired the lease; nothing was written.
            EventbraidError: As `EventStore.append` does.

        Example:
            >>> import eventbraid as eb
            >>> with eb.open("memory:") as store, eb.Lease(store, "importer") as lease:
            ...     lease.append([("order-1", "imported", b"")]).last_position
            2
        """
        return run_without_loop(self._holding.append(events, expect, idempotency_key))


class AsyncLease(_Lease):
    """An exclusive right among all sessions of a store, held in an event loop.

    It is a `Lease`, with one difference: the heartbeat comes from the event loop in
    which the lease is acquired. If that loop hangs for ``stale_after``, the lease is
    free, and the store refuses what its late holder appends.

    Args:
        store: The store, open.
        name: The lease's name.
        stale_after: As for `Lease`.
        wait: As for `Lease`.

    Raises:
        LeaseHeld: On entering: another holder has it.
        LeaseLost: On leaving, and by `append`: another holder has acquired it.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         async with eb.AsyncLease(store, "projection-orders") as lease:
        ...             await store.append([("o-1", "seen", b"")], expect=lease.fence)
        ...             try:
        ...                 async with eb.AsyncLease(store, "projection-orders"):
        ...                     pass
        ...             except eb.LeaseHeld as error:
        ...                 print(error.lease)
        >>> asyncio.run(main())
        projection-orders
    """

    def __init__(
        self,
        store: AsyncStore,
        name: str,
        /,
        *,
        stale_after: timedelta = _STALE_AFTER,
        wait: timedelta | None = _NO_TIME,
    ) -> None:
        """Name the lease; it is acquired on entering."""
        super().__init__(Holding(LoopPort(store), name, stale_after, wait))

    async def __aenter__(self) -> Self:
        """Acquire the lease."""
        await self._holding.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the lease; raise `LeaseLost` for a conflict that its loss caused."""
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
            events: As for `EventStore.append`.
            expect: The expectations besides `fence`.
            idempotency_key: As for `EventStore.append`.

        Raises:
            LeaseLost: Another holder has acquired the lease; nothing was written.
            EventbraidError: As `EventStore.append` does.
        """
        return await self._holding.append(events, expect, idempotency_key)
