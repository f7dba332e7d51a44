"""Which errors speak of the store or the saga, and not of the step at hand."""

from __future__ import annotations

from eventbraid.errors import (
    CommandRejected,
    CoordinatorClosed,
    CorruptStore,
    DeadlineExceeded,
    EventDecodeError,
    InvalidTransition,
    LeaseLost,
    LimitExceeded,
    OutcomeUnknown,
    RetriesExhausted,
    SagaBlocked,
    StorageFull,
    StoreBusy,
    StoreClosed,
    StoreDetached,
    StorePoisoned,
    StoreUnavailable,
    UnknownEventType,
    VersionConflict,
)

NOT_ABOUT_THE_STEP = (
    CoordinatorClosed,
    CorruptStore,
    DeadlineExceeded,
    EventDecodeError,
    InvalidTransition,
    OutcomeUnknown,
    RetriesExhausted,
    LeaseLost,
    SagaBlocked,
    StorageFull,
    StoreBusy,
    StoreClosed,
    StoreDetached,
    StorePoisoned,
    StoreUnavailable,
    UnknownEventType,
    VersionConflict,
)
"""Not a failure of the step: recorded as one, they would compensate a healthy saga."""

REFUSALS = (CommandRejected, LimitExceeded)
"""A command was refused for what it holds: that ends a step, and shows no bug."""

ENDS_THE_COORDINATOR = (
    CoordinatorClosed,
    CorruptStore,
    StorageFull,
    StoreBusy,
    StoreClosed,
    StoreDetached,
    StorePoisoned,
    StoreUnavailable,
)
"""No saga can go on: the store is out of order, or who watches is."""

_BREATHER_SECONDS = 0.05


def breather(chance: float) -> float:
    """Give the seconds to wait when a command met too many conflicts.

    Args:
        chance: A draw from 0 to 1, so that those who met don't meet again.
    """
    return _BREATHER_SECONDS * (1 + chance)


MAXIMUM_OUTAGES = 10
"""Outages in a row, in about half a minute, after which a saga is blocked."""

_BLOCKED_SECONDS = 15.0
_MAXIMUM_BLOCKED_SECONDS = 300.0
_MAXIMUM_PAUSE_SECONDS = 5.0
_MAXIMUM_DOUBLINGS = 10


def pause_after(outages: int, chance: float) -> float:
    """Return the seconds to wait before code is called again that the system stopped.

    Args:
        outages: The number of outages in a row.
        chance: A draw from 0 to 1, so that those who met don't meet again.
    """
    growth = 2.0 ** min(outages - 1, _MAXIMUM_DOUBLINGS)
    full: float = min(_BREATHER_SECONDS * growth, _MAXIMUM_PAUSE_SECONDS)
    return full * (1 + chance)


def pause_while_blocked(times: int, chance: float) -> float:
    """Return the seconds after which code of a blocked saga is called again.

    Args:
        times: How often in a row an outage has blocked the saga.
        chance: A draw from 0 to 1, so that those who met don't meet again.
    """
    growth = 2.0 ** min(times - 1, _MAXIMUM_DOUBLINGS)
    full: float = min(_BLOCKED_SECONDS * growth, _MAXIMUM_BLOCKED_SECONDS)
    return full * (1 + chance)
