"""The error of domain values."""

from __future__ import annotations

from eventbraid.errors._base import EventbraidError


class InvalidValue(EventbraidError, ValueError):
    """A value violates the rule of its class, so no object was created.

    Attributes:
        type: The name of the value's class, or ``event.field``.
        value: The `repr` of the value, shortened.
        bound: The rule.
        remedy: The remedy.

    Example:
        >>> import eventbraid as eb
        >>> raise eb.InvalidValue("Money", "-1", "it must be >= 0", "give 0")
        Traceback (most recent call last):
        eventbraid.errors.InvalidValue: -1 is not a valid Money: it must be >= 0; give 0
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the attribute has this name in all errors
        value: str,
        bound: str,
        remedy: str,
    ) -> None:
        """Build the error from the class, the value, the rule and the remedy."""
        self.type = type
        self.value = value
        self.bound = bound
        self.remedy = remedy
        super().__init__(f"{value} is not a valid {type}: {bound}; {remedy}")
