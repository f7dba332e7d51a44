"""Reads the type arguments of a class at run time."""

from __future__ import annotations

import functools
import typing
from types import NoneType
from typing import Any, TypeAlias, TypeVar, cast

from eventbraid.domain._annotation import alternatives

EventKinds: TypeAlias = frozenset[type] | None
"""The classes of a union of events; `None` if they are unknown at run time."""


def type_arguments(cls: type, generic: type) -> tuple[object, ...]:
    """Return the arguments with which a class derives from a generic one.

    Args:
        cls: The class.
        generic: One of its direct or indirect base classes.

    Returns:
        One argument for each parameter; a `TypeVar` if the class doesn't set it. Empty
        if the class derives without arguments.
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
    """Return the classes of a union of events; None if an option isn't a class."""
    options = alternatives(union)
    # From Python 3.11 on, `Any` is a class, too.
    if all(isinstance(option, type) and option is not Any for option in options):
        return frozenset(cast("tuple[type, ...]", options))
    return None


def is_covered(kind: type, kinds: frozenset[type]) -> bool:
    """Return whether a set of classes contains a class or one of its bases."""
    return kind in kinds or any(base in kinds for base in kind.__mro__)


@functools.cache
def has_slots(kind: type) -> bool:
    """Return whether some attributes of the instances of a class have slots.

    Then the attributes aren't all in the instance's ``__dict__``.
    """
    return any(vars(base).get("__slots__") for base in kind.__mro__)


def may_be_none(state: object) -> bool:
    """Return whether None may be a state; True if the state's type isn't a class."""
    return any(
        not isinstance(option, type) or option in {object, NoneType}
        for option in map(_origin, alternatives(state))
    )


def _origin(option: object) -> object:
    return typing.get_origin(option) or option


def _parameters(generic: type) -> tuple[TypeVar, ...]:
    parameters: tuple[TypeVar, ...] = getattr(generic, "__parameters__", ())
    return parameters
