"""Decides whether a state is immutable, so that it can be shared and used again."""

from __future__ import annotations

import dataclasses
import functools
from datetime import date, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import repeat
from types import NoneType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID
from weakref import WeakSet

from eventbraid.domain import Id, Int, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ATOMS = (
    *(NoneType, bool, int, float, complex, str, bytes),
    *(Decimal, UUID, date, time, timedelta, timezone),
)

_MUTABLE: list[object] = []


def _is_always_immutable(kind: type) -> bool:
    return issubclass(kind, (Int, Id, Text)) or (
        issubclass(kind, _ATOMS) and not kind.__dictoffset__
    )


is_always_immutable: Callable[[object], bool] = functools.cache(_is_always_immutable)
"""Return whether every instance of a class is immutable, such as each `int`.

It is so for a built-in type of values, for its subclasses without attributes, and for
domain values, which have no attributes of their own.
"""


def is_immutable(value: object) -> bool:
    """Return whether no part of a value can be changed.

    A frozen dataclass is immutable only if all values in it are. A value of an unknown
    type counts as mutable, unless ``copy.deepcopy`` returns the value itself.
    """
    # A loop and not a recursion: a state may be nested as deeply as it has events, for
    # example a linked list of them.
    left: list[object] = [value]
    while left:
        one = left.pop()
        if isinstance(one, _ATOMS):
            if getattr(one, "__dict__", None):
                return False
        elif isinstance(one, tuple | frozenset):
            members = cast("Iterable[object]", one)
            if hasattr(members, "__dict__"):
                return False
            left += members
        elif not isinstance(one, Enum):
            fields = _frozen_fields(type(one))
            if fields is None:
                if not _copies_to_itself(one):
                    return False
                continue
            # An attribute that isn't a field, for example a cached property, may be
            # mutable. A field without a value counts as mutable, too.
            if not fields.issuperset(getattr(one, "__dict__", ())):
                return False
            left.extend(map(getattr, repeat(one), fields, repeat(_MUTABLE)))
    return True


_copied_kinds: WeakSet[type] = WeakSet()
"""The classes of which an instance was copied to another object. They aren't tried
again: a copy of a large state takes long, and the cache makes one of its own."""


def _copies_to_itself(value: object) -> bool:
    """Return whether the ``__deepcopy__`` of a class returns the same object.

    Classes of immutable collections define it so.
    """
    kind = type(value)
    copier: Any = getattr(kind, "__deepcopy__", None)
    if copier is None or kind in _copied_kinds:
        return False
    try:
        is_same = copier(value, {}) is value
    except Exception:  # noqa: BLE001 - whatever the value's class raises
        # It can't be copied, so each command has to fold a state of its own.
        is_same = False
    if not is_same:
        _copied_kinds.add(kind)
    return is_same


def _fields_if_frozen(kind: type) -> frozenset[str] | None:
    record: Any = kind
    if dataclasses.is_dataclass(kind):
        frozen, names = record.__dataclass_params__.frozen, record.__dataclass_fields__
    elif hasattr(record, "__struct_config__"):
        frozen, names = record.__struct_config__.frozen, record.__struct_fields__
    else:
        return None
    return frozenset(names) if frozen else None


# Cached, because the state after each event is examined.
_frozen_fields: Callable[[type], frozenset[str] | None] = functools.cache(
    _fields_if_frozen
)
"""Return the fields of a frozen dataclass or Struct; `None` for any other type."""
