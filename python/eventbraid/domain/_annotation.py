"""What the annotations of a class say, resolved at run time."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    cast,
)

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_MARKS = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__")


class _Alias(Protocol):
    """`type X = ...`, from Python 3.12 on."""

    __value__: object


class Unresolved(TypeError):
    """A name in an annotation means nothing at run time, or not yet."""


def field_types(cls: type, arguments: tuple[object, ...] = ()) -> dict[str, object]:
    """Return the type of each field of a dataclass, Struct or attrs class.

    Fields that are descriptors are left out: they judge what they are given
    themselves, so nobody has to be able to resolve their annotations.

    Args:
        cls: The class.
        arguments: Its type arguments, if it is a generic class that was given any.

    Raises:
        Unresolved: A name in an annotation means nothing at run time.
    """
    names = [name for name in field_names(cls) if not _is_descriptor(cls, name)]
    bindings: dict[type, _Binding] = {}
    _bind(cls, arguments, bindings)
    hints: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        bound = bindings.get(base, {})
        for name, annotation in _resolved(base, names).items():
            hints[name] = substituted(annotation, bound)
    return {name: hints[name] for name in names if name in hints}


_Binding: TypeAlias = "dict[object, object]"


def _bind(
    cls: type, arguments: tuple[object, ...], found: dict[type, _Binding]
) -> None:
    """Find out which types the type variables of a class and its bases stand for."""
    parameters: tuple[object, ...] = getattr(cls, "__parameters__", ())
    bound = found[cls] = dict(zip(parameters, arguments, strict=False))
    bases: tuple[object, ...] = vars(cls).get("__orig_bases__", ())
    for base in bases:
        origin = typing.get_origin(base)
        if isinstance(origin, type) and origin is not typing.Generic:
            given: tuple[object, ...] = typing.get_args(base)
            _bind(origin, tuple(substituted(one, bound) for one in given), found)


def substituted(annotation: object, bound: Mapping[object, object]) -> object:
    """Return an annotation with its type variables replaced."""
    if isinstance(annotation, TypeVar):
        return bound.get(annotation, annotation)
    parameters: tuple[object, ...] = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type) or not bound:
        return annotation
    return cast("Any", annotation)[tuple(bound.get(one, one) for one in parameters)]


def _resolved(base: type, names: Iterable[str]) -> dict[str, object]:
    """Resolve the annotations that one class of the hierarchy has for these fields."""
    module = sys.modules.get(base.__module__)
    known = dict(vars(module)) if module else {}
    # While a class is defined, its module doesn't have it yet, or has an older one.
    if "." not in base.__qualname__:
        known[base.__name__] = base
    try:
        written: dict[str, object] = inspect.get_annotations(base)
        wanted = {name: written[name] for name in names if name in written}
        # The module's names go before the class's: a default may hide its own type.
        return typing.get_type_hints(
            types.SimpleNamespace(__annotations__=wanted),
            globalns=dict(vars(base)),
            localns=known,
            include_extras=True,
        )
    except NameError as error:
        raise Unresolved(
            f"an annotation of {base.__name__} can't be resolved ({error}); import "
            "what it names outside of `if TYPE_CHECKING`, and define it in the module"
        ) from error


def _is_descriptor(cls: type, name: str) -> bool:
    member = inspect.getattr_static(cls, name, None)
    # A slot is a descriptor too, but it judges nothing.
    return hasattr(member, "__set__") and not inspect.ismemberdescriptor(member)


def has_fields(cls: type) -> bool:
    """Return whether the class is a dataclass, a Struct or an attrs class."""
    return any(hasattr(cls, mark) for mark in _MARKS)


def is_model(cls: type) -> bool:
    """Return whether the class is a model or a dataclass of pydantic's."""
    return hasattr(cls, "__pydantic_validator__")


def field_names(cls: type) -> Iterable[str]:
    """Return the names of the fields of a dataclass, Struct or attrs class."""
    struct_fields: tuple[str, ...] | None = getattr(cls, "__struct_fields__", None)
    if struct_fields is not None:
        return struct_fields
    attributes: Iterable[types.SimpleNamespace] = getattr(cls, "__attrs_attrs__", ())
    if attributes:
        return [attribute.name for attribute in attributes]
    return [field.name for field in dataclasses.fields(cast("Any", cls))]


def bare(annotation: object) -> object:
    """Take off what says nothing about values: aliases, Final, most of Annotated."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is Final or (origin is Annotated and not is_bounded(annotation)):
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = cast("_Alias", annotation).__value__
        else:
            return annotation


def is_bounded(annotation: object) -> bool:
    """Return whether msgspec would check more than the type: ``Meta(ge=0)``."""
    extras: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    return any(isinstance(extra, msgspec.Meta) for extra in extras)


def is_defined_again(known: type, kind: type) -> bool:
    """Return whether both are one class, whose definition was run twice."""
    return (
        (known.__module__, known.__qualname__) == (kind.__module__, kind.__qualname__)
        and known is not kind
        and "<locals>" not in kind.__qualname__
    )


def alternatives(annotation: object) -> tuple[object, ...]:
    """Return the members of a union, or the one type that it is."""
    annotation = bare(annotation)
    if typing.get_origin(annotation) not in {Union, types.UnionType}:
        return (annotation,)
    return tuple(
        option
        for member in typing.get_args(annotation)
        for option in alternatives(member)
    )


def name_of(annotation: object) -> str:
    """Format an annotation as its author wrote it, without module names."""
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
