"""How a value that breaks its rule is refused, in one wording for all kinds."""

from __future__ import annotations

import re
from typing import cast

from eventbraid.errors import InvalidArgument, InvalidValue

LONGEST_SHOWN = 80
LONGEST_BOUND_BITS = 14_000
"""Some 4,200 decimal digits: Python and msgspec convert no more than 4,300."""


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


def shown_argument(value: object) -> str:
    """Return a value as the text that `InvalidArgument` takes, which puts it in quotes.

    So a text is returned without its own quotes, unlike by `shown`.
    """
    text = str.__str__(value) if isinstance(value, str) else shown(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    return f"{text[: LONGEST_SHOWN - 3]}..."


def check_bound(kind: type, name: str, bound: object, remedy: str) -> int:
    """Return a bound of a kind as a bare `int`.

    A bound that is not a number breaks nothing until a value is compared with it, or is
    never broken at all, as NaN is. One of more digits than Python converts to text can
    be named by no error.

    Raises:
        InvalidArgument: It is not an int, or too long.
    """
    if not isinstance(bound, int) or isinstance(bound, bool):
        raise _invalid_rule(kind, name, bound, f"it must be an int; {remedy}")
    if bound.bit_length() > LONGEST_BOUND_BITS:
        reason = f"it must have at most {LONGEST_BOUND_BITS:,} bits; {remedy}"
        raise _invalid_rule(kind, name, bound, reason)
    return int(bound)


def _invalid_rule(kind: type, name: str, value: object, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{name} of {kind.__name__}", shown_argument(value), reason)


def check_pattern(kind: type, pattern: object) -> re.Pattern[str]:
    """Compile the pattern of a kind.

    Raises:
        InvalidArgument: It is not a regular expression for text.
    """
    remedy = "give a regular expression as str"
    if not isinstance(_text_of(pattern), str):
        raise _invalid_rule(kind, "pattern", pattern, f"it must be a str; {remedy}")
    try:
        return re.compile(cast("str | re.Pattern[str]", pattern))
    except (re.error, OverflowError, RecursionError) as error:
        reason = f"it can't be compiled ({error}); {remedy}"
        raise _invalid_rule(kind, "pattern", pattern, reason) from error


def _text_of(pattern: object) -> object:
    """Return the text of a compiled pattern; anything else as it is."""
    if not isinstance(pattern, re.Pattern):
        return pattern
    compiled = cast("re.Pattern[str] | re.Pattern[bytes]", pattern)
    return compiled.pattern


def described(value: object) -> str:
    """Format a value with its type, for operands: `Quantity(2)`, `1 (int)`."""
    name = type(value).__name__
    text = shown(value)
    return text if text.startswith(f"{name}(") else f"{text} ({name})"
