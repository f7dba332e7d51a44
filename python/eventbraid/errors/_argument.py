"""The errors of arguments, which all layers raise."""

from __future__ import annotations

from eventbraid.errors._base import EventbraidError


class InvalidArgument(EventbraidError, ValueError):
    """An argument is invalid. Nothing was written.

    Attributes:
        what: The name of the argument, such as ``"idempotency key"``.
        value: Its value, shortened.
        reason: The reason why the value is invalid.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([])
        ...     except eb.errors.InvalidArgument as error:
        ...         print(isinstance(error, ValueError))
        True
    """

    def __init__(self, what: str, value: str, reason: str) -> None:
        """Build the error from the argument, its value and the reason."""
        self.what = what
        self.value = value
        self.reason = reason
        super().__init__(f"invalid {what} {value!r}: {reason}")


class LimitExceeded(InvalidArgument):
    """A size or a number is above its limit. Nothing was written.

    Attributes:
        actual: The size or number.
        limit: The limit.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([("account-a", "opened", bytes(9 * 2**20))])
        ...     except eb.errors.LimitExceeded as error:
        ...         print(error.actual > error.limit)
        True
    """

    def __init__(self, what: str, actual: int, limit: int) -> None:
        """Build the error from the argument, its size and the limit."""
        self.actual = actual
        self.limit = limit
        super().__init__(what, str(actual), f"the limit is {limit}")
        subject = what.removeprefix("the ")
        self.message = f"the {subject} exceed the limit of {limit}: {actual}"
