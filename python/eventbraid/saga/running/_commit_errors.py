"""The errors of a commit, grouped by what has failed: the step, saga or store."""

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

If such an error were recorded as a failure of the step, a healthy saga would be
compensated.
"""

REFUSALS = (CommandRejected, LimitExceeded)
"""Errors of a command that was refused for its content: they fail the step."""

ENDS_THE_COORDINATOR = (CoordinatorClosed, StoreUnusable)
"""Errors after which no saga can be driven: the store or the observer failed."""
