"""Value classes in pydantic's models, as in those of FastAPI.

A body that FastAPI has parsed, and a parameter of a path or a query, arrive as plain
Python values: in pydantic's lax mode, a plain value becomes one of the kind. Strict
mode takes instances only. JSON has what the kind is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import CoreSchema


def pydantic_schema(
    kind: type[int | str], base: type[int | str], bounds: dict[str, Any]
) -> CoreSchema:
    """Return pydantic's view of a value class.

    Args:
        kind: The class.
        base: What JSON has of it: int or str.
        bounds: Bounds that pydantic checks as well, for its own messages.
    """
    from pydantic_core import core_schema  # noqa: PLC0415 - an optional dependency

    schema_of = core_schema.int_schema if base is int else core_schema.str_schema
    plain = schema_of(strict=True, **bounds)
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_after_validator_function(kind, plain),
        python_schema=core_schema.lax_or_strict_schema(
            lax_schema=core_schema.no_info_wrap_validator_function(
                _entering(kind, base), schema_of(**bounds)
            ),
            # An instance of a derived kind becomes one of the kind.
            strict_schema=core_schema.no_info_after_validator_function(
                kind, core_schema.is_instance_schema(kind)
            ),
        ),
        serialization=core_schema.plain_serializer_function_ser_schema(
            base, return_schema=schema_of(**bounds), when_used="json"
        ),
    )


def _entering(
    kind: type[int | str], base: type[int | str]
) -> Callable[[object, Callable[[object], object]], object]:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 - optional

    # Numbers come as texts in paths and queries. A bool, a float, or a value of
    # another kind is a mistake, although pydantic would take most of them for a number.
    plain = (int, str) if base is int else (str,)

    def enter(value: object, validate: Callable[[object], object]) -> object:
        make = cast("Callable[[object], object]", kind)
        if isinstance(value, kind):
            return make(value)
        if isinstance(value, bool) or not isinstance(value, plain) or _is_kind(value):
            raise PydanticCustomError(
                "int_type" if base is int else "str_type",
                "Input should be a valid {kind}",
                {"kind": kind.__name__},
            )
        return make(validate(value))

    return enter


def _is_kind(value: object) -> bool:
    return hasattr(type(value), "__get_pydantic_core_schema__")
