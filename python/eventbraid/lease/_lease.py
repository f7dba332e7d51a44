"""Leases without an event loop."""

# Generated from _async_lease.py by scripts/generate_sync.py; don't edit it.

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.lease._holding import Holding
from eventbraid.lease._lease_attributes import NO_TIME, LeaseAttributes
from eventbraid.lease._liveness import STALE_AFTER
from eventbraid.lease._port import ThreadPort
from eventbraid.store._coroutine import run_without_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from eventbraid.store import Appended, Expectation, NewEvent, Store


class Lease(LeaseAttributes):
    """An exclusive right among all sessions of a store; a context manager.

    The lease is acquired at the beginning of the block and released at its end, also if
    the block raises. At any time the store accepts the appends of at most one holder:
    as soon as another holder has acquired the lease, the store refuses an append of the
    former holder that is made by `append` or has the expectation `fence`.

    If the holder's process ends or closes the store, the lease is free at once. If the
    process is stopped, the lease is free after ``stale_after``. A caller that waits for
    a lease polls it every 50 ms. A forked child process doesn't hold its parent's
    leases.

    The heartbeat comes from a thread of the store. It shows that the process runs, not
    that the thread with the lease makes progress. Other processes read only one
    heartbeat of a session: the oldest of those of its event loops. So if an event loop
    of the process may hang, open another session for a `Lease` that must not be lost.

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
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     with eb.Lease(store, "projection-orders") as lease:
        ...         done = store.append([("order-1", "seen", b"")], expect=lease.fence)
        ...         print(done.versions["order-1"], lease.token)
        ...         try:
        ...             with eb.Lease(store, "projection-orders"):
        ...                 pass
        ...         except eb.LeaseHeld as error:
        ...             print(error.lease)
        1 1
        projection-orders
    """

    def __init__(
        self,
        store: Store,
        name: str,
        /,
        *,
        stale_after: timedelta = STALE_AFTER,
        wait: timedelta | None = NO_TIME,
    ) -> None:
        """Validate the arguments; the lease is acquired on entering."""
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
        """Release the lease; raise `LeaseLost` if another holder has acquired it."""
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
            >>> import eventbraid as eb
            >>> with eb.open("memory:") as store:
            ...     with eb.Lease(store, "importer") as lease:
            ...         done = lease.append([("order-1", "imported", b"")])
            ...         print(done.last_position)
            2
        """
        appending = self._holding.append(events, expect, idempotency_key)
        return run_without_loop(appending)
