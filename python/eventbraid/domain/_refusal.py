"""How a value that breaks its rule is refused, in one wording for all kinds."""

from __future__ import annotations

from eventbraid.errors import InvalidValue

LONGEST_SHOWN = 80


def refusal(kind: str, value: object, bound: str, remedy: str) -> InvalidValue:
    """Make the error for a value that is no `kind`, because of `bound`."""
    return InvalidValue(kind, shown(value), bound, remedy)


def shown(value: object) -> str:
    """Return a value's repr, cut so that a message stays readable."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the caller reports a worse error
        # Deep nesting, a number of too many digits, or a faulty __repr__.
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    if len(text) <= LONGEST_SHOWN:
        return text
    return f"{text[: LONGEST_SHOWN - 3]}..."


def described(value: object) -> str:
    """Format a value with its type, for operands: `Quantity(2)`, `1 (int)`."""
    name = type(value).__name__
    text = shown(value)
    return text if text.startswith(f"{name}(") else f"{text} ({name})"
