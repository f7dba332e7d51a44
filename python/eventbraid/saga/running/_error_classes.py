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
"""No saga can be driven further: the store fails, or the observer does."""
