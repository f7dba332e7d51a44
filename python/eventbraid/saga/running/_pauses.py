"""The lengths of a saga's pauses after contention and after outages."""

from __future__ import annotations

_CONTENTION_SECONDS = 0.05


def pause_after_contention(chance: float) -> float:
    """Return the seconds to wait after too many conflicts with other writers.

    Args:
        chance: A random number from 0 to 1, so that the writers don't all retry at the
            same time.
    """
    return _CONTENTION_SECONDS * (1 + chance)


MAXIMUM_OUTAGES = 10
"""The number of outages in a row after which a saga is blocked, in about 30 s."""

_FIRST_PAUSE_SECONDS = 0.05
_MAXIMUM_PAUSE_SECONDS = 5.0
_BLOCKED_SECONDS = 15.0
_MAXIMUM_BLOCKED_SECONDS = 300.0
_MAXIMUM_DOUBLINGS = 10


def pause_after_outage(outages: int, chance: float) -> float:
    """Return the seconds to wait before code is called again after an outage.

    Args:
        outages: The number of outages in a row.
        chance: A random number from 0 to 1, so that sagas that failed at the same time
            don't continue at the same time.
    """
    growth = 2.0 ** min(outages - 1, _MAXIMUM_DOUBLINGS)
    full: float = min(_FIRST_PAUSE_SECONDS * growth, _MAXIMUM_PAUSE_SECONDS)
    return full * (1 + chance)


def pause_while_blocked(blocks: int, chance: float) -> float:
    """Return the seconds after which the code of a blocked saga is called again.

    Args:
        blocks: The number of times in a row that an outage has blocked the saga.
        chance: A random number from 0 to 1, so that sagas that were blocked at the same
            time don't continue at the same time.
    """
    growth = 2.0 ** min(blocks - 1, _MAXIMUM_DOUBLINGS)
    full: float = min(_BLOCKED_SECONDS * growth, _MAXIMUM_BLOCKED_SECONDS)
    return full * (1 + chance)
