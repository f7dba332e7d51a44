"""Which events can't be changed once they are decoded, so that many may share one."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from eventbraid.domain._annotation import alternatives, bare, field_types

_ATOMS = (
    *(bool, int, float, str, bytes, types.NoneType, enum.Enum),
    *(Decimal, UUID, date, time, timedelta),
)


@functools.cache
def is_frozen_class(kind: type) -> bool:
    """Tell whether a class is frozen, and all that its annotations let it hold.

    For decoded instances only, because decoding has checked the annotations.
    """
    return _is_frozen_record(kind, frozenset())


def is_frozen_type(annotation: object) -> bool:
    """Tell whether all values that an annotation allows can't be changed.

    For decoded values only, as `is_frozen_class`.
    """
    return _is_frozen(annotation, frozenset())


def _is_frozen_record(kind: type, seen: frozenset[type]) -> bool:
    if kind in seen:
        return True
    record: Any = kind
    if dataclasses.is_dataclass(record):
        frozen: bool = cast("Any", record).__dataclass_params__.frozen
    elif hasattr(record, "__struct_config__"):
        frozen = record.__struct_config__.frozen
    else:
        return False
    seen |= {kind}
    return frozen and all(
        _is_frozen(annotation, seen) for annotation in field_types(kind).values()
    )


def _is_frozen(annotation: object, seen: frozenset[type]) -> bool:
    return all(_is_frozen_option(bare(o), seen) for o in alternatives(annotation))


def _is_frozen_option(option: object, seen: frozenset[type]) -> bool:
    origin: object = typing.get_origin(option)
    arguments: tuple[object, ...] = typing.get_args(option)
    if origin is Annotated:
        return _is_frozen(arguments[0], seen)
    if origin is Literal or option is None:
        return True
    if origin is tuple or origin is frozenset:
        return all(a is Ellipsis or _is_frozen(a, seen) for a in arguments)
    if not isinstance(option, type):
        return False
    return _is_atom(option) or _is_frozen_record(option, seen)


def _is_atom(kind: type) -> bool:
    return issubclass(kind, _ATOMS)
