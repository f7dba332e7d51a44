"""The checks of a step's declaration: its name, its times and its functions."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from eventbraid.errors import InvalidArgument, InvalidSaga
from eventbraid.saga._text import safe_text, shown
from eventbraid.saga.definition._result_type import is_asynchronous
from eventbraid.saga.definition._step_base import SagaStep, StepKind
from eventbraid.store._duration import validate_duration

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S")

_MAXIMUM_NAME_BYTES = 80


def require_name(name: str) -> None:
    """Refuse a name that can't be part of records and keys."""
    # `isprintable` must be checked first: it refuses a lone surrogate, for which
    # `encode` would raise an error.
    text = cast("object", name)
    if not isinstance(text, str) or not text or not text.isprintable():
        raise InvalidSaga(
            f"a step's name is 1 to {_MAXIMUM_NAME_BYTES} bytes of printable text, "
            f"but {shown(text)} is not",
            step=safe_text(text),
        )
    if len(text.encode()) > _MAXIMUM_NAME_BYTES:
        raise InvalidSaga(
            f"a step's name has at most {_MAXIMUM_NAME_BYTES} bytes, but {shown(text)} "
            f"has {len(text.encode())}; use a shorter name",
            step=safe_text(text),
        )


def require_positive(timeout: timedelta, name: str) -> timedelta:
    """Return the timeout, limited to the longest wait that every timer allows."""
    try:
        bounded = validate_duration("timeout", timeout, minimum=timedelta.min)
    except InvalidArgument as error:
        raise InvalidSaga(f"step {name!r}: {error}", step=name) from error
    if timeout <= timedelta():
        raise InvalidSaga(
            f"the timeout of step {name!r} is {timeout}; give it a time above 0",
            step=name,
        )
    return bounded


def require_asynchronous(function: Callable[..., object], what: str, name: str) -> None:
    """Refuse a call that would block the event loop."""
    if not is_asynchronous(function):
        raise InvalidSaga(
            f"the {what} of step {name!r} is {function!r}, which isn't asynchronous; "
            "declare it with `async def`, or annotate it to return an awaitable. If "
            "it is a synchronous command of the saga's own store, use local_step() "
            "instead. If it is another blocking call, run it in a thread: "
            "`await anyio.to_thread.run_sync(...)`",
            step=name,
        )


def require_synchronous(
    name: str, /, **functions: Callable[..., object] | None
) -> None:
    """Refuse a local function that is asynchronous."""
    for what, function in functions.items():
        if function is not None and inspect.iscoroutinefunction(function):
            raise InvalidSaga(
                f"`{what}` of step {name!r} is asynchronous, but it is called between "
                "two commits and must not wait; declare it with `def`, and move the "
                "call that it awaits into the action of a step",
                step=name,
            )


def refuse_compensation_of_retriable(node: SagaStep[S]) -> None:
    """Refuse a compensation of a retriable step, which would never be made."""
    if node.kind is StepKind.RETRIABLE:
        raise InvalidSaga(
            f"step {node.name!r} is retriable: it is past the pivot and is "
            "never compensated; remove its compensation, or make it compensatable",
            step=node.name,
        )
