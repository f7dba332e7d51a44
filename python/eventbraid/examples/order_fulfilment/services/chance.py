"""Chance that can be repeated: drawn from a seed and a name, never from call order.

Two runs with one seed meet the same declines and the same failures, however their
calls interleave and wherever one of them was killed.
"""

from __future__ import annotations

from hashlib import blake2b

_RANGE = 1 << 64


def share(seed: int, *what: object) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the names given.

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
    """Whether something that befalls a share `rate` of all cases befalls this one."""
    return rate > 0 and share(seed, *what) < rate
