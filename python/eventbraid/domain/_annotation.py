"""What the annotations of a class say, resolved at run time."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Union, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


_MARKS = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__")


class _Alias(Protocol):
    """`type X = ...`, from Python 3.12 on."""

    __value__: object


def field_types(cls: type) -> dict[str, object]:
    """Give the type of each field of a dataclass, Struct or attrs class.

    Fields that are descriptors are left out: they judge what they are given
    themselves, so nobody has to be able to resolve their annotations.

    Raises:
        TypeError: A name in an annotation means nothing at run time.
    """
    names = [name for name in _field_names(cls) if not _is_descriptor(cls, name)]
    hints: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        hints.update(_resolved(base, names))
    return {name: hints[name] for name in names if name in hints}


def _resolved(base: type, names: Iterable[str]) -> dict[str, object]:
    """Resolve the annotations that one class of the hierarchy has for these fields."""
    module = sys.modules.get(base.__module__)
    try:
        written: dict[str, object] = inspect.get_annotations(base)
        wanted = {name: written[name] for name in names if name in written}
        # The module's names go before the class's: a default may hide its own type.
        return typing.get_type_hints(
            types.SimpleNamespace(__annotations__=wanted),
            globalns=dict(vars(base)),
            localns=vars(module) if module else {},
            include_extras=True,
        )
    except NameError as error:
        raise TypeError(
            f"an annotation of {base.__name__} can't be resolved ({error}); import "
            "what it names outside of `if TYPE_CHECKING`, and define it in the module"
        ) from error


def _is_descriptor(cls: type, name: str) -> bool:
    member = inspect.getattr_static(cls, name, None)
    # A slot is a descriptor too, but it judges nothing.
    return hasattr(member, "__set__") and not inspect.ismemberdescriptor(member)


def has_fields(cls: type) -> bool:
    """Tell whether the class is a dataclass, a Struct or an attrs class."""
    return any(hasattr(cls, mark) for mark in _MARKS)


def _field_names(cls: type) -> Iterable[str]:
    struct_fields: tuple[str, ...] | None = getattr(cls, "__struct_fields__", None)
    if struct_fields is not None:
        return struct_fields
    attributes: Iterable[types.SimpleNamespace] = getattr(cls, "__attrs_attrs__", ())
    if attributes:
        return [attribute.name for attribute in attributes]
    return [field.name for field in dataclasses.fields(cast("Any", cls))]


def bare(annotation: object) -> object:
    """Take off what says nothing about values: aliases, NewType, most of Annotated."""
    while True:
        if typing.get_origin(annotation) is Annotated and not is_bounded(annotation):
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = cast("_Alias", annotation).__value__
        else:
            return annotation


def is_bounded(annotation: object) -> bool:
    """Tell whether msgspec would check more than the type: ``Meta(ge=0)``."""
    extras: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    return any(isinstance(extra, msgspec.Meta) for extra in extras)


def alternatives(annotation: object) -> tuple[object, ...]:
    """Give the members of a union, or the one type that it is."""
    annotation = bare(annotation)
    if typing.get_origin(annotation) not in {Union, types.UnionType}:
        return (annotation,)
    return tuple(
        option
        for member in typing.get_args(annotation)
        for option in alternatives(member)
    )


def name_of(annotation: object) -> str:
    """Give an annotation as its author wrote it, without module names."""
    options = alternatives(annotation)
    if len(options) != 1:
        return " | ".join(name_of(option) for option in options)
    option = options[0]
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is not None and arguments:
        inside = ", ".join(
            "..." if argument is Ellipsis else name_of(argument)
            for argument in arguments
        )
        return f"{name_of(origin)}[{inside}]"
    if option is None or option is types.NoneType:
        return "None"
    return option.__name__ if isinstance(option, type) else repr(option)
