"""Holders of leases: each belongs to one session of a store."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.store import Heartbeat

_numbers = itertools.count(1)
# The holders of this process. For a holder in another process, only the age of its
# session's heartbeat can be read.
_registered: dict[str, Heartbeat | None] = {}


def register_holder(session: str, heartbeat: Heartbeat | None = None) -> str:
    """Register a holder of leases in this process, and return its id.

    Args:
        session: The session's id.
        heartbeat: The heartbeat of the holder's event loop, if the holder has one.
    """
    holder = f"{session}.{next(_numbers)}"
    _registered[holder] = heartbeat
    return holder


def unregister_holder(holder: str) -> None:
    """Remove a holder of this process, and stop its heartbeat."""
    heartbeat = _registered.pop(holder, None)
    if heartbeat is not None:
        heartbeat.stop()


def heartbeat_age(
    holder: str, ages: Mapping[str, float], own_session: str
) -> float | None:
    """Return the seconds since a holder's last heartbeat; None if it is gone.

    Args:
        holder: The holder.
        ages: The live sessions, with the seconds since the last heartbeat of each.
        own_session: The session of the caller.
    """
    session, _, _ = holder.partition(".")
    if session != own_session:
        return ages.get(session)
    if holder not in _registered:
        return None
    heartbeat = _registered[holder]
    return 0.0 if heartbeat is None else heartbeat.age()
