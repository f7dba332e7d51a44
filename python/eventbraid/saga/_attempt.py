"""One attempt of an external call: bounded in time, ending in one of three ways."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, TypeVar

import anyio

from eventbraid.errors import CommandRejected
from eventbraid.saga._context import Done, Doubt, StepFailure
from eventbraid.saga._text import shortened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from eventbraid.saga._retry import Retry

R = TypeVar("R")

_MAXIMUM_CODE = 200
_MAXIMUM_TEXT = 500
_INNER = "something that the call waited for was cancelled"


async def attempted(
    call: Callable[[], Awaitable[R]],
    retry: Retry,
    timeout: timedelta,
    *,
    shield: bool = False,
) -> Done[R] | StepFailure:
    """Make a call and say how it ended.

    Args:
        call: Makes the call.
        retry: Knows which exceptions prove that nothing happened.
        timeout: The time that the call may take.
        shield: Whether a cancellation from outside waits until the call has ended.
    """
    try:
        with anyio.move_on_after(timeout.total_seconds(), shield=shield):
            try:
                return Done(await call())
            except anyio.get_cancelled_exc_class():
                if _is_cancelled():
                    raise
                return StepFailure("CancelledError", _INNER, doubt="lost")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded
        return failure_of(error, retry)
    return StepFailure("timeout", f"no answer within {timeout}", doubt="timeout")


def _is_cancelled() -> bool:
    """Whether the task itself is being cancelled.

    On asyncio a call that waits for a task which somebody cancelled raises the same
    exception, and a task group would take it for its own cancellation.
    """
    if anyio.current_effective_deadline() == -math.inf:
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True  # On trio it is always the task itself.
    return task is not None and task.cancelling() > 0


def failure_of(error: Exception, retry: Retry) -> StepFailure:
    """Say what is known after an attempt raised an exception."""
    doubt = None if retry.proves_failure(error) else _doubt_of(error)
    return StepFailure(type(error).__name__, _shortened(error), doubt=doubt)


def refusal_of(error: Exception) -> StepFailure:
    """Say what is known after a command wasn't committed: nothing happened."""
    if isinstance(error, CommandRejected):
        code = shortened(error.code, _MAXIMUM_CODE)
        return StepFailure(code, _shortened(error.message), error.facts)
    return StepFailure(type(error).__name__, _shortened(error))


def _doubt_of(error: Exception) -> Doubt:
    return "timeout" if isinstance(error, TimeoutError) else "lost"


def _shortened(text: object) -> str:
    return shortened(text, _MAXIMUM_TEXT)
