"""One attempt of an external call: bounded in time, with an outcome of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

from eventbraid._logging import SAGA
from eventbraid.errors import CommandRejected
from eventbraid.saga._cancellation import (
    Host,
    current_task,
    drop_cancellation_requests,
)
from eventbraid.saga._defect import (
    Bug,
    is_defect,
    raise_if_it_ends_the_program,
)
from eventbraid.saga._text import shortened
from eventbraid.saga.definition._context import Done, Doubt, StepFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from eventbraid.saga._defect import Where
    from eventbraid.saga.definition._context import StepContext
    from eventbraid.saga.definition._retry import Retry

R = TypeVar("R")

_MAXIMUM_CODE = 200
_MAXIMUM_TEXT = 500

Attempted: TypeAlias = Done[R] | StepFailure | Bug
"""The outcome of an attempt."""

_CANCELLED = "the call was cancelled from inside, by itself or with what it waited for"


async def attempted(
    call: Callable[[], Awaitable[R]],
    context: StepContext[Any],
    where: Where,
    *,
    retry: Retry,
    timeout: timedelta,
    defects: tuple[type[BaseException], ...],
    host: Host,
) -> Attempted[R]:
    """Make a call and return its outcome.

    The end of an attempt is only its own: a cancellation that the call brings upon its
    own task, and an exception outside of `Exception`, are outcomes like any other.

    Args:
        call: Makes the call.
        context: What the call was given, for the log.
        where: The function that is called, for the log.
        retry: Decides which exceptions prove that nothing happened.
        timeout: The time that the call may take.
        defects: The exceptions that show a bug in the call.
        host: Decides whether a cancellation comes from outside.

    Raises:
        KeyboardInterrupt: The call was interrupted; the coordinator ends.
        SystemExit: The call ends the program; the coordinator ends.
    """
    task = current_task()
    # Requests to cancel the task from before the call are not the call's own.
    requests = 0 if task is None else task.cancelling()
    outcome: Attempted[R]
    try:
        with anyio.move_on_after(timeout.total_seconds()):
            try:
                answer = await call()
            except anyio.get_cancelled_exc_class():
                # The time-out above, or the end of the coordinator.
                if host.is_cancelled:
                    raise
                await drop_cancellation_requests(requests)
                outcome = StepFailure("CancelledError", _CANCELLED, doubt="lost")
                log_failure(context, where, outcome)
                return outcome
            if task is not None and task.cancelling() > requests:
                # The call cancelled its own task and returned all the same. Left
                # pending, that request would cancel the record of the answer.
                await drop_cancellation_requests(requests)
            return Done(answer)
    except anyio.get_cancelled_exc_class():
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is recorded
        if not host.is_cancelled:
            # A group may hold a cancellation that the call brought upon its own task.
            await drop_cancellation_requests(requests)
        raise_if_it_ends_the_program(error)
        if not retry.proves_failure(error) and is_defect(error, defects):
            return Bug(error)
        outcome = failure_of(error, retry)
        log_failure(context, where, outcome, error)
        return outcome
    outcome = StepFailure("timeout", f"no answer within {timeout}", doubt="timeout")
    log_failure(context, where, outcome)
    return outcome


def log_failure(
    context: StepContext[Any],
    where: Where,
    failure: StepFailure,
    error: BaseException | None = None,
) -> None:
    """Log an attempt that failed.

    Args:
        context: What the attempt was given.
        where: The function that failed.
        failure: What is known of the attempt.
        error: What it raised, if it did.
    """
    text = "%s of step %r of saga %r failed in attempt %d: %s"
    values = where, context.step, context.saga_id, context.attempt, failure
    try:
        SAGA.warning(text, *values, exc_info=error)
    except RecursionError:
        # A handler formats a group recursively, and raises this error alone.
        SAGA.warning(text, *values)


def failure_of(error: BaseException, retry: Retry) -> StepFailure:
    """Return what is known after an attempt raised an exception."""
    doubt = None if retry.proves_failure(error) else _doubt_of(error)
    return StepFailure(type(error).__name__, _shortened(error), doubt=doubt)


def refusal_of(error: Exception) -> StepFailure:
    """Return what is known after a command wasn't committed: nothing happened."""
    if isinstance(error, CommandRejected):
        code = shortened(error.code, _MAXIMUM_CODE)
        return StepFailure(code, _shortened(error.message), error.facts)
    return StepFailure(type(error).__name__, _shortened(error))


def _doubt_of(error: BaseException) -> Doubt:
    return "timeout" if isinstance(error, TimeoutError) else "lost"


def _shortened(text: object) -> str:
    return shortened(text, _MAXIMUM_TEXT)
