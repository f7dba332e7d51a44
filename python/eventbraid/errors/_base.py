"""The root of the errors, and what their messages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAXIMUM_LISTED = 8
"""The maximum number of streams that a message lists."""

_MAXIMUM_SHOWN = 200

State: TypeAlias = tuple[object, ...]
"""What an error is restored from."""


class EventbraidError(Exception):
    """The root of all errors raised by Eventbraid.

    Attributes:
        message: The text of the error.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([])
        ...     except eb.EventbraidError as error:
        ...         print(type(error).__name__)
        InvalidArgument
    """

    def __init__(self, message: str) -> None:
        """Make an error with a text for the reader."""
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        """Return the text, whatever else a built-in base class would print."""
        return self.message

    def __reduce__(self) -> tuple[Callable[..., object], State]:
        """Restore by attributes, because subclasses have constructors of their own."""
        return restore, (type(self), self.args, dict(self.__dict__))


_Error = TypeVar("_Error", bound=EventbraidError)


def restore(
    kind: type[_Error], args: tuple[object, ...], facts: Mapping[str, object]
) -> _Error:
    """Make an unpickled error without calling its constructor."""
    error = kind.__new__(kind)
    error.args = args
    for name, value in facts.items():
        setattr(error, name, value)
    return error


def short_repr(value: object) -> str:
    """Return the short form of a value, also of one that can't give its own."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the rule said no, whatever it looked at
        return f"<{type(value).__name__}, whose repr() raises {type(error).__name__}>"
    return text if len(text) <= _MAXIMUM_SHOWN else f"{text[: _MAXIMUM_SHOWN - 1]}…"
