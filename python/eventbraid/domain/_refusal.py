"""How a value that breaks its rule is refused, in one wording for all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.errors import InvalidValue

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

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
    """Give a value with its type, for operands: `Quantity(2)`, `1 (int)`."""
    name = type(value).__name__
    text = shown(value)
    return text if text.startswith(f"{name}(") else f"{text} ({name})"


def pydantic_schema(kind: type, plain: type[int | str]) -> CoreSchema:
    """Give pydantic's view of a value class: itself in Python, its base in JSON."""
    from pydantic_core import core_schema  # noqa: PLC0415 - an optional dependency

    base = (
        core_schema.int_schema(strict=True)
        if plain is int
        else core_schema.str_schema(strict=True)
    )
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_after_validator_function(kind, base),
        python_schema=core_schema.is_instance_schema(kind),
        serialization=core_schema.plain_serializer_function_ser_schema(plain),
    )
