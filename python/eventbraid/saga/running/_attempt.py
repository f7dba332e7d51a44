"""One attempt of an external call: limited in time, with one of three outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

from eventbraid.errors import CommandRejected
from eventbraid.saga._cancellation import (
    Host,
    current_task,
    drop_cancellation_requests,
)
from eventbraid.saga._defect_classification import (
    Bug,
    is_defect,
    raise_if_it_ends_the_program,
)
from eventbraid.saga._text import shortened
from eventbraid.saga.definition._context import Doubt, StepCompleted, StepFailure
from eventbraid.saga.running._failure_log import log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from eventbraid.saga._defect_classification import Where
    from eventbraid.saga.definition._attempt_rules import AttemptRules
    from eventbraid.saga.definition._context import StepContext

R = TypeVar("R")

_MAXIMUM_CODE = 200
_MAXIMUM_TEXT = 500

AttemptOutcome: TypeAlias = StepCompleted[R] | StepFailure | Bug
"""The outcome of an attempt."""

_CANCELLED = "the call was cancelled from inside, by itself or with what it waited for"


async def make_attempt(
    call: Callable[[], Awaitable[R]],
    context: StepContext[Any],
    where: Where,
    *,
    rules: AttemptRules,
    timeout: timedelta,
    defects: tuple[type[BaseException], ...],
    host: Host,
) -> AttemptOutcome[R]:
    """Make a call and return its outcome.

    However the call ends, only the attempt ends, and not the task that made it. This is
    also true if the call cancels its own task, or raises a `BaseException` that isn't
    an `Exception`.

    Args:
        call: Makes the call.
        context: The context that was passed to the call, for the log message.
        where: The kind of the function that is called, for the log message.
        rules: Decide which exceptions prove that the call had no effect.
        timeout: The time that the call may take.
        defects: The exceptions that show a bug in the call.
        host: Decides whether a cancellation comes from outside.

    Raises:
        KeyboardInterrupt: The call was interrupted; the coordinator ends.
        SystemExit: The call ends the program; the coordinator ends.
    """
    task = current_task()
    # The requests to cancel the task that were made before the call. The call has
    # caused only later requests.
    requests = 0 if task is None else task.cancelling()
    outcome: AttemptOutcome[R]
    try:
        with anyio.move_on_after(timeout.total_seconds()):
            try:
                answer = await call()
            except anyio.get_cancelled_exc_class():
                # If the time-out above or the end of the coordinator cancelled the
                # call, raise. Otherwise the call cancelled its own task.
                if host.is_cancelled:
                    raise
                await drop_cancellation_requests(requests)
                outcome = StepFailure("CancelledError", _CANCELLED, doubt="lost")
                log_failure(context, where, outcome)
                return outcome
            if task is not None and task.cancelling() > requests:
                # The call cancelled its own task and returned nevertheless. If that
                # cancellation request stayed pending, it would cancel the append of the
                # result.
                await drop_cancellation_requests(requests)
            return StepCompleted(answer)
    except anyio.get_cancelled_exc_class():
        raise
    except BaseException as error:  # noqa: BLE001 - each exception is recorded
        if not host.is_cancelled:
            # An exception group may contain a cancellation that the call itself has
            # requested for its own task.
            await drop_cancellation_requests(requests)
        raise_if_it_ends_the_program(error)
        if not rules.proves_failure(error) and is_defect(error, defects):
            return Bug(error)
        outcome = failure_of(error, rules)
        log_failure(context, where, outcome, error)
        return outcome
    outcome = StepFailure("timeout", f"no answer within {timeout}", doubt="timeout")
    log_failure(context, where, outcome)
    return outcome


def failure_of(error: BaseException, rules: AttemptRules) -> StepFailure:
    """Return the failure of an attempt that raised an exception."""
    doubt = None if rules.proves_failure(error) else _doubt_of(error)
    return StepFailure(type(error).__name__, _shortened(error), doubt=doubt)


def refusal_of(error: Exception) -> StepFailure:
    """Return the failure of a command that was not committed and had no effect."""
    if isinstance(error, CommandRejected):
        code = shortened(error.code, _MAXIMUM_CODE)
        return StepFailure(code, _shortened(error.message), error.facts)
    return StepFailure(type(error).__name__, _shortened(error))


def _doubt_of(error: BaseException) -> Doubt:
    return "timeout" if isinstance(error, TimeoutError) else "lost"


def _shortened(text: object) -> str:
    return shortened(text, _MAXIMUM_TEXT)
