"""What the annotations of a class say, resolved at run time."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import operator
import sys
import types
import typing
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    cast,
)

import msgspec

from eventbraid.domain._local_names import local_names
from eventbraid.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_MARKS = ("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__")


class Alias(Protocol):
    """`type X = ...`, from Python 3.12 on."""

    __value__: object
    __type_params__: tuple[object, ...]


class Unresolved(InvalidArgument, TypeError):
    """A name in an annotation means nothing at run time, or not yet."""

    def __init__(self, kind: type, error: NameError) -> None:
        """Name the class, and what its annotation refers to."""
        super().__init__(
            "annotation",
            kind.__qualname__,
            f"it can't be resolved ({error}); import what it names outside of "
            "`if TYPE_CHECKING`, and define it in the module, or in the function that "
            "defines the class and is still running",
        )


class Fields(NamedTuple):
    """The types of a class's fields.

    Attributes:
        types: The type of each field.
        is_own: Whether a type was found that msgspec doesn't find by itself, such as
            `Self`, or a class that a function defines.
    """

    types: dict[str, object]
    is_own: bool


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
    return resolved_fields(cls, arguments).types


def resolved_fields(cls: type, arguments: tuple[object, ...] = ()) -> Fields:
    """Return the type of each field, and how it was found.

    Args:
        cls: The class: a dataclass, a Struct, an attrs class, a NamedTuple or a
            TypedDict.
        arguments: Its type arguments, if it is a generic class that was given any.

    Raises:
        Unresolved: A name in an annotation means nothing at run time.
    """
    names = [name for name in field_names(cls) if not is_descriptor(cls, name)]
    bindings: dict[type, _Binding] = {}
    _bind(cls, arguments, bindings)
    this = cast("Any", cls)[arguments] if arguments else cls
    hints: dict[str, object] = {}
    is_own = False
    for base in reversed(cls.__mro__):
        found = _resolved(base, names)
        bound = bindings.get(base, {})
        for name, annotation in found.types.items():
            typed = with_self(annotation, this)
            is_own = is_own or found.is_own or typed is not annotation
            hints[name] = substituted(typed, bound)
    old = _types_of_old_attributes(cls, hints)
    hints.update(old)
    return Fields(
        {name: hints[name] for name in names if name in hints},
        is_own=is_own or bool(old),
    )


def _types_of_old_attributes(
    cls: type, hints: Mapping[str, object]
) -> dict[str, object]:
    """Return the types that ``attr.ib(type=...)`` has, in place of annotations."""
    attributes: Iterable[types.SimpleNamespace] = getattr(cls, "__attrs_attrs__", ())
    return {
        attribute.name: Any if attribute.type is None else attribute.type
        for attribute in attributes
        if attribute.name not in hints
    }


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


def with_self(annotation: object, this: object) -> object:
    """Return an annotation in which `Self` is replaced by the class itself."""
    if annotation is Self:
        return this
    arguments = typing.get_args(annotation)
    origin: Any = typing.get_origin(annotation)
    if not arguments or origin is Literal:
        return annotation
    found = tuple(with_self(one, this) for one in arguments)
    if all(map(operator.is_, found, arguments)):
        return annotation
    if origin is Annotated:
        extras: tuple[object, ...] = cast("Any", annotation).__metadata__
        return cast("Any", Annotated)[(found[0], *extras)]
    if origin is types.UnionType:
        return cast("Any", Union)[found]
    return origin[found]


def _resolved(base: type, names: Iterable[str]) -> Fields:
    """Resolve the annotations that one class of the hierarchy has for these fields."""
    module = sys.modules.get(base.__module__)
    known = dict(vars(module)) if module else {}
    # While a class is defined, its module doesn't have it yet, or has an older one.
    if "." not in base.__qualname__:
        known[base.__name__] = base
    try:
        written: dict[str, object] = inspect.get_annotations(base)
        wanted = {name: written[name] for name in names if name in written}
        if not wanted:
            return Fields({}, is_own=False)
        local = local_names(base, wanted.values())
        # The annotations of a class: those of another object can't be Final.
        holder = type(base.__name__, (), {"__annotations__": wanted})
        # The module's names go before the class's: a default may hide its own type.
        hints = typing.get_type_hints(
            holder,
            globalns=dict(vars(base)),
            localns=known | local,
            include_extras=True,
        )
    except NameError as error:
        raise Unresolved(base, error) from error
    return Fields(hints, is_own=bool(local))


def resolved_hints(cls: type, arguments: tuple[object, ...] = ()) -> Fields:
    """Return the types of the fields of a NamedTuple or of the keys of a TypedDict.

    Args:
        cls: The class.
        arguments: Its type arguments, if it is a generic class that was given any.

    Raises:
        Unresolved: A name in an annotation means nothing at run time.
    """
    bindings: dict[type, _Binding] = {}
    _bind(cls, arguments, bindings)
    bound = {name: one for found in bindings.values() for name, one in found.items()}
    this = cast("Any", cls)[arguments] if arguments else cls
    try:
        local = local_names(cls, inspect.get_annotations(cls).values())
        hints = typing.get_type_hints(cls, localns=local or None, include_extras=True)
    except NameError as error:
        raise Unresolved(cls, error) from error
    found = {name: with_self(held, this) for name, held in hints.items()}
    is_own = any(found[name] is not held for name, held in hints.items())
    return Fields(
        {name: substituted(held, bound) for name, held in found.items()},
        is_own=is_own or bool(local) or bool(arguments),
    )


def resolved_bound(variable: TypeVar) -> object:
    """Return the bound of a type variable, which may be a name in quotes."""
    module = sys.modules.get(variable.__module__)
    written = {"bound": variable.__bound__}
    holder = type(variable.__name__, (), {"__annotations__": written})
    try:
        hints = typing.get_type_hints(
            holder, globalns=vars(module) if module else {}, include_extras=True
        )
    except NameError as error:
        raise Unresolved(holder, error) from error
    found: object = hints["bound"]
    return found


def is_descriptor(cls: type, name: str) -> bool:
    """Return whether a class's attribute decides what its instances hold."""
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
        elif (alias := alias_of(annotation)) is not None:
            given = typing.get_args(annotation)
            bound = dict(zip(alias.__type_params__, given, strict=False))
            annotation = substituted(alias.__value__, bound)
        else:
            return annotation


def alias_of(annotation: object) -> Alias | None:
    """Return the alias that an annotation is, with or without type arguments."""
    for one in (annotation, typing.get_origin(annotation)):
        if type(one).__name__ == "TypeAliasType":
            return cast("Alias", one)
    return None


def has_foreign_alias(annotation: object) -> bool:
    """Return whether an annotation contains an alias that msgspec doesn't resolve.

    It resolves ``type X = ...`` of Python 3.12, without type arguments.
    """
    if alias_of(annotation) is not None:
        return type(annotation).__module__ != "typing"
    arguments = typing.get_args(annotation)
    if isinstance(annotation, typing.NewType):
        return has_foreign_alias(annotation.__supertype__)
    if typing.get_origin(annotation) in {Final, Annotated}:
        return has_foreign_alias(arguments[0])
    if typing.get_origin(annotation) in {Union, types.UnionType}:
        return any(map(has_foreign_alias, arguments))
    return False


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
    if origin is Literal:
        return f"Literal[{', '.join(map(_literal_name, arguments))}]"
    if origin is not None and arguments:
        inside = ", ".join(
            "..." if argument is Ellipsis else name_of(argument)
            for argument in arguments
        )
        return f"{name_of(origin)}[{inside}]"
    if option is None or option is types.NoneType:
        return "None"
    return option.__name__ if isinstance(option, type) else repr(option)


def _literal_name(value: object) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    return repr(value)
