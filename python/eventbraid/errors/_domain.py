"""The error of domain values."""

from __future__ import annotations

from eventbraid.errors._base import EventbraidError


class InvalidValue(EventbraidError, ValueError):
    """A domain value broke its own rule, so it was not made.

    Attributes:
        type: The name of the value's class, or ``event.field``.
        value: The refused value, shown and shortened.
        bound: The rule that it breaks.
        remedy: What to do instead.

    Example:
        >>> import eventbraid as eb
        >>> raise eb.InvalidValue("Money", "-1", "it must be >= 0", "give 0")
        Traceback (most recent call last):
        eventbraid.errors.InvalidValue: -1 is not a valid Money: it must be >= 0; give 0
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the fact's name everywhere
        value: str,
        bound: str,
        remedy: str,
    ) -> None:
        """Name the type, the value, the rule, and what to do."""
        self.type = type
        self.value = value
        self.bound = bound
        self.remedy = remedy
        super().__init__(f"{value} is not a valid {type}: {bound}; {remedy}")
