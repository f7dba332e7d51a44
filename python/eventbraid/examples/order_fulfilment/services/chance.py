"""Reproducible chance: drawn from a seed and a name, never from the order of calls.

Two runs with one seed have the same declines and the same failures, in whatever order
their calls happen and wherever one of them was killed.
"""

from __future__ import annotations

from hashlib import blake2b

_RANGE = 1 << 64


def share(seed: int, *what: object) -> float:
    """Return a number in [0, 1) that depends only on the seed and the names given.

    Example:
        >>> share(7, "capture-1", 1) == share(7, "capture-1", 1)
        True
        >>> share(7, "capture-1", 1) == share(7, "capture-1", 2)
        False
    """
    text = "|".join(map(str, (seed, *what)))
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / _RANGE


def happens(rate: float, seed: int, *what: object) -> bool:
    """Return whether something that happens in a share of all cases happens in this."""
    return rate > 0 and share(seed, *what) < rate
