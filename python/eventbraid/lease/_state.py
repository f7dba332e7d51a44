"""The state of a lease, and the records that change it. Pure: values in, values out.

A lease is a stream. `lease.acquired` is appended at an exact version, and the new
version is the fencing token. Each append under the lease expects that version. So once
another holder has acquired the lease, the store refuses all appends of the late holder.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from eventbraid._logging import LEASE
from eventbraid.errors import (
    EventDecodeError,
    InvalidArgument,
    LeaseHeld,
    LeaseLost,
    UnknownEventType,
)
from eventbraid.event import decode_event, new_event
from eventbraid.lease._events import PREFIX, LeaseAcquired, LeaseReleased
from eventbraid.lease._holder import heartbeat_age
from eventbraid.store._system import system_event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from eventbraid.errors import VersionConflict
    from eventbraid.store import NewEvent, RecordedEvent

HEARTBEAT_SECONDS = 0.2
"""The interval between two heartbeats of a session."""

MINIMUM_STALE_SECONDS = 1.0
"""The minimum of ``stale_after``: a busy machine delays heartbeats."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """The live sessions of a store, as one of them sees them.

    Attributes:
        own_session: The session that sees them.
        ages: The seconds since the last heartbeat of each live session.
        stale_after: The age of a heartbeat from which its holder counts as stopped.
    """

    own_session: str
    ages: Mapping[str, float]
    stale_after: float

    def age_of(self, holder: str) -> float | None:
        """Return the seconds since a holder's last heartbeat; None if it is gone."""
        return heartbeat_age(holder, self.ages, self.own_session)

    def is_live(self, holder: str) -> bool:
        """Return whether a holder exists and isn't stopped."""
        age = self.age_of(holder)
        return age is not None and age < self.stale_after


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The state of a lease as of the last event of its stream.

    Attributes:
        version: The version of the stream.
        held: The record of the present holder; None if the lease isn't held.
        since: The commit time of that record.
    """

    version: int = 0
    held: LeaseAcquired | None = None
    since: datetime | None = None

    @classmethod
    def of(cls, last: RecordedEvent | None) -> LeaseState:
        """Decode the state from the last event of the lease's stream."""
        if last is None:
            return cls()
        try:
            event = decode_event(last)
        except (EventDecodeError, UnknownEventType) as error:
            # Any event moves the version, so every earlier fencing token is void.
            LEASE.warning(
                "lease %r is free: its last record is: %s", last.stream, error
            )
            return cls(last.version)
        held = event if isinstance(event, LeaseAcquired) else None
        return cls(last.version, held, last.recorded_at if held else None)

    def is_free(self, liveness: Liveness) -> bool:
        """Return whether the lease can be acquired."""
        return self.held is None or not liveness.is_live(self.held.holder)

    def is_held_by(self, holder: str) -> bool:
        """Return whether a holder holds the lease."""
        return self.held is not None and self.held.holder == holder


def validate_name(name: str) -> str:
    """Validate the name of a lease, and return the id of its stream.

    Raises:
        InvalidArgument: The name is empty, reserved, or not printable.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the name of a lease must be a str, not {type(name).__name__}")
    if not name or not name.isprintable():
        reason = "it must be a non-empty string of printable characters"
        raise InvalidArgument("lease", name, reason)
    if name.startswith("$"):
        reason = "names that begin with $ are reserved for the library; choose another"
        raise InvalidArgument("lease", name, reason)
    return PREFIX + name


def validate_stale_after(seconds: float) -> float:
    """Validate the heartbeat age from which a holder counts as stopped.

    Raises:
        InvalidArgument: It is below the minimum.
    """
    if seconds < MINIMUM_STALE_SECONDS:
        reason = (
            f"must be >= {MINIMUM_STALE_SECONDS} s: heartbeats have an interval of "
            f"{HEARTBEAT_SECONDS} s, and a busy machine delays them"
        )
        raise InvalidArgument("stale_after", f"{seconds} s", reason)
    return seconds


def acquired(name: str, holder: str) -> NewEvent:
    """Build the event by which a holder of this process acquires a lease."""
    program = PurePath(sys.argv[0] if sys.argv else "").name or "python"
    host = socket.gethostname()
    event = LeaseAcquired(holder, _encodable(host), os.getpid(), _encodable(program))
    return system_event(new_event(PREFIX + name, event))


def _encodable(name: str) -> str:
    """Return a name of the system, without the bytes in it that are not UTF-8."""
    return name.encode(errors="replace").decode()


def released(name: str, holder: str) -> NewEvent:
    """Build the event by which a holder releases a lease."""
    return system_event(new_event(PREFIX + name, LeaseReleased(holder)))


def held_error(name: str, state: LeaseState, liveness: Liveness) -> LeaseHeld:
    """Build the error for a lease that another holder holds."""
    held = state.held
    if held is None:
        return LeaseHeld(name, "a holder that acquired it just now", None, 0.0)
    holder = f"{held.program} (process {held.pid} on {held.host})"
    age = liveness.age_of(held.holder) or 0.0
    return LeaseHeld(name, holder, state.since, age)


def lost_error(name: str, token: int, conflict: VersionConflict) -> LeaseLost | None:
    """Build the error for a lost lease, if that caused the conflict."""
    stream = PREFIX + name
    for failure in conflict.failures:
        if failure.stream == stream and failure.actual != token:
            return LeaseLost(name, token, failure.actual)
    return None
