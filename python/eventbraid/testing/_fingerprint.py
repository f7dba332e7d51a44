"""A comparable description of a value, which shows whether the value has changed.

`==` is not enough: the description of a value is made before a function runs, and
compared with that of the same object afterwards.
"""

from __future__ import annotations

import enum
import functools
import types
from collections import defaultdict, deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, cast

_PLAIN = (bool, int, complex, str, bytes, bytearray)
_SEQUENCES = (list, tuple, deque)
_BY_IDENTITY = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def fingerprint(value: object) -> object:
    """Return a description that is equal for values of equal content.

    It covers the members of collections and the attributes of objects, each with its
    type. An object without attributes, such as a `Decimal`, is described by its `repr`,
    and one that has only the standard `repr`, by its type.
    """
    return _describe(value, {})


def _describe(value: Any, seen: dict[int, int]) -> object:
    kind: type[object] = type(cast("object", value))
    if value is None or kind in _PLAIN:
        return kind, value
    if isinstance(value, enum.Enum):
        return kind, value.name
    if isinstance(value, _BY_IDENTITY):
        return kind, id(value)
    if id(value) in seen:
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    parts = [*_plain_value(value), *_members(value, seen)]
    parts += [(name, _describe(held, seen)) for name, held in _attributes(value)]
    if not parts and kind.__repr__ is not cast("Any", object.__repr__):
        parts.append(repr(value))
    return kind, *parts


def _plain_value(value: object) -> list[object]:
    """Return the value of a class that derives from a built-in one, such as `Money`."""
    for base in _PLAIN:
        if isinstance(value, base):
            return [cast("Any", base)(value)]
    return []


def _members(value: object, seen: dict[int, int]) -> list[object]:
    if isinstance(value, Mapping):
        entries = _entries(cast("Mapping[object, object]", value))
        described = [
            (_describe(key, seen), _describe(one, seen)) for key, one in entries
        ]
        return [sorted(described, key=repr)]
    if isinstance(value, _SEQUENCES):
        return [[_describe(one, seen) for one in cast("list[object]", value)]]
    if isinstance(value, AbstractSet):
        members = cast("set[object]", value)
        return [sorted((_describe(one, seen) for one in members), key=repr)]
    return []


def _entries(value: Mapping[object, object]) -> list[tuple[object, object]]:
    """Return the entries of a mapping; of a `defaultdict`, those that aren't defaults.

    A `defaultdict` adds an entry when a missing key is read, which is no change.
    """
    factory = getattr(value, "default_factory", None)
    if not isinstance(value, defaultdict) or factory is None:
        return list(value.items())
    default = fingerprint(factory())
    return [(key, one) for key, one in value.items() if fingerprint(one) != default]


def _attributes(value: object) -> list[tuple[str, object]]:
    """Return the attributes of an instance, those in slots included."""
    kind: type = type(value)
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        for name, member in vars(base).items():
            is_slot = isinstance(member, types.MemberDescriptorType)
            # What a class in C keeps in its members is no state of the application.
            if is_slot and base.__flags__ & _HEAP_TYPE and hasattr(value, name):
                found[name] = getattr(value, name)
    # A cached property adds its value at the first use, which is no change.
    found |= {
        name: held
        for name, held in getattr(value, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    return list(found.items())


_HEAP_TYPE = 1 << 9
"""The flag of classes that are created at run time, as by a `class` statement."""
