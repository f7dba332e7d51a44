"""Whether a value that was read back is the one that was written."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from eventbraid.domain._annotation import field_names, has_fields, is_model

if TYPE_CHECKING:
    from collections.abc import Iterable

_MISSING = object()


def is_same(one: object, other: object) -> bool:
    """Return whether two values are of the same type and hold the same.

    Values with fields are compared field by field, because their class may have no
    equality, or one of its own.
    """
    kind = type(one)
    if kind is not type(other):
        return False
    if is_model(kind):
        return _have_same(_model_fields(kind), one, other) and is_same(
            getattr(one, "__pydantic_extra__", None),
            getattr(other, "__pydantic_extra__", None),
        )
    if has_fields(kind):
        return _have_same(field_names(kind), one, other)
    if isinstance(one, list | tuple):
        items, others = cast("list[object]", one), cast("list[object]", other)
        return len(items) == len(others) and all(map(is_same, items, others))
    if isinstance(one, dict):
        entries = cast("dict[object, object]", one)
        more = cast("dict[object, object]", other)
        return entries.keys() == more.keys() and all(
            is_same(item, more[key]) for key, item in entries.items()
        )
    if isinstance(one, float | Decimal):
        return str(one) == str(other)  # Minus zero and trailing zeros count.
    return bool(one == other)


def _model_fields(kind: Any) -> Iterable[str]:
    names: Iterable[str] = kind.__pydantic_fields__
    return names


def _have_same(names: Iterable[str], one: object, other: object) -> bool:
    return all(
        is_same(getattr(one, name, _MISSING), getattr(other, name, _MISSING))
        for name in names
    )
