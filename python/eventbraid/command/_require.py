"""The check of a business rule in a command."""

from __future__ import annotations

from eventbraid.errors import CommandRejected


def require(
    condition: object, /, code: str, message: str | None = None, **facts: object
) -> None:
    """Reject the command if a condition is false.

    Args:
        condition: The condition of the rule.
        code: The name of the rule, for programs; it should never change.
        message: The text for people; by default built from code and facts.
        **facts: The values that the rule depends on.

    Raises:
        CommandRejected: The condition is false.

    Example:
        >>> import eventbraid as eb
        >>> eb.require(3 >= 5, "too_little", left=3, wanted=5)
        Traceback (most recent call last):
        ...
        eventbraid.errors.CommandRejected: too_little (left=3, wanted=5)
    """
    if not condition:
        raise CommandRejected(code, message, facts)
