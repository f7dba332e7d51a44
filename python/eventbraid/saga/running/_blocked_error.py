"""The error for a saga that this program can't drive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.errors import SagaBlocked

if TYPE_CHECKING:
    from eventbraid.saga._defect_classification import Defect
    from eventbraid.saga.machine._progress import Progress

NEEDS_CODE = "needs_code"
"""The prefix of the reason if no live coordinator has the code of a blocked saga."""


def blocked_error(progress: Progress, reason: str) -> SagaBlocked:
    """Return the error for a saga that this program can't drive."""
    return SagaBlocked(progress.id, progress.saga, progress.version, reason)


def unfoldable_error(progress: Progress, defect: Defect) -> SagaBlocked:
    """Return the error for a saga whose results this program can't fold."""
    reason = f"step {defect.step!r} can't be folded ({defect.description})"
    return blocked_error(progress, f"{reason}; correct the program")
