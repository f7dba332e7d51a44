"""A reservation of contended streams that the commands of a process share.

A reservation makes the writers of other processes wait. If each command reserved for
itself, each would wait for the other processes again, and the processes would take
turns of one command. So the commands that wait in the same queues use the reservation
of the first one. After `SHARED_SECONDS` they leave the streams to the other processes.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from eventbraid.store import StreamReservation

SHARED_SECONDS = 0.02
"""The time in which further commands may begin to use a reservation: many commits of a
fast disk, and a short wait for the other processes."""

OTHERS_SECONDS = 1.0
"""The time after a conflict in which a stream counts as written by other processes."""


class SharedReservation:
    """A reservation, and the number of commands that use it.

    Attributes:
        streams: The reserved streams.
        expires_at: The time at which the reservation ends by itself.
        closes_at: The time after which no further command may use it.
        is_open: Whether further commands may use it: the command that has reserved the
            streams has begun an append on which they can build. Before, they would only
            be in its way.
        users: The number of commands that use it.
    """

    __slots__ = (
        "_reservation",
        "closes_at",
        "expires_at",
        "is_open",
        "streams",
        "users",
    )

    def __init__(
        self, reservation: StreamReservation, streams: Iterable[str], now: float
    ) -> None:
        """Begin with one user: the command that has reserved the streams."""
        self._reservation = reservation
        self.streams = frozenset(streams)
        self.expires_at = now + reservation.seconds
        self.closes_at = min(now + SHARED_SECONDS, self.expires_at)
        self.is_open = False
        self.users = 1

    def use(self) -> AbstractContextManager[None]:
        """Return a block whose appends belong to the reservation."""
        return self._reservation.use()

    def release(self) -> None:
        """End the reservation."""
        self._reservation.release()


class SharedReservations:
    """The reservation that is shared now, and the streams that need one.

    A store has one reservation at a time, so a process shares one at most.
    """

    __slots__ = ("_current", "_lock", "_others")

    def __init__(self) -> None:
        """Begin without a reservation."""
        # Protects the reservation and its number of users. Without it, a command could
        # begin to use a reservation that the last user releases at this moment.
        self._lock = threading.Lock()
        self._current: SharedReservation | None = None
        self._others: dict[str, float] = {}

    def note_others(self, streams: Iterable[str], now: float) -> None:
        """Note that other processes write to these streams."""
        self._others = {
            **{one: until for one, until in self._others.items() if until > now},
            **dict.fromkeys(streams, now + OTHERS_SECONDS),
        }

    def written_by_others(self, streams: Iterable[str], now: float) -> list[str]:
        """Return the streams to which other processes wrote a short time ago."""
        if not self._others:
            return []
        return [one for one in streams if self._others.get(one, 0.0) > now]

    def share(self, reservation: SharedReservation) -> None:
        """Let other commands use a reservation."""
        with self._lock:
            self._current = reservation

    def join(self, streams: Iterable[str], now: float) -> SharedReservation | None:
        """Return the shared reservation if it has all of these streams."""
        with self._lock:
            current = self._current
            if (
                current is None
                or not current.is_open
                or now >= current.closes_at
                or not current.streams.issuperset(streams)
            ):
                return None
            current.users += 1
            return current

    def leave(self, reservation: SharedReservation) -> None:
        """End the use of a reservation; the last user releases it."""
        with self._lock:
            reservation.users -= 1
            if reservation.users:
                return
            if self._current is reservation:
                self._current = None
        reservation.release()
