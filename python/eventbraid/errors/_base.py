"""The base of all errors, and helpers for their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAXIMUM_LISTED = 8
"""The maximum number of streams that a message lists."""

_MAXIMUM_SHOWN = 200

State: TypeAlias = tuple[object, ...]
"""The arguments from which `restore` builds an error."""


class EventbraidError(Exception):
    """The base of all errors that Eventbraid raises.

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
        """Build the error from its text."""
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        """Return the text; the `OSError` among the bases would return another one."""
        return self.message

    def __reduce__(self) -> tuple[Callable[..., object], State]:
        """Pickle the attributes, because each subclass has another constructor."""
        return restore, (type(self), self.args, dict(self.__dict__))


_Error = TypeVar("_Error", bound=EventbraidError)


def restore(
    kind: type[_Error], args: tuple[object, ...], facts: Mapping[str, object]
) -> _Error:
    """Build an unpickled or copied error, without a call of its constructor."""
    error = kind.__new__(kind)
    error.args = args
    for name, value in facts.items():
        setattr(error, name, value)
    return error


def short_repr(value: object) -> str:
    """Return the `repr` of a value, shortened; a replacement if `repr` raises."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the rejection must be raised, not this error
        return f"<{type(value).__name__}, whose repr() raises {type(error).__name__}>"
    return text if len(text) <= _MAXIMUM_SHOWN else f"{text[: _MAXIMUM_SHOWN - 1]}…"
