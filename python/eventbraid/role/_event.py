"""The recorded events of a role's stream: who has taken it, and who has let it go."""

from __future__ import annotations

import msgspec

from eventbraid.event import register_event

PREFIX = "$role-"


@register_event("role.taken")
class RoleTaken(msgspec.Struct, frozen=True):
    """Somebody has taken the role; the version of this event is the fencing token.

    Attributes:
        owner: Which opening of the store, and which owner in it.
        host: The name of the machine.
        pid: The process, as its machine numbers it.
        program: What it runs.
    """

    owner: str
    host: str
    pid: int
    program: str


@register_event("role.released")
class RoleReleased(msgspec.Struct, frozen=True):
    """The owner has let the role go, so that the next one need not wait."""

    owner: str
