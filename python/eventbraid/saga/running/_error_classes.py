"""The errors of a commit, by what they say: about the step, the saga or the store."""

from __future__ import annotations

from eventbraid.errors import (
    AppendError,
    CommandRejected,
    CoordinatorClosed,
    DeadlineExceeded,
    EventDecodeError,
    LeaseError,
    LimitExceeded,
    RetriesExhausted,
    SagaError,
    StoreUnusable,
    UnknownEventType,
)

NOT_ABOUT_THE_STEP = (
    # The store, or the coordinator's right to write to it.
    StoreUnusable,
    AppendError,
    LeaseError,
    SagaError,
    # Events that other programs wrote, and contention with other writers.
    EventDecodeError,
    UnknownEventType,
    DeadlineExceeded,
    RetriesExhausted,
)
"""Errors that aren't a failure of the step.

Recorded as one, they would compensate a healthy saga.
"""

REFUSALS = (CommandRejected, LimitExceeded)
"""A command was refused for its content: the step failed, and there is no bug."""

ENDS_THE_COORDINATOR = (CoordinatorClosed, StoreUnusable)
"""No saga can be driven further: the store fails, or the observer does."""
