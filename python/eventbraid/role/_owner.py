"""Who has a role: one of the owners in one opening of a store."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_numbers = itertools.count(1)
# What this process knows of its own owners; of another process's it is told nothing but
# whether the opening is alive.
_present: set[str] = set()


def owner_of(opening: str) -> str:
    """Make an owner that is present until it leaves."""
    owner = f"{opening}.{next(_numbers)}"
    _present.add(owner)
    return owner


def leave(owner: str) -> None:
    """Let others of this process know that an owner is gone."""
    _present.discard(owner)


def silence_of(owner: str, seen: Mapping[str, float], own: str) -> float | None:
    """Tell for how many seconds an owner was silent; None if it is gone.

    Args:
        owner: The owner.
        seen: The openings that are alive, and how long each was silent.
        own: The opening of who asks.
    """
    opening, _, _ = owner.partition(".")
    if opening == own:
        return 0.0 if owner in _present else None
    return seen.get(opening)
