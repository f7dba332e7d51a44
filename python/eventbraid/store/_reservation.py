"""Reservations of streams, for commands that lose to faster writers again and again.

While a reservation is in force, appends of other callers that write its streams wait,
in this process and in all that share the store. It is bounded in time and ends with its
process. It guards nothing: what is written is decided by versions alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from eventbraid.errors import EventbraidError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from eventbraid.store._handle import Handle

LONGEST_SECONDS = 5.0
"""The maximum duration of a reservation.

It must equal ``LONGEST_RESERVATION`` of the engine (``coord/reservation.rs``), which
shortens longer reservations without a report. `NativeReservation.seconds` is computed
with this value. If the value were larger than that of the engine, a command would rely
on a reservation that has ended, and would retry without a delay. A test compares both.

The duration that a command asks for is `RESERVATION_SECONDS` of the layer above, plus a
multiple of its longest attempt. Commands with attempts of more than 1.2 s ask for
more than this maximum.
"""

_NO_RESERVATION = 0

_used: ContextVar[int] = ContextVar("_used", default=_NO_RESERVATION)

used_reservation = _used.get
"""Return the reservation to which appends of the current task or thread belong."""


class StreamReservation(Protocol):
    """Some streams of a store, reserved for a time.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     reservation = store.coordination.reserve(["account-alice"], 0.1)
        ...     with reservation.use():
        ...         done = store.append([("account-alice", "account.opened", b"{}")])
        ...     reservation.release()
        ...     done.versions["account-alice"]
        1
    """

    @property
    def seconds(self) -> float:
        """The duration of the reservation, unless it is released earlier."""
        ...

    def use(self) -> AbstractContextManager[None]:
        """Return a block whose appends belong to the reservation: they don't wait.

        The appends of the current task or thread alone are meant.
        """
        ...

    def release(self) -> None:
        """End the reservation, unless it has ended. The store may be closed already."""
        ...


@runtime_checkable
class StreamReservations(Protocol):
    """The optional part of `Coordination` by which a command has other writers wait.

    A command that has lost to other writers several times reserves its streams. On a
    store whose `coordination` has no such method, its attempts go on as races: that is
    correct, because a reservation guards nothing, but a slow command may end with
    `RetriesExhausted`.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.store import StreamReservations
        >>> with eb.open("memory:") as store:
        ...     isinstance(store.coordination, StreamReservations)
        True
    """

    def reserve(
        self,
        streams: Sequence[str],
        seconds: float,
        *,
        categories: Sequence[str] = (),
    ) -> StreamReservation | None:
        """Reserve streams for a time. It doesn't wait.

        While the reservation lasts, every other append that writes one of the streams
        waits for its end, in all sessions of the store. An append waits for at most one
        reservation.

        Args:
            streams: The streams.
            seconds: The duration. A store may shorten it; see
                `StreamReservation.seconds`.
            categories: Categories, each with all its streams. A store may leave out all
                but the first 16 categories and streams, the categories first.

        Returns:
            The reservation; None if another one is in force.
        """
        ...


class NativeReservation:
    """A reservation of the engine."""

    __slots__ = ("_handle", "_number", "seconds")

    def __init__(self, handle: Handle, number: int, seconds: float) -> None:
        """Wrap the number of a reservation that was made."""
        self._handle = handle
        self._number = number
        self.seconds = seconds

    @contextmanager
    def use(self) -> Generator[None]:
        """Make the appends of a block under this reservation."""
        token = _used.set(self._number)
        try:
            yield
        finally:
            _used.reset(token)

    def release(self) -> None:
        """End the reservation, unless it has ended."""
        try:
            self._handle.own().release(self._number)
        except EventbraidError:
            # The store was closed, and its reservation with it.
            return
