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

SHARED_SECONDS = 0.03
"""The time in which further commands may begin to use a reservation: many commits of a
fast disk, and a short wait for the other processes."""

OTHERS_SECONDS = 1.0
"""The time after a conflict in which a stream counts as written by other processes."""

OTHERS_LIMIT = 1_024
"""The number of such streams from which on those of earlier conflicts are forgotten."""

RESERVE_SECONDS = 0.003
"""The maximum delay between two attempts to reserve streams."""

PATIENT_SECONDS = 0.01
"""The time after which a command tries to reserve more often."""


def reserve_delay(waited: float, chance: float) -> float:
    """Return the delay before the next attempt to reserve streams, in seconds.

    A command that has waited for some time tries more often than one of the process
    that has just released the streams. So the processes take turns. With equal delays,
    a process could miss the end of many reservations in a row.

    Args:
        waited: The seconds since the first attempt.
        chance: A random number from 0 to 1, so that two processes don't try in step.
    """
    longest = RESERVE_SECONDS if waited < PATIENT_SECONDS else RESERVE_SECONDS / 6
    return longest * (0.5 + chance / 2)


class SharedReservation:
    """A reservation, and the number of commands that use it.

    Attributes:
        streams: The reserved streams.
        expires_at: The time at which the reservation ends by itself.
        closes_at: The time after which no further command may use it, once it was open.
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
        self.closes_at = 0.0
        self.is_open = False
        self.users = 1

    def open(self, now: float) -> None:
        """Let further commands use the reservation for `SHARED_SECONDS`."""
        if not self.closes_at:
            self.closes_at = min(now + SHARED_SECONDS, self.expires_at)
        self.is_open = True

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

    __slots__ = ("_current", "_lock", "_others", "_pruned_at")

    def __init__(self) -> None:
        """Begin without a reservation."""
        # Protects the reservation and its number of users, and the noted streams.
        # Without it, a command could begin to use a reservation that the last user
        # releases at this moment.
        self._lock = threading.Lock()
        self._current: SharedReservation | None = None
        # Streams, with the times until which they count as written by other processes.
        # Replaced or changed under the lock, and read without it: a reader only looks
        # up single streams.
        self._others: dict[str, float] = {}
        self._pruned_at = OTHERS_LIMIT

    def note_others(self, streams: Iterable[str], now: float) -> None:
        """Note that other processes write to these streams."""
        with self._lock:
            others = self._others
            if len(others) >= self._pruned_at:
                # Not at each conflict: that would take long with many streams.
                others = {one: until for one, until in others.items() if until > now}
                self._others = others
                self._pruned_at = max(OTHERS_LIMIT, 2 * len(others))
            others.update(dict.fromkeys(streams, now + OTHERS_SECONDS))

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
