"""The recorded events of a lease's stream."""

from __future__ import annotations

import msgspec

from eventbraid.event import register_event

PREFIX = "$lease-"


@register_event("lease.acquired")
class LeaseAcquired(msgspec.Struct, frozen=True):
    """A holder acquired the lease; the version of this event is the fencing token.

    Attributes:
        holder: The id of the holder: the store's session and the holder's number in it.
        host: The name of the machine.
        pid: The process id.
        program: The name of the program that the process runs.
    """

    holder: str
    host: str
    pid: int
    program: str


@register_event("lease.released")
class LeaseReleased(msgspec.Struct, frozen=True):
    """The holder released the lease, so that the next holder needn't wait."""

    holder: str
