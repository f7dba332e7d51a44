"""The state of a lease and the records that change it, computed by pure functions.

A lease is a stream. `lease.acquired` is appended at an exact version, and the new
version is the fencing token. Each append under the lease expects that version. So as
soon as another holder has acquired the lease, the store refuses all appends of the
former holder.
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
from eventbraid.store._system import system_event

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.errors import VersionConflict
    from eventbraid.lease._liveness import Liveness
    from eventbraid.store import NewEvent, RecordedEvent


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
            # The lease counts as free. Any event changes the version of the stream, so
            # every earlier fencing token is invalid.
            LEASE.warning(
                "lease %r counts as free: its last record can't be decoded: %s",
                last.stream,
                error,
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


def acquired(name: str, holder: str) -> NewEvent:
    """Build the event by which a holder of this process acquires a lease."""
    program = PurePath(sys.argv[0] if sys.argv else "").name or "python"
    host = socket.gethostname()
    event = LeaseAcquired(holder, _encodable(host), os.getpid(), _encodable(program))
    return system_event(new_event(PREFIX + name, event))


def _encodable(name: str) -> str:
    """Return a system's name with the parts replaced that UTF-8 can't encode."""
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
    """Build the error for a lost lease; None if the conflict has another cause."""
    stream = PREFIX + name
    for failure in conflict.failures:
        if failure.stream == stream and failure.actual != token:
            return LeaseLost(name, token, failure.actual)
    return None
