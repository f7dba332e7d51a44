"""The errors of arguments, which every layer raises."""

from __future__ import annotations

from eventbraid.errors._base import EventbraidError


class InvalidArgument(EventbraidError, ValueError):
    """An argument that no store could accept. Nothing was written.

    Attributes:
        what: The thing that is wrong, such as ``"idempotency key"``.
        value: The value, shortened.
        reason: What is wrong with it.

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
        """Name the thing, its value, and what is wrong with it."""
        self.what = what
        self.value = value
        self.reason = reason
        super().__init__(f"invalid {what} {value!r}: {reason}")


class LimitExceeded(InvalidArgument):
    """Something is larger than a store accepts. Nothing was written.

    Attributes:
        actual: The size that was given.
        limit: The largest size that is accepted.

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
        """Name the thing, its size, and the largest size accepted."""
        self.actual = actual
        self.limit = limit
        super().__init__(what, str(actual), f"the limit is {limit}")
        subject = what.removeprefix("the ")
        self.message = f"the {subject} exceed the limit of {limit}: {actual}"
