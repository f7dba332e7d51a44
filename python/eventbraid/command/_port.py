"""The operations that an execution needs: of a store, of a clock, and of its runner.

An execution is one coroutine. Over `ThreadPort` it never suspends, because each answer
is there when the call returns; over `LoopPort` it is awaited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from eventbraid.store import StreamReservations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from eventbraid.command._queue import Waiter
    from eventbraid.store import (
        Appended,
        AsyncStore,
        Expectation,
        NewEvent,
        RecordedEvent,
        Store,
        StreamsSnapshot,
    )


class Port(Protocol):
    """The operations that an execution needs."""

    @property
    def reservations(self) -> StreamReservations | None:
        """The reservations of the store; None if it has none."""
        ...

    def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
    ) -> Awaitable[Appended]:
        """Append events."""
        ...

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Awaitable[Appended | None]:
        """Return the result of an earlier append under an idempotency key."""
        ...

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> Awaitable[StreamsSnapshot]:
        """Read several streams as of one position."""
        ...

    def read_commit(self, first: int, last: int) -> Awaitable[list[RecordedEvent]]:
        """Return the events from one position to another, both included."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run, and stop here if this one is cancelled.

        An append does so, too. An execution that ends without an append calls this,
        because its reads may have let no other task run.
        """
        ...

    def waiter(self) -> Waiter:
        """Make a waiter that can wait for a turn here."""
        ...

    def now(self) -> float:
        """Return a time in seconds that never goes back."""
        ...


def coordination_of(store: Store | AsyncStore) -> object:
    """Return the coordination of a store, or the store itself.

    Commands need `append`, `committed`, `read_streams` and `read_all`. On an object
    that has these alone, a stand-in of a test for example, their executors reserve no
    streams and queue for contended streams among themselves.
    """
    return getattr(store, "coordination", store)


def reservations_of(store: Store | AsyncStore) -> StreamReservations | None:
    """Return the reservations of a store; None if it has none."""
    coordination = coordination_of(store)
    return coordination if isinstance(coordination, StreamReservations) else None
