"""Where a role stands, and what follows: functions from values to values.

A role is a stream. Taking it appends `role.taken` at an exact version; the new version
is the fencing token. All that is done under the role demands that version, so from the
moment at which somebody else has taken the role, the store refuses the late owner.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from eventbraid.errors import (
    EventDecodeError,
    InvalidArgument,
    RoleBusy,
    RoleLost,
    UnknownEventType,
)
from eventbraid.event import decode_event, encode_event
from eventbraid.role._event import PREFIX, RoleReleased, RoleTaken
from eventbraid.role._owner import silence_of
from eventbraid.store._system import system_event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from eventbraid.errors import VersionConflict
    from eventbraid.store import NewEvent, RecordedEvent

_log = logging.getLogger("eventbraid.role")

BEAT_SECONDS = 0.2
"""How often an opening gives a sign of life."""

LEAST_STALE_SECONDS = 1.0
"""From how much silence on an owner may count as stopped, at least."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Who is alive, as one of them sees it.

    Attributes:
        own: The opening of who looks.
        seen: The openings that are alive, and for how many seconds each was silent.
        stale_after: From how many seconds of silence on an owner counts as stopped.
    """

    own: str
    seen: Mapping[str, float]
    stale_after: float

    def silence(self, owner: str) -> float | None:
        """Tell for how many seconds an owner was silent; None if it is gone."""
        return silence_of(owner, self.seen, self.own)

    def counts_on(self, owner: str) -> bool:
        """Tell whether an owner is alive and not stopped."""
        silence = self.silence(owner)
        return silence is not None and silence < self.stale_after


@dataclass(frozen=True, slots=True)
class Standing:
    """What the last event of a role's stream says.

    Attributes:
        version: The version of the stream.
        taken: Who has the role; None if nobody has.
        since: When it was taken.
    """

    version: int = 0
    taken: RoleTaken | None = None
    since: datetime | None = None

    @classmethod
    def of(cls, last: RecordedEvent | None) -> Standing:
        """Read it from the last event."""
        if last is None:
            return cls()
        try:
            event = decode_event(last)
        except (EventDecodeError, UnknownEventType) as error:
            # It moves the version all the same, so no session holds the lease any more.
            _log.warning("lease %r is free: its last record is: %s", last.stream, error)
            return cls(last.version)
        taken = event if isinstance(event, RoleTaken) else None
        return cls(last.version, taken, last.recorded_at if taken else None)

    def is_free(self, witness: Witness) -> bool:
        """Tell whether somebody may take the role."""
        return self.taken is None or not witness.counts_on(self.taken.owner)

    def is_of(self, owner: str) -> bool:
        """Tell whether an owner has the role."""
        return self.taken is not None and self.taken.owner == owner


def stream_of(role: str) -> str:
    """Give the stream of a role.

    Raises:
        InvalidArgument: It is no name for a role.
    """
    if not role or not role.isprintable():
        raise InvalidArgument("role", role, "give it a name of printable characters")
    if role.startswith("$"):
        reason = "names that begin with $ are the library's own; choose another one"
        raise InvalidArgument("role", role, reason)
    return PREFIX + role


def stale_seconds(stale_after: float) -> float:
    """Check the silence from which on an owner counts as stopped.

    Raises:
        InvalidArgument: It is too short.
    """
    if stale_after < LEAST_STALE_SECONDS:
        reason = (
            f"signs of life come every {BEAT_SECONDS} s, and may be late; "
            f"give {LEAST_STALE_SECONDS} s or more"
        )
        raise InvalidArgument("stale_after", f"{stale_after} s", reason)
    return stale_after


def taking(role: str, owner: str) -> NewEvent:
    """Make the event by which an owner of this process takes a role."""
    program = PurePath(sys.argv[0] if sys.argv else "").name or "python"
    host = socket.gethostname()
    event = RoleTaken(owner, _encodable(host), os.getpid(), _encodable(program))
    return system_event(PREFIX + role, *encode_event(event))


def _encodable(name: str) -> str:
    """Return a name of the system, without the bytes in it that are not UTF-8."""
    return name.encode(errors="replace").decode()


def releasing(role: str, owner: str) -> NewEvent:
    """Make the event by which an owner lets a role go."""
    return system_event(PREFIX + role, *encode_event(RoleReleased(owner)))


def busy(role: str, standing: Standing, witness: Witness) -> RoleBusy:
    """Make the error for a role that somebody has."""
    taken = standing.taken
    if taken is None:
        return RoleBusy(role, "somebody who took it just now", standing.since, 0.0)
    holder = f"{taken.program} (process {taken.pid} on {taken.host})"
    silence = witness.silence(taken.owner) or 0.0
    return RoleBusy(role, holder, standing.since, silence)


def loss(role: str, token: int, conflict: VersionConflict) -> RoleLost | None:
    """Make the error for a role, if a conflict shows that it is lost."""
    stream = PREFIX + role
    for failure in conflict.failures:
        if failure.stream == stream and failure.actual != token:
            return RoleLost(role, token, failure.actual)
    return None
