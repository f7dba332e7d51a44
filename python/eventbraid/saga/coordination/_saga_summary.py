"""The summaries of sagas that a coordinator lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eventbraid.saga.running._clock import time_of_day

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga.machine._progress import Progress, SagaStatus


@dataclass(frozen=True, slots=True)
class SagaSummary:
    """The summary of a saga that has not ended.

    Attributes:
        id: The saga's id.
        saga: The name of its declaration.
        version: The version of its graph.
        status: Its status.
        step: The step that is attempted or compensated, if there is one.
        failure: The reason for its compensation, or why it is stuck or blocked; None if
            there is none.
        blocked: Whether it can't be driven, because no live coordinator has its code,
            or because of a defect in a step.
        overdue: Whether its deadline has passed without a compensation, as for a
            blocked saga, which the deadline doesn't compensate.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.SagaSummary(
        ...     "saga-1", "ship", 1, eb.saga.SagaStatus.RUNNING, "pack", None
        ... ).step
        'pack'
    """

    id: str
    saga: str
    version: int
    status: SagaStatus
    step: str | None
    failure: str | None
    blocked: bool = False
    overdue: bool = False


def summary_of(progress: Progress) -> SagaSummary:
    """Return the summary of a saga of any coordinator."""
    return SagaSummary(
        progress.id,
        progress.saga,
        progress.version,
        progress.status,
        progress.current,
        progress.trouble,
        overdue=is_overdue(progress, time_of_day()),
    )


def blocked_summary_of(progress: Progress, reason: str) -> SagaSummary:
    """Return the summary of a blocked saga."""
    return replace(summary_of(progress), failure=reason, blocked=True)


def is_overdue(progress: Progress, now: datetime) -> bool:
    """Return whether a saga's deadline has passed and it isn't being compensated."""
    if progress.status.ended or progress.compensating or progress.deadline is None:
        return False
    return now >= progress.deadline
