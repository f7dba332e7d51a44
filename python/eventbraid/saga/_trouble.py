"""Which errors speak of the store or the saga, and not of the step at hand."""

from __future__ import annotations

from eventbraid.errors import (
    CoordinatorClosed,
    CorruptStore,
    DeadlineExceeded,
    DiscoveryLimit,
    EventDecodeError,
    InvalidTransition,
    OutcomeUnknown,
    RetriesExhausted,
    RoleLost,
    SagaParked,
    StorageFull,
    StoreBusy,
    StoreClosed,
    StoreDetached,
    StorePoisoned,
    StoreUnavailable,
    UndeclaredStream,
    UnknownEventType,
    VersionConflict,
)

NOT_ABOUT_THE_STEP = (
    CoordinatorClosed,
    CorruptStore,
    DeadlineExceeded,
    DiscoveryLimit,
    EventDecodeError,
    InvalidTransition,
    OutcomeUnknown,
    RetriesExhausted,
    RoleLost,
    SagaParked,
    StorageFull,
    StoreBusy,
    StoreClosed,
    StoreDetached,
    StorePoisoned,
    StoreUnavailable,
    UndeclaredStream,
    UnknownEventType,
    VersionConflict,
)
"""Passed on by a step: recording them as its failure would undo a healthy saga."""

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
