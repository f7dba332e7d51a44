"""The type of an action's result, read from its annotation when the saga is built."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from typing import cast

from eventbraid.errors import InvalidSaga


def result_type(action: Callable[..., object], step: str) -> object:
    """Return the type to which a recorded result of the action is decoded.

    Args:
        action: An ``async def``, or a callable annotated to return an awaitable.
        step: The step's name, for the error.

    Raises:
        InvalidSaga: The annotation is missing or can't be resolved.
    """
    function = _annotated(action)
    try:
        returned = _returned(function)
    except NameError as error:
        raise InvalidSaga(
            f"the return annotation of step {step!r} names {error.name!r}, which can't "
            "be found in its module; define the type at module level, or give "
            "`result=` to the step",
            step=step,
        ) from error
    if returned is _MISSING:
        raise InvalidSaga(
            f"the action of step {step!r} has no return annotation, so a recorded "
            "result couldn't be decoded; annotate its return type, or give `result=` "
            "to the step",
            step=step,
        )
    return returned if inspect.iscoroutinefunction(function) else _awaited(returned)


def is_asynchronous(function: Callable[..., object]) -> bool:
    """Return whether a callable is declared to return an awaitable.

    Args:
        function: A function, a partial of one, or an object that can be called.
    """
    inner = _annotated(function)
    if any(_is_coroutine_function(found) for found in (function, inner)):
        return True
    if getattr(inner, "__name__", "") == "<lambda>":
        return True  # A lambda has no annotation. Its result is checked at the call.
    try:
        returned = _returned(inner)
    except NameError:
        return False
    origin = typing.get_origin(returned) or returned
    return inspect.isclass(origin) and issubclass(origin, Awaitable)


def _is_coroutine_function(function: object) -> bool:
    # Before Python 3.12, `AsyncMock` and others have only the attribute.
    return inspect.iscoroutinefunction(function) or hasattr(function, "_is_coroutine")


_MISSING = object()


def _returned(function: Callable[..., object]) -> object:
    """Return the resolved return annotation of a function.

    The other annotations aren't resolved, because they may have names that exist only
    for type checkers.
    """
    written = getattr(function, "__annotations__", {})
    if "return" not in written:
        return _MISSING
    alone = types.SimpleNamespace(__annotations__={"return": written["return"]})
    names: dict[str, object] = getattr(function, "__globals__", {})
    return typing.get_type_hints(alone, globalns=names)["return"]


def _annotated(action: Callable[..., object]) -> Callable[..., object]:
    """Return the function of a callable that has its annotations."""
    while isinstance(action, functools.partial):
        action = action.func
    if inspect.isroutine(action):
        return cast("Callable[..., object]", inspect.unwrap(action))
    return cast("Callable[..., object]", type(action).__call__)


def _awaited(returned: object) -> object:
    """Return ``R`` for ``Awaitable[R]`` and ``Coroutine[..., ..., R]``."""
    if typing.get_origin(returned) in {Awaitable, Coroutine}:
        return typing.get_args(returned)[-1]
    return returned
