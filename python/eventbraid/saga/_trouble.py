"""Which errors speak of the store or the saga, and not of the step at hand."""

from __future__ import annotations

from eventbraid.errors import (
    CorruptStore,
    DeadlineExceeded,
    InvalidTransition,
    OutcomeUnknown,
    RetriesExhausted,
    SagaParked,
    StorageFull,
    StoreClosed,
    StorePoisoned,
    StoreUnavailable,
    VersionConflict,
)

NOT_ABOUT_THE_STEP = (
    CorruptStore,
    DeadlineExceeded,
    InvalidTransition,
    OutcomeUnknown,
    RetriesExhausted,
    SagaParked,
    StorageFull,
    StoreClosed,
    StorePoisoned,
    StoreUnavailable,
    VersionConflict,
)
"""Passed on by a step: recording them as its failure would undo a healthy saga."""

STORE_IS_OUT_OF_ORDER = (
    CorruptStore,
    StorageFull,
    StoreClosed,
    StorePoisoned,
    StoreUnavailable,
)
"""Ends the coordinator: no saga can go on."""
