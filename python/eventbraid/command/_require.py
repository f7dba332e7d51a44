"""Business rules."""

from __future__ import annotations

from eventbraid.errors import CommandRejected


def require(
    condition: object, /, code: str, message: str | None = None, **facts: object
) -> None:
    """Reject the command unless a condition holds.

    Args:
        condition: What must be true.
        code: The rule's stable name, for programs.
        message: The text for people; made of code and facts if not given.
        **facts: What the rule looked at.

    Raises:
        CommandRejected: The condition doesn't hold.

    Example:
        >>> import eventbraid as eb
        >>> eb.require(3 >= 5, "too_little", left=3, wanted=5)
        Traceback (most recent call last):
        ...
        eventbraid.errors.CommandRejected: too_little (left=3, wanted=5)
    """
    if not condition:
        raise CommandRejected(code, message, facts)
