"""The JSON Schema of an event class: what its bodies look like, for people and checks.

It is built from the same schema that encoding and decoding use, so that the two can't
differ. The form is that of JSON Schema, draft 2020-12, with these further keywords:

    x-tag        the tag of a member of a union
    x-prefix     the prefix of an id
    x-fields     the names of the members of an array
    x-time-zone  whether a time must have a zone
    x-type       the name of a type that has no JSON Schema
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import types
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from eventbraid.domain._annotation import Unresolved
from eventbraid.domain._container_schema import Array, FixedTuple, Map
from eventbraid.domain._id import Id
from eventbraid.domain._int import HIGHEST, LOWEST, Int
from eventbraid.domain._model_schema import ModelRecord
from eventbraid.domain._record_schema import (
    FieldsRecord,
    NamedTupleRecord,
    Record,
    TypedDictRecord,
)
from eventbraid.domain._scalar_schema import (
    Absent,
    Anything,
    Atom,
    Bounded,
    Member,
    Named,
    OneOf,
    RawJson,
)
from eventbraid.domain._schema_builder import schema_of
from eventbraid.domain._union_schema import Choice
from eventbraid.errors import InvalidEventType
from eventbraid.event._wire import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.domain._schema import Schema
    from eventbraid.domain._text import Text

JsonSchema: TypeAlias = "dict[str, Any]"

DEFINITIONS = "#/$defs/"
"""The beginning of a reference to the schema of a nested class."""

_MISSING = object()


class SchemaWriter:
    """Writes the JSON Schemas of classes; nested classes are definitions of their own.

    Attributes:
        definitions: The schemas of the nested classes, by their names.
    """

    def __init__(self) -> None:
        """Begin without definitions."""
        self.definitions: dict[str, JsonSchema] = {}
        self._names: dict[object, str] = {}

    def of_class(self, kind: type) -> JsonSchema:
        """Return the schema of an event class.

        Raises:
            InvalidEventType: An annotation can't be resolved.
        """
        try:
            return self._record(cast("Record", schema_of(kind)))
        except Unresolved as error:
            raise InvalidEventType(
                "event class", kind.__qualname__, str(error)
            ) from error

    def of_schema(self, schema: Schema) -> JsonSchema:
        """Return the schema of any value that can be encoded."""
        return self._of(schema)

    def _of(self, schema: Schema) -> JsonSchema:
        if isinstance(schema, Record):
            return self._reference(schema)
        if isinstance(schema, Choice):
            return self._choice(schema)
        if isinstance(schema, Bounded):
            return _with_bounds(self._of(schema.plain), schema.annotation)
        if isinstance(schema, Array):
            items: JsonSchema = {"type": "array", "items": self._of(schema.member)}
            is_set = schema.kind in {set, frozenset}
            return {**items, "uniqueItems": True} if is_set else items
        if isinstance(schema, FixedTuple):
            return _tuple([self._of(one) for one in schema.members])
        if isinstance(schema, Map):
            return self._map(schema)
        return _scalar(schema)

    def _map(self, schema: Map) -> JsonSchema:
        if schema.is_pairs:
            pair = _tuple([self._of(schema.key), self._of(schema.member)])
            return {"type": "array", "items": pair, "uniqueItems": True}
        found: JsonSchema = {"type": "object"}
        key = self._of(schema.key)
        if key != {"type": "string"}:
            found["propertyNames"] = key
        return {**found, "additionalProperties": self._of(schema.member)}

    def _choice(self, schema: Choice) -> JsonSchema:
        tags = {id(record): tag for tag, record in schema.tags().items()}
        options: list[JsonSchema] = []
        for option in schema.options:
            if isinstance(option, Absent):
                continue  # The field may be missing, which its default says.
            found = self._of(option)
            if schema.is_tagged and id(option) in tags:
                found = {"x-tag": tags[id(option)], **found}
            options.append(found)
        if len(options) == 1:
            return options[0]
        # The order of a union has no meaning.
        return {"anyOf": sorted(options, key=_text)}

    def _reference(self, record: Record) -> JsonSchema:
        key = _key_of(record)
        if key not in self._names:
            name = self._free_name(record)
            self._names[key] = name
            # Set before the fields are looked at: a class may contain itself.
            self.definitions[name] = {}
            self.definitions[name] = self._record(record)
        return {"$ref": DEFINITIONS + self._names[key]}

    def _free_name(self, record: Record) -> str:
        if record.name not in self.definitions:
            return record.name
        full_name = f"{record.kind.__module__}.{record.name}"
        found, number = full_name, 2
        while found in self.definitions:
            found, number = f"{full_name}-{number}", number + 1
        return found

    def _record(self, record: Record) -> JsonSchema:
        if isinstance(record, ModelRecord):
            return self._model(record)
        defaults = _defaults_of(record)
        fields = [
            (name, _with_default(self._of(held), defaults.get(name, _MISSING)))
            for name, held in record.fields
        ]
        if record.json == frozenset({"array"}):
            needed = sum(name not in defaults for name, _ in fields)
            found = _tuple([held for _, held in fields], needed)
            return {**found, "x-fields": [name for name, _ in fields]}
        encoded = _encoded_names(record.kind)
        properties = {encoded.get(name, name): held for name, held in fields}
        required = [
            encoded.get(name, name) for name, _ in fields if name not in defaults
        ]
        tag = _native_tag(record)
        return {"type": "object", "properties": {**tag, **properties}} | (
            {"required": required} if required else {}
        )

    def _model(self, record: ModelRecord) -> JsonSchema:
        found = _model_schema(record.annotation)
        names = {
            name: f"{record.name}.{name}" if name in self.definitions else name
            for name in found.pop("$defs", {})
        }
        renamed = _renamed(_model_schema(record.annotation), names)
        self.definitions.update(
            {names[name]: held for name, held in renamed.pop("$defs", {}).items()}
        )
        return renamed


def _scalar(schema: Schema) -> JsonSchema:
    if isinstance(schema, Atom):
        return dict(_ATOMS.get(schema.kind, {"x-type": schema.name}))
    if isinstance(schema, Named):
        return {"title": schema.name, **_named(schema.kind)}
    if isinstance(schema, Member):
        values = [schema.written(one) for one in schema.kind]
        return {"title": schema.name, "enum": _sorted(values)}
    if isinstance(schema, OneOf):
        return {"enum": _sorted(map(schema.written, schema.values))}
    if isinstance(schema, Anything | RawJson):
        return {}
    return {"x-type": schema.name}


_ATOMS: dict[type, JsonSchema] = {
    types.NoneType: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    bytearray: {"type": "string", "contentEncoding": "base64"},
    Decimal: {"type": "string", "format": "decimal"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    dt.timedelta: {"type": "string", "format": "duration"},
}


def _named(kind: type[Int | Id | Text]) -> JsonSchema:
    if issubclass(kind, Int):
        found: JsonSchema = {"type": "integer"}
        if kind.lowest != LOWEST:
            found["minimum"] = kind.lowest
        if kind.highest != HIGHEST:
            found["maximum"] = kind.highest
        return found
    if issubclass(kind, Id):
        return {"type": "string", "format": "id", "x-prefix": kind.prefix}
    text: Any = kind
    found = {"type": "string", "minLength": text._shortest}  # noqa: SLF001 - of the library
    if text._longest is not None:  # noqa: SLF001 - as above
        found["maxLength"] = text._longest  # noqa: SLF001 - as above
    if text._form is not None:  # noqa: SLF001 - as above
        found["pattern"] = text._form.pattern  # noqa: SLF001 - as above
    return found


def _with_bounds(plain: JsonSchema, annotation: object) -> JsonSchema:
    """Add the bounds of msgspec to the schema of a type."""
    lengths = _LENGTHS.get(plain.get("type", ""), _LENGTHS["string"])
    found = dict(plain)
    metadata: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    for one in metadata:
        if isinstance(one, msgspec.Meta):
            for name, keyword in (*_BOUNDS, *lengths):
                bound: object = getattr(one, name)
                if bound is not None:
                    found[keyword] = bound
    return found


_BOUNDS = (
    ("ge", "minimum"),
    ("gt", "exclusiveMinimum"),
    ("le", "maximum"),
    ("lt", "exclusiveMaximum"),
    ("multiple_of", "multipleOf"),
    ("pattern", "pattern"),
    ("tz", "x-time-zone"),
)
_LENGTHS = {
    "string": (("min_length", "minLength"), ("max_length", "maxLength")),
    "array": (("min_length", "minItems"), ("max_length", "maxItems")),
    "object": (("min_length", "minProperties"), ("max_length", "maxProperties")),
}


def _tuple(members: list[JsonSchema], needed: int | None = None) -> JsonSchema:
    found: JsonSchema = {"type": "array", "prefixItems": members, "items": False}
    if needed is not None and needed != len(members):
        found["minItems"] = needed
    return found


def _key_of(record: Record) -> object:
    """Return what is equal for the same class with the same type arguments."""
    arguments = getattr(record, "arguments", ())
    return (record.kind, arguments)


def _native_tag(record: Record) -> JsonSchema:
    config: Any = getattr(record.kind, "__struct_config__", None)
    if config is None or config.tag is None:
        return {}
    return {config.tag_field: {"const": config.tag}}


def _encoded_names(kind: type) -> dict[str, str]:
    names: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    encoded: tuple[str, ...] = getattr(kind, "__struct_encode_fields__", ())
    return dict(zip(names, encoded, strict=True))


def _defaults_of(record: Record) -> dict[str, object]:
    """Return the fields that may be missing, each with its default if that is known."""
    kind: Any = record.kind
    if isinstance(record, TypedDictRecord):
        names = [name for name, _ in record.fields]
        return {name: _MISSING for name in names if name not in record.required}
    if isinstance(record, NamedTupleRecord):
        return dict(kind._field_defaults)
    if not isinstance(record, FieldsRecord):
        return {}
    if hasattr(kind, "__struct_fields__"):
        return _struct_defaults(kind)
    if hasattr(kind, "__attrs_attrs__"):
        return _attrs_defaults(kind)
    fields: dict[str, dataclasses.Field[object]] = kind.__dataclass_fields__
    return {
        name: _MISSING if field.default is dataclasses.MISSING else field.default
        for name, field in fields.items()
        if field.default is not dataclasses.MISSING
        or field.default_factory is not dataclasses.MISSING
    }


def _struct_defaults(kind: Any) -> dict[str, object]:
    # `msgspec.structs.fields` would resolve the annotations, which it can't do for a
    # class that a function defines.
    defaults: tuple[object, ...] = kind.__struct_defaults__
    fields: tuple[str, ...] = kind.__struct_fields__
    names = fields[len(fields) - len(defaults) :]
    return {
        name: _MISSING if type(default).__name__ == "Factory" else default
        for name, default in zip(names, defaults, strict=True)
        if default is not msgspec.NODEFAULT
    }


def _attrs_defaults(kind: Any) -> dict[str, object]:
    from attrs import NOTHING, Factory  # noqa: PLC0415 - an optional dependency

    factory: Any = Factory
    return {
        attribute.name: _MISSING
        if isinstance(attribute.default, factory)
        else attribute.default
        for attribute in kind.__attrs_attrs__
        if attribute.default is not NOTHING
    }


def _with_default(schema: JsonSchema, default: object) -> JsonSchema:
    """Add a default, with which events without the field are read, if JSON has it."""
    if default is _MISSING or isinstance(default, msgspec.UnsetType):
        return schema
    default = OneOf.written(default)  # A member of an enum may be written by its name.
    try:
        plain = msgspec.json.decode(msgspec.json.encode(default, enc_hook=to_json))
    except (TypeError, ValueError, NotImplementedError):
        return schema
    return {**schema, "default": plain}


def _model_schema(annotation: object) -> JsonSchema:
    from pydantic import TypeAdapter  # noqa: PLC0415 - an optional dependency

    adapter: Any = TypeAdapter(cast("Any", annotation))
    try:
        found: JsonSchema = adapter.json_schema(by_alias=False, mode="validation")
    except Exception:  # noqa: BLE001 - a type of the author's own has no JSON schema
        return {"x-type": getattr(annotation, "__name__", repr(annotation))}
    return _without_notes(found)


def _without_notes(schema: JsonSchema) -> JsonSchema:
    """Remove the descriptions, which change without a change of the schema."""
    return {
        name: _cleaned(name, held)
        for name, held in schema.items()
        if name not in {"title", "description", "examples"}
    }


def _cleaned(name: str, held: object) -> object:
    if isinstance(held, dict):
        members = cast("dict[str, JsonSchema]", held)
        if name in {"properties", "$defs"}:
            return {one: _without_notes(schema) for one, schema in members.items()}
        return members if name in {"default", "const"} else _without_notes(members)
    if isinstance(held, list):
        items = cast("list[JsonSchema]", held)
        is_schemas = name in {"anyOf", "oneOf", "allOf", "prefixItems"}
        return [_without_notes(one) for one in items] if is_schemas else items
    return held


def _renamed(schema: JsonSchema, names: dict[str, str]) -> JsonSchema:
    def rename(held: object) -> object:
        if isinstance(held, dict):
            entries = cast("dict[str, object]", held)
            return {
                name: DEFINITIONS + names.get(one.removeprefix(DEFINITIONS), one)
                if name == "$ref" and isinstance(one, str)
                else rename(one)
                for name, one in entries.items()
            }
        if isinstance(held, list):
            return [rename(one) for one in cast("list[object]", held)]
        return held

    return cast("JsonSchema", rename(schema))


def _sorted(values: Iterable[object]) -> list[object]:
    return sorted(values, key=_text)


@functools.cache
def _encoder() -> json.JSONEncoder:
    return json.JSONEncoder(sort_keys=True, default=str)


def _text(value: object) -> str:
    return _encoder().encode(value)
