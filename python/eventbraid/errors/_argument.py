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
        subject = what.removeprefix("the ")
        remedy = _REMEDIES.get(subject, "divide the request")
        super().__init__(what, str(actual), f"the limit is {limit}; {remedy}")
        self.message = (
            f"the {subject} exceed the limit of {limit:,}: {actual:,}; {remedy}"
        )


_DIVIDE = "divide the events among several appends, each with its own idempotency key"
_FURTHER_STORE = "continue in another store"
_REMEDIES = {
    "bytes of an event's data": (
        "store the large part elsewhere and record its address, divide it among "
        "several events, or compress it with a codec (eventbraid.event.use_codec)"
    ),
    "bytes of an event's metadata": "record these facts in the event's data",
    "bytes of a commit": _DIVIDE,
    "bytes of a commit with its directories": _DIVIDE,
    "events of a commit": _DIVIDE,
    "streams of a commit": _DIVIDE,
    "sessions of this store": (
        "close sessions that are not in use, or serve more requests in each process"
    ),
    "streams of a store": _FURTHER_STORE,
    "idempotency keys of a store": _FURTHER_STORE,
    "bytes of postings in the index of a store": _FURTHER_STORE,
    "expectations of a commit": (
        "expect versions only of the streams that the decision depends on, or divide "
        "the append"
    ),
}
