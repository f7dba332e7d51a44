"""From an annotation to its schema."""

from __future__ import annotations

import enum
import types
import typing
from typing import (
    Annotated,
    Any,
    Final,
    ForwardRef,
    Literal,
    LiteralString,
    TypeVar,
    cast,
)

import msgspec

from eventbraid.domain._annotation import (
    alias_of,
    alternatives,
    has_fields,
    has_foreign_alias,
    is_model,
    resolved_bound,
)
from eventbraid.domain._container_schema import CONTAINERS, Array, FixedTuple, Map
from eventbraid.domain._id import Id
from eventbraid.domain._int import Int
from eventbraid.domain._model_schema import ModelRecord
from eventbraid.domain._record_schema import (
    FieldsRecord,
    NamedTupleRecord,
    TypedDictRecord,
)
from eventbraid.domain._scalar_schema import (
    ATOMS,
    Absent,
    AnyKey,
    Anything,
    Atom,
    Bounded,
    Foreign,
    Member,
    Named,
    OneOf,
    RawJson,
)
from eventbraid.domain._text import Text
from eventbraid.domain._union_schema import Choice

if typing.TYPE_CHECKING:
    from eventbraid.domain._schema import Schema


class _Builder:
    """Builds the schemas of one root, each class once, so that classes may recur."""

    def __init__(self) -> None:
        self._records: dict[object, Schema] = {}
        self._aliases: set[int] = set()

    def build(self, annotation: object) -> Schema:
        alias = alias_of(annotation)
        if alias is None:
            return self._build(annotation)
        if id(alias) in self._aliases:
            return Foreign(
                annotation,
                "it is an alias that refers to itself; use a class with fields, or "
                "typing.Any for plain JSON",
            )
        self._aliases.add(id(alias))
        try:
            return self._build(annotation)
        finally:
            self._aliases.discard(id(alias))

    def _build(self, annotation: object) -> Schema:
        options = alternatives(annotation)
        if len(options) == 1:
            built = self._one(options[0])
        else:
            built = self._union(annotation, options)
        if has_foreign_alias(annotation):
            built.is_renamed = True
        return built

    def _one(self, option: object) -> Schema:
        if isinstance(option, TypeVar):
            return self._variable(option)
        origin: object = typing.get_origin(option)
        if origin is Annotated:
            return Bounded(option, self.build(typing.get_args(option)[0]))
        if origin is Literal:
            return OneOf(option)
        if option is LiteralString:
            built = Atom(str)
            built.is_renamed = True
            return built
        return self._class(option, origin or option)

    def _union(self, annotation: object, options: tuple[object, ...]) -> Schema:
        if Any in options:
            return Anything(Any)
        options = tuple(dict.fromkeys(options))
        literals = [one for one in options if typing.get_origin(one) is Literal]
        if len(literals) > 1:
            listed = tuple(value for one in literals for value in typing.get_args(one))
            others = tuple(one for one in options if one not in literals)
            return self._union(annotation, (*others, Literal[listed]))
        built = [self.build(option) for option in options]
        return built[0] if len(built) == 1 else Choice(annotation, built)

    def _variable(self, variable: TypeVar) -> Schema:
        """A type variable that nothing was given for holds what its bound allows."""
        if variable.__constraints__:
            built = self.build(typing.Union[variable.__constraints__])  # noqa: UP007
            built.is_renamed = True
            return built
        if variable.__bound__ is None:
            return self.build(Any)
        bound = resolved_bound(variable)
        built = self.build(bound)
        built.is_renamed = built.is_renamed or bound is not variable.__bound__
        return built

    def _class(self, option: object, found: object) -> Schema:
        if option is None:
            return Atom(types.NoneType)
        if option is Any:
            return Anything(option)
        if option is Final:
            return Foreign(option, "Final alone names no type; write Final[int]")
        if isinstance(option, str | ForwardRef):
            return Foreign(
                option,
                "it is an alias that refers to itself, or a name in quotes that can't "
                "be resolved; use a class with fields, or typing.Any for plain JSON",
            )
        if not isinstance(found, type) or found is object:
            return Foreign(
                option,
                "it says nothing about what is stored; annotate typing.Any for plain "
                "JSON, or the class that is meant",
            )
        kind = cast("type[object]", found)
        if kind in CONTAINERS:
            return self._container(option, kind)
        if kind in ATOMS:
            return Atom(kind)
        if kind is msgspec.Raw:
            return RawJson(kind)
        if kind is msgspec.UnsetType:
            return Absent(kind)
        return self._own_kind(kind) or self._record(option, kind)

    def _own_kind(self, kind: type) -> Schema | None:
        if issubclass(kind, enum.Enum):
            return Member(kind)
        return Named(kind) if issubclass(kind, Int | Id | Text) else None

    def _container(self, option: object, origin: type) -> Schema:
        arguments: tuple[object, ...] = typing.get_args(option)
        members = [self.build(one) for one in arguments if one is not Ellipsis]
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return FixedTuple(option, members)
        if origin is tuple and option is not tuple and not arguments:
            return FixedTuple(option, [])  # tuple[()]
        while len(members) < 2:  # noqa: PLR2004 - a key and a member
            members.append(Anything(Any))
        if _derives(origin, typing.Mapping):
            key, member = members
            return Map(
                option, origin, AnyKey() if isinstance(key, Anything) else key, member
            )
        return Array(option, origin, members[0])

    def _record(self, option: object, kind: type) -> Schema:
        key = option
        if key in self._records:
            return self._records[key]
        made = self._new_record(option, kind)
        self._records[key] = made
        return made

    def _new_record(self, option: object, kind: type) -> Schema:
        arguments: tuple[object, ...] = typing.get_args(option)
        if is_model(kind):
            return ModelRecord(option, kind, self.build)
        if has_fields(kind):
            return FieldsRecord(option, kind, arguments, self.build)
        if _derives(kind, tuple) and hasattr(kind, "_fields"):
            return NamedTupleRecord(option, kind, arguments, self.build)
        if typing.is_typeddict(kind):
            return TypedDictRecord(option, kind, arguments, self.build)
        return Foreign(
            option,
            f"JSON has no counterpart of {kind.__name__}; use a class made with "
            "@eb.value_object, a dataclass, a Struct, a pydantic model or a built-in "
            "type",
        )


def _derives(kind: type, base: type) -> bool:
    return issubclass(kind, base)


def schema_of(annotation: object) -> Schema:
    """Build the schema of an annotation.

    Raises:
        Unresolved: A name in an annotation means nothing at run time. Classes inside
            of it are resolved at the first use.
    """
    return _Builder().build(annotation)
