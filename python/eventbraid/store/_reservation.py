"""Reservations of streams, for commands that lose to faster writers again and again.

While a reservation is in force, appends of others that write its streams wait, in this
process and in all that share the store. It is bounded in time and ends with its
process. It guards nothing: what is written is decided by versions alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from eventbraid.errors import EventbraidError
from eventbraid.store._handle import Handle

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

LONGEST_SECONDS = 5.0
"""How long a reservation lasts at most."""

NO_RESERVATION = 0

_held: ContextVar[int] = ContextVar("_held", default=NO_RESERVATION)

held_reservation = _held.get
"""Return the reservation under which appends of the current task or thread are made."""


def reserve(store: object, streams: Sequence[str], seconds: float) -> int | None:
    """Reserve streams of a store for a time.

    Args:
        store: The store. One that has no reservations answers `NO_RESERVATION`.
        streams: The streams; only the first 16 count.
        seconds: For how long, at most `LONGEST_SECONDS`.

    Returns:
        The reservation; None if another one is in force.
    """
    handle = getattr(store, "_handle", None)
    if not isinstance(handle, Handle):
        return NO_RESERVATION
    return handle.own().reserve(list(streams), min(seconds, LONGEST_SECONDS))


def release(store: object, reservation: int) -> None:
    """End a reservation, unless it has ended."""
    handle = getattr(store, "_handle", None)
    if reservation == NO_RESERVATION or not isinstance(handle, Handle):
        return
    try:
        handle.own().release(reservation)
    except EventbraidError:
        # The store was closed, and its reservation with it.
        return


@contextmanager
def under(reservation: int) -> Generator[None]:
    """Make the appends of a block under a reservation."""
    token = _held.set(reservation)
    try:
        yield
    finally:
        _held.reset(token)
