"""Decides whether a state is immutable, so that it can be shared and used again."""

from __future__ import annotations

import dataclasses
import functools
from datetime import date, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import compress, repeat
from operator import is_not
from types import NoneType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID
from weakref import WeakSet

from eventbraid.domain import Id, Int, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

_ATOMS = (
    *(NoneType, bool, int, float, complex, str, bytes),
    *(Decimal, UUID, date, time, timedelta, timezone),
)

_MUTABLE: list[object] = []

_FEW_MEMBERS = 16
"""The number of members that are examined rather than looked up by identity."""


def _is_always_immutable(kind: type) -> bool:
    return issubclass(kind, (Int, Id, Text)) or (
        issubclass(kind, _ATOMS) and not kind.__dictoffset__
    )


is_always_immutable: Callable[[object], bool] = functools.cache(_is_always_immutable)
"""Return whether every instance of a class is immutable, such as each `int`.

It is so for a built-in type of values, for its subclasses without attributes, and for
domain values, which have no attributes of their own.
"""


def is_immutable(value: object, known: object = None) -> bool:
    """Return whether no part of a value can be changed.

    A frozen dataclass is immutable only if all values in it are. A value of an unknown
    type counts as mutable, unless ``copy.deepcopy`` returns the value itself.

    Args:
        value: The value.
        known: A value that is immutable, usually the state before the last event. The
            objects that both have at the same place, or among the members of one
            collection, aren't examined again: what was immutable still is.
    """
    # A loop and not a recursion: a state may be nested as deeply as it has events, for
    # example a linked list of them.
    left: list[tuple[object, object]] = [(value, known)]
    while left:
        one, same = left.pop()
        if one is same or is_always_immutable(one.__class__) or isinstance(one, Enum):
            continue
        if isinstance(one, _ATOMS):
            if getattr(one, "__dict__", None):
                return False
            continue
        parts = _parts(one, same if type(same) is type(one) else None)
        if parts is None:
            return False
        left += parts
    return True


def _parts(value: object, same: object) -> Iterable[tuple[object, object]] | None:
    """Return the parts of a value, each with a part that is known to be immutable.

    Args:
        value: The value.
        same: A value of the same type that is known to be immutable, or None.

    Returns:
        The pairs; None if the value itself is mutable.
    """
    if isinstance(value, tuple | frozenset):
        members = cast("Collection[object]", value)
        if hasattr(members, "__dict__"):
            return None
        new = members if same is None else _new_members(members, same)
        if all(map(is_always_immutable, set(map(type, new)))):
            return ()
        return zip(new, repeat(None))
    fields = _frozen_fields(type(value))
    if fields is None:
        return () if _copies_to_itself(value) else None
    # An attribute that isn't a field, for example a cached property, may be mutable. A
    # field without a value counts as mutable, too.
    if not fields.issuperset(getattr(value, "__dict__", ())):
        return None
    return zip(
        map(getattr, repeat(value), fields, repeat(_MUTABLE)),
        map(getattr, repeat(same), fields, repeat(None)),
        strict=True,
    )


def _new_members(members: Collection[object], known: object) -> Iterable[object]:
    """Return the members of a collection that another collection lacks, by identity."""
    before = cast("Collection[object]", known)
    if isinstance(members, tuple) and isinstance(before, tuple):
        new = [*compress(members, map(is_not, members, before))]
        new += members[len(before) :]
        if len(new) <= _FEW_MEMBERS:
            # The usual case: some members were appended or replaced.
            return new
        members = new
    identities = set(map(id, before))
    return [one for one in members if id(one) not in identities]


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
