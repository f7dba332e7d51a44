"""Which classes orjson writes exactly as msgspec reads them."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Annotated, Literal

from eventbraid.domain._annotation import alternatives, bare, field_types
from eventbraid.domain._id import Id
from eventbraid.domain._int import Int
from eventbraid.domain._text import Text

_SCALARS = frozenset({bool, float, int, str, types.NoneType})
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1


def is_plain_class(kind: type, seen: frozenset[type] = frozenset()) -> bool:
    """Tell whether all that a dataclass holds is plain.

    orjson leaves out fields that begin with an underscore and writes what a cached
    property has left behind, so classes with either are not plain.
    """
    if kind in seen:
        return True
    if not dataclasses.is_dataclass(kind) or _has_cached_property(kind):
        return False
    seen |= {kind}
    return all(
        not field.startswith("_") and _is_plain(annotation, seen)
        for field, annotation in field_types(kind).items()
    )


def _is_plain(annotation: object, seen: frozenset[type]) -> bool:
    return all(_is_plain_option(option, seen) for option in alternatives(annotation))


def _is_plain_option(option: object, seen: frozenset[type]) -> bool:
    option = bare(option)
    if option is None:
        return True
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is Annotated:
        return _is_plain(arguments[0], seen)
    if origin is Literal:
        return all(type(value) in _SCALARS for value in arguments)
    if origin in {tuple, list}:
        return all(
            argument is Ellipsis or _is_plain(argument, seen) for argument in arguments
        )
    if origin is dict:
        key, member = arguments
        return bare(key) is str and _is_plain(member, seen)
    return isinstance(option, type) and (
        option in _SCALARS or _is_plain_value(option) or is_plain_class(option, seen)
    )


def _is_plain_value(kind: type) -> bool:
    if issubclass(kind, Int):
        return kind.lowest >= _LOWEST and kind.highest <= _HIGHEST
    return issubclass(kind, Id | Text)


def _has_cached_property(kind: type) -> bool:
    return any(
        isinstance(member, functools.cached_property)
        for base in kind.__mro__
        for member in vars(base).values()
    )
