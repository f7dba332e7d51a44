"""The classes of exceptions that show a bug in a step's own code."""

from __future__ import annotations

from typing import cast

from eventbraid.errors import InvalidArgument
from eventbraid.saga._text import shown_argument

DEFECTS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    StopAsyncIteration,
    StopIteration,
    SyntaxError,
    TypeError,
)
"""The exceptions of actions and compensations that count as defects by default."""


def check_defects(
    defects: tuple[type[BaseException], ...],
) -> tuple[type[BaseException], ...]:
    """Return the argument if it is a tuple of exception classes.

    Raises:
        InvalidArgument: The argument isn't such a tuple.
    """
    if not _are_exception_classes(defects):
        raise InvalidArgument(
            "defects", shown_argument(defects), "a tuple of exception classes"
        )
    return defects


def _are_exception_classes(given: object) -> bool:
    if not isinstance(given, tuple):
        return False
    return all(map(_is_exception_class, cast("tuple[object, ...]", given)))


def _is_exception_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
