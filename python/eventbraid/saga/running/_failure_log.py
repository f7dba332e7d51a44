"""The log message of an attempt that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid._logging import SAGA

if TYPE_CHECKING:
    from eventbraid.saga._defect_classification import Where
    from eventbraid.saga.definition._context import StepContext, StepFailure


def log_failure(
    context: StepContext[Any],
    where: Where,
    failure: StepFailure,
    error: BaseException | None = None,
) -> None:
    """Log an attempt that failed.

    Args:
        context: The context that was passed to the attempt.
        where: The kind of the function that failed.
        failure: The failure.
        error: The exception that the attempt raised; None if it raised none.
    """
    text = "%s of step %r of saga %r failed in attempt %d: %s"
    values = where, context.step, context.saga_id, context.attempt, failure
    try:
        SAGA.warning(text, *values, exc_info=error)
    except RecursionError:
        # A handler formats an exception group recursively, which fails for a group
        # with many levels. Log the failure without its traceback.
        SAGA.warning(text, *values)
