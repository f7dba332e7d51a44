"""Who has a role: one of the owners in one opening of a store."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.store._heartbeat import LoopHeartbeat

_numbers = itertools.count(1)
# The owners of this process. Of an owner in another process only the age of its
# session's heartbeat is known.
_present: dict[str, LoopHeartbeat | None] = {}


def owner_of(opening: str, heartbeat: LoopHeartbeat | None = None) -> str:
    """Make an owner that is present until it leaves.

    Args:
        opening: The session's id.
        heartbeat: The owner's heartbeat, if the owner lives in an event loop.
    """
    owner = f"{opening}.{next(_numbers)}"
    _present[owner] = heartbeat
    return owner


def leave(owner: str) -> None:
    """Record that an owner of this process is gone, and stop its heartbeat."""
    heartbeat = _present.pop(owner, None)
    if heartbeat is not None:
        heartbeat.stop()


def silence_of(owner: str, seen: Mapping[str, float], own: str) -> float | None:
    """Tell for how many seconds an owner was silent; None if it is gone.

    Args:
        owner: The owner.
        seen: The openings that are alive, and how long each was silent.
        own: The opening of who asks.
    """
    opening, _, _ = owner.partition(".")
    if opening == own:
        if owner not in _present:
            return None
        heartbeat = _present[owner]
        return 0.0 if heartbeat is None else heartbeat.age()
    return seen.get(opening)
