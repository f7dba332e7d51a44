"""What the type arguments of a class say at run time."""

from __future__ import annotations

import typing
from typing import TypeAlias, TypeVar, cast

from eventbraid.domain._annotation import alternatives

EventKinds: TypeAlias = frozenset[type] | None
"""The classes of a union of events; `None` if it can't be known at run time."""


def type_arguments(cls: type, generic: type) -> tuple[object, ...]:
    """Give the arguments with which a class derives from a generic one.

    Args:
        cls: The class.
        generic: One of its bases, at any distance.

    Returns:
        One argument a parameter, a `TypeVar` where it is still open; empty if the
        class gives none.
    """
    bases: tuple[object, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    for base in bases:
        origin = typing.get_origin(base) or base
        arguments: tuple[object, ...] = typing.get_args(base)
        if origin is generic:
            return arguments
        if isinstance(origin, type) and issubclass(origin, generic):
            given = dict(zip(_parameters(origin), arguments, strict=False))
            return tuple(
                given.get(argument, argument)
                if isinstance(argument, TypeVar)
                else argument
                for argument in type_arguments(origin, generic)
            )
    return ()


def event_kinds(union: object) -> EventKinds:
    """Give the classes of a union of events, if all of them are classes."""
    options = alternatives(union)
    if all(isinstance(option, type) for option in options):
        return frozenset(cast("tuple[type, ...]", options))
    return None


def is_covered(kind: type, kinds: frozenset[type]) -> bool:
    """Tell whether events of a class are among these, themselves or by a base."""
    return kind in kinds or any(base in kinds for base in kind.__mro__)


def _parameters(generic: type) -> tuple[TypeVar, ...]:
    parameters: tuple[TypeVar, ...] = getattr(generic, "__parameters__", ())
    return parameters
