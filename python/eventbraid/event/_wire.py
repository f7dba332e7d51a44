"""Values that neither msgspec nor orjson encodes and decodes by itself.

These are unions whose members need a tag or a hook, and everything around them up to
the root. For decoding, msgspec gets a type in which each of them is replaced by a class
of its own, for which it calls a hook; for encoding, they are turned into what JSON is
made of. What lies around and inside of them stays with msgspec.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Union, cast

import msgspec

from eventbraid.domain import Id, Int, Text
from eventbraid.domain._annotation import is_model
from eventbraid.domain._container_schema import Array, FixedTuple, Map
from eventbraid.domain._model_schema import ModelRecord
from eventbraid.domain._record_schema import (
    FieldsRecord,
    NamedTupleRecord,
    Record,
    TypedDictRecord,
)
from eventbraid.domain._scalar_schema import (
    Anything,
    Atom,
    Bounded,
    Member,
    Named,
    OneOf,
)
from eventbraid.domain._schema import reachable
from eventbraid.domain._union_schema import TAG, Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.domain._schema import Schema

    Convert = Callable[[Any], Any]


def to_json(value: object) -> object:
    """Encode a domain value as what it is made of."""
    if isinstance(value, Int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if is_model(type(value)):
        return ModelRecord(type(value), type(value), _no_member).dump(value)
    raise NotImplementedError(f"{type(value).__qualname__} can't be stored as JSON")


def _no_member(_: object) -> Schema:
    raise NotImplementedError


def from_json(kind: type, value: object) -> object:
    """Decode a domain value, or refuse."""
    bounds = _whole_numbers.get(kind)
    if bounds and type(value) is int and bounds[0] <= value <= bounds[1]:
        # As the constructor does, but without its call.
        return _new_number(kind, value)
    make = _makers.get(kind)
    if make is None:
        if issubclass(kind, Int) and kind.__new__ is Int.__new__:
            _whole_numbers[kind] = kind.lowest, kind.highest
        if not issubclass(kind, Int | Id | Text):
            raise NotImplementedError(f"{kind.__qualname__} can't be read from JSON")
        make = _makers[kind] = cast("Convert", kind)
    return make(value)


_makers: dict[type, Convert] = {}

_new_number: Callable[[Any, int], object] = int.__new__

_whole_numbers: dict[Any, tuple[int, int]] = {}
"""The bounds of the classes of `Int` that have its constructor."""


class Wire:
    """How the values of one root are written and read.

    Args:
        schema: The root.
        sorts: Whether sets are written in one order, so that equal values give equal
            JSON in each process. msgspec sorts members by ``<``, which doesn't order
            all of them: of two sets, neither may be less, and enums have no order. How
            a set iterates depends on the process. Such sets need a hook, too.
        sorts_all: Whether all sets are sorted here, and not only those that msgspec
            doesn't put into one order.
    """

    def __init__(
        self, schema: Schema, *, sorts: bool = False, sorts_all: bool = False
    ) -> None:
        """Find out which schemas need a hook."""
        self._sorts = sorts
        self._marked = _marked(schema, sorts=sorts, sorts_all=sorts_all)
        self._writers: dict[int, Convert] = {}
        self._types: dict[int, object] = {}
        # The ids of schemas are keys, so the schemas must live as long.
        self._root = schema

    @property
    def is_native(self) -> bool:
        """Whether msgspec encodes and decodes the root by itself."""
        return id(self._root) not in self._marked

    def problem(self) -> tuple[str, str] | None:
        """Return where and why msgspec can't read something back; None if it can."""
        for path, one in reachable(self._root):
            if isinstance(one, Bounded) and id(one.plain) in self._marked:
                return path, "Meta can't bound what holds a union of values"
        return None

    # --- writing

    def writer(self, schema: Schema) -> Convert | None:
        """Return what turns a value into what JSON is made of; None if nothing has to.

        It takes accepted values only.
        """
        if id(schema) not in self._marked:
            return None
        if id(schema) not in self._writers:
            # A class that holds values of its own kind meets itself here.
            self._writers[id(schema)] = self._later(schema)
            self._writers[id(schema)] = self._new_writer(schema)
        return self._writers[id(schema)]

    def _later(self, schema: Schema) -> Convert:
        def write(value: object) -> object:
            return self._writers[id(schema)](value)

        return write

    def _new_writer(self, schema: Schema) -> Convert:
        if isinstance(schema, Choice):
            return self._choice_writer(schema)
        if isinstance(schema, ModelRecord):
            return schema.dump
        if isinstance(schema, NamedTupleRecord):
            return self._tuple_writer([held for _, held in schema.fields])
        if isinstance(schema, TypedDictRecord):
            named = {name: self._writer_or_same(held) for name, held in schema.fields}
            return lambda value: {k: named[k](v) for k, v in value.items()}
        if isinstance(schema, Record):
            return self._record_writer(schema)
        if isinstance(schema, FixedTuple):
            return self._tuple_writer(schema.members)
        if isinstance(schema, Map):
            return self._map_writer(schema)
        if isinstance(schema, Member | OneOf):
            return schema.written if schema.needs_hook else _same
        if isinstance(schema, Atom | Named):
            return _same
        return self._array_writer(schema)

    def _map_writer(self, schema: Map) -> Convert:
        write_item = self._writer_or_same(schema.member)
        write_key = self._writer_or_same(schema.key)
        if schema.is_pairs:
            sort = by_json if self._sorts else _same
            return lambda value: sort(
                [[write_key(key), write_item(item)] for key, item in value.items()]
            )
        if schema.has_int_kind_keys or not schema.needs_hook:
            return lambda value: {key: write_item(item) for key, item in value.items()}
        return lambda value: {
            _key_text(write_key(key)): write_item(item) for key, item in value.items()
        }

    def _array_writer(self, schema: Schema) -> Convert:
        """Return the writer of an array, or of what only needs one to sort sets."""
        if isinstance(schema, Anything):
            return sorted_sets
        if isinstance(schema, Bounded):
            return self._writer_or_same(schema.plain)
        write_item = self._writer_or_same(cast("Array", schema).member)
        if self._sorts and cast("Array", schema).kind in {set, frozenset}:
            return lambda value: by_json([write_item(item) for item in value])
        return lambda value: [write_item(item) for item in value]

    def _tuple_writer(self, members: list[Schema]) -> Convert:
        writers = [self._writer_or_same(held) for held in members]
        return lambda value: [w(v) for w, v in zip(writers, value, strict=True)]

    def _writer_or_same(self, schema: Schema) -> Convert:
        return self.writer(schema) or _same

    def _record_writer(self, schema: Record, tag: str | None = None) -> Convert:
        names = _encoded_names(schema.kind)
        fields = [
            (name, names.get(name, name), self._writer_or_same(held))
            for name, held in schema.fields
        ]
        start: dict[str, object] = {} if tag is None else {TAG: tag}
        if isinstance(schema, FieldsRecord) and schema.is_array:
            return lambda value: [
                write_field(getattr(value, name)) for name, _, write_field in fields
            ]

        def write(value: object) -> dict[str, object]:
            written = start.copy()
            for name, key, write_field in fields:
                written[key] = write_field(getattr(value, name))
            return written

        return write

    def _choice_writer(self, schema: Choice) -> Convert:
        by_kind: dict[type, Convert] = {}
        tags = schema.tags() if schema.has_tags else {}
        for tag, record in tags.items():
            if isinstance(record, ModelRecord):
                by_kind[record.kind] = _tagged_dump(record, tag)
            else:
                by_kind[record.kind] = self._record_writer(record, tag)
        for record, _ in schema.by_literal():
            if isinstance(record, FieldsRecord):
                # All fields, because a Struct may leave out those with defaults.
                by_kind[record.kind] = self._record_writer(record)
        others = [
            (option.rule(), self._writer_or_same(option))
            for option in schema.options
            if option not in tags.values() and id(option) in self._marked
        ]

        def write(value: object) -> object:
            found = by_kind.get(type(value))
            if found is not None:
                return found(value)
            for rule, write_option in others:
                if rule.allows(value):
                    return write_option(value)
            return value

        return write

    # --- reading

    def type_of(self, schema: Schema) -> object:
        """Return the type that msgspec decodes."""
        if id(schema) not in self._marked:
            return schema.annotation
        if id(schema) not in self._types:
            self._types[id(schema)] = self._new_type(schema)
        return self._types[id(schema)]

    def _new_type(self, schema: Schema) -> object:
        if isinstance(schema, ModelRecord):
            return _hooked(schema, lambda value: schema.decode(_encode(value)))
        if isinstance(schema, Choice):
            return self._choice_type(schema)
        if isinstance(schema, Array):
            return cast("Any", schema.kind)[
                _args(schema.kind, self.type_of(schema.member))
            ]
        if isinstance(schema, FixedTuple):
            return cast("Any", tuple)[
                tuple(self.type_of(one) for one in schema.members)
            ]
        if isinstance(schema, Map):
            return self._map_type(schema)
        if isinstance(schema, Member | OneOf):
            return _hooked(schema, schema.read)
        if not isinstance(schema, Record):
            return schema.annotation
        return _hooked(schema, self._lazily(lambda: self._record_reader(schema)))

    def _lazily(self, make: Callable[[], Convert]) -> Convert:
        made: list[Convert] = []

        def convert(value: object) -> object:
            if not made:
                made.append(make())
            return made[0](value)

        return convert

    def _map_type(self, schema: Map) -> object:
        if not schema.needs_hook:
            key = self.type_of(schema.key)
            return cast("Any", dict)[key, self.type_of(schema.member)]
        if schema.is_pairs:
            return _hooked(schema, self._lazily(lambda: self._pairs_reader(schema)))
        if schema.has_int_kind_keys:
            key_type: object = int
            key_of: Convert = cast("Convert", cast("Named", schema.key).kind)
        else:
            key_type, key_of = str, self._reader(schema.key)

        def make() -> Convert:
            plain = cast("Any", dict)[key_type, self.type_of(schema.member)]
            return lambda value: {
                key_of(key): item for key, item in _convert(value, plain).items()
            }

        return _hooked(schema, self._lazily(make))

    def _pairs_reader(self, schema: Map) -> Convert:
        pair = cast("Any", tuple)[self.type_of(schema.key), self.type_of(schema.member)]
        pairs = cast("Any", list)[pair]
        return lambda value: dict(_convert(value, pairs))

    def _choice_type(self, schema: Choice) -> object:
        options = schema.options
        others = [one for one in options if not _is_none(one)]
        if len(others) == 1:
            return cast("Any", Union)[self.type_of(others[0]), None]
        return _hooked(schema, self._lazily(lambda: self._choice_reader(schema)))

    def _choice_reader(self, schema: Choice) -> Convert:
        readers: dict[type, Convert] = {}
        tags = schema.tags() if schema.has_tags else {}
        for option in schema.options:
            if option not in tags.values():
                read = self._reader(option)
                readers.update({_PYTHON[json]: read for json in option.json})
        if float in readers:
            readers.setdefault(int, readers[float])
        if tags:
            readers[dict] = self._tag_reader(tags)
        if schema.discriminator:
            readers[dict] = self._literal_reader(schema, schema.discriminator)

        def read_any(value: object) -> object:
            found = readers.get(type(value))
            if found is None:
                raise ValueError(
                    f"expected `{schema.name}`, got `{type(value).__name__}`"
                )
            return found(value)

        return read_any

    def _tag_reader(self, tags: dict[str, Record]) -> Convert:
        """Return what reads classes that are written with their tags."""
        by_tag = {tag: self._reader(record) for tag, record in tags.items()}

        def read_tagged(value: dict[str, object]) -> object:
            tag = value.pop(TAG, None)
            found = by_tag.get(tag) if isinstance(tag, str) else None
            if found is None:
                raise ValueError(f"{TAG!r} is {tag!r}, expected one of {list(by_tag)}")
            return found(value)

        return read_tagged

    def _literal_reader(self, schema: Choice, field: str) -> Convert:
        """Return what reads classes that a field distinguishes by its text."""
        by_text: dict[tuple[str, str], Convert] = {}
        for record, texts in schema.by_literal():
            key = _encoded_names(record.kind).get(field, field)
            read = self._reader(record)
            by_text.update({(key, text): read for text in texts})
        keys = {key for key, _ in by_text}

        def read_by_literal(value: dict[str, object]) -> object:
            for key in keys:
                text = value.get(key)
                found = by_text.get((key, text)) if isinstance(text, str) else None
                if found is not None:
                    return found(value)
            texts = [text for _, text in by_text]
            raise ValueError(f"{field!r} must be one of {texts}")

        return read_by_literal

    def _reader(self, schema: Schema) -> Convert:
        kind = self.type_of(schema)
        return lambda value: _convert(value, kind)

    def _record_reader(self, schema: Record) -> Convert:
        if isinstance(schema, TypedDictRecord):
            return self._dict_reader(schema)
        if isinstance(schema, NamedTupleRecord):
            return self._named_tuple_reader(schema)
        mirror, build = self.mirror(cast("FieldsRecord", schema))
        return lambda value: build(_convert(value, mirror))

    def _dict_reader(self, schema: TypedDictRecord) -> Convert:
        required = schema.required
        readers = {name: self._reader(held) for name, held in schema.fields}

        def read(value: object) -> object:
            if not isinstance(value, dict):
                raise ValueError(f"expected `object`, got `{type(value).__name__}`")  # noqa: TRY004
            entries = cast("dict[str, object]", value)
            if not required <= entries.keys():
                raise ValueError(f"missing {sorted(required - entries.keys())}")
            return {
                name: readers[name](item)
                for name, item in entries.items()
                if name in readers
            }

        return read

    def _named_tuple_reader(self, schema: NamedTupleRecord) -> Convert:
        kind: Any = schema.kind
        readers = [self._reader(held) for _, held in schema.fields]

        def read(value: object) -> object:
            if not isinstance(value, list):
                raise ValueError(f"expected `array`, got `{type(value).__name__}`")  # noqa: TRY004
            items = cast("list[object]", value)
            if len(items) > len(readers):
                raise ValueError(f"expected at most {len(readers)} items")
            return kind(*(r(v) for r, v in zip(readers, items, strict=False)))

        return read

    def mirror(self, schema: FieldsRecord) -> tuple[type, Convert]:
        """Return a Struct with the fields of a class, and what makes an instance of it.

        msgspec resolves the annotations of a class by itself; of the Struct, they are
        types that it decodes.
        """
        fields = schema.fields
        names = _encoded_names(schema.kind)
        mirror = msgspec.defstruct(
            f"{schema.kind.__name__}",
            [
                (f"f{number}", self.type_of(held), msgspec.UNSET)
                for number, (_, held) in enumerate(fields)
            ],
            rename={
                f"f{number}": names.get(name, name)
                for number, (name, _) in enumerate(fields)
            },
            array_like=schema.is_array,
            forbid_unknown_fields=_forbids_unknown_fields(schema.kind),
        )
        for name in mirror.__struct_encode_fields__:
            prime(name)
        make = _maker(schema.kind)
        attributes = [(name, f"f{number}") for number, (name, _) in enumerate(fields)]

        def build(found: object) -> object:
            held = {name: getattr(found, attribute) for name, attribute in attributes}
            return make(held)

        return mirror, build


def prime(text: str) -> None:
    """Let a text have its UTF-8 form, with which msgspec compares JSON.

    msgspec reads the form that a str object caches, and a str with a character beyond
    ASCII has none until something in C has asked for it.
    """
    if not text.isascii():
        msgspec.json.encode(text)


def _same(value: object) -> object:
    return value


def _key_text(key: object) -> str:
    """Return a key as the text that JSON has in its place."""
    return cast("str", msgspec.to_builtins(key, enc_hook=to_json))


def _is_none(schema: Schema) -> bool:
    return isinstance(schema, Atom) and schema.json == frozenset({"null"})


def by_json(items: list[Any]) -> list[Any]:
    """Sort the members of a set by their JSON, the one order that all of them have."""
    return sorted(items, key=_sorted_json)


def sorted_sets(value: object) -> object:
    """Return plain JSON with sorted lists in place of the sets inside of it."""
    kind = type(value)
    if kind is dict:
        entries = cast("dict[object, object]", value)
        return {key: sorted_sets(item) for key, item in entries.items()}
    if kind is list or kind is tuple:
        return [sorted_sets(item) for item in cast("list[object]", value)]
    if kind is set or kind is frozenset:
        return by_json([sorted_sets(item) for item in cast("set[object]", value)])
    return value


def is_set(schema: Schema) -> bool:
    """Return whether its values are sets."""
    return isinstance(schema, Array) and schema.kind in {set, frozenset}


def _marked(root: Schema, *, sorts: bool, sorts_all: bool) -> set[int]:
    """Find the schemas that msgspec can't encode or decode by itself."""
    found = {id(one): one for _, one in reachable(root)}
    marked = {
        key
        for key, one in found.items()
        if one.is_renamed
        or _needs_hook(one)
        or (sorts and is_unordered(one))
        or (sorts_all and is_set(one))
    }
    above: dict[int, list[int]] = {}
    for key, one in found.items():
        for _, child in one.children():
            above.setdefault(id(child), []).append(key)
    todo = list(marked)
    while todo:
        for parent in above.get(todo.pop(), ()):
            if parent not in marked:
                marked.add(parent)
                todo.append(parent)
    return marked


def is_unordered(schema: Schema) -> bool:
    """Return whether its values may hold sets that ``<`` doesn't put into one order."""
    if isinstance(schema, Array):
        return schema.kind in {set, frozenset} and not _has_order(schema.member)
    return isinstance(schema, Anything)


def _has_order(schema: Schema) -> bool:
    """Return whether of two unequal values one is always less than the other."""
    if isinstance(schema, Bounded | FixedTuple):
        return all(_has_order(one) for _, one in schema.children())
    return isinstance(schema, Named) or (
        isinstance(schema, Atom) and len(schema.json) == 1 and not _is_none(schema)
    )


def _needs_hook(schema: Schema) -> bool:
    if isinstance(schema, ModelRecord):
        return True
    if not isinstance(schema, Choice):
        return schema.needs_hook
    others = [one for one in schema.options if not _is_none(one)]
    has_custom = len(others) > 1 and any(one.is_custom for one in others)
    return schema.is_tagged or schema.discriminator is not None or has_custom


_PYTHON: dict[str, type] = {
    "null": type(None),
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "array": list,
    "object": dict,
}


class _Hooked(type):
    """A class for which msgspec calls the hook, and takes what that returns."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def _hooked(schema: Schema, convert: Convert) -> type:
    kind = _Hooked(schema.name, (), {})
    _makers[kind] = convert
    return kind


def _args(kind: type, member: object) -> object:
    return (member, ...) if kind is tuple else member


def _convert(value: object, kind: object) -> Any:
    return msgspec.convert(value, cast("Any", kind), dec_hook=from_json, str_keys=True)


_encode = msgspec.json.Encoder().encode
_sorted_json = msgspec.json.Encoder(enc_hook=to_json, order="deterministic").encode


def _tagged_dump(record: ModelRecord, tag: str) -> Convert:
    def write(value: object) -> object:
        return {TAG: tag, **cast("dict[str, object]", record.dump(value))}

    return write


def _encoded_names(kind: type) -> dict[str, str]:
    names: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    encoded: tuple[str, ...] = getattr(kind, "__struct_encode_fields__", ())
    return dict(zip(names, encoded, strict=True))


def _forbids_unknown_fields(kind: type) -> bool:
    config: Any = getattr(kind, "__struct_config__", None)
    return config is not None and bool(config.forbid_unknown_fields)


def _maker(kind: type) -> Convert:
    """Return what makes an instance of the values that were found, as msgspec does."""
    made: Any = kind
    if not hasattr(kind, "__dataclass_fields__"):
        aliases = {one.name: one.alias for one in getattr(made, "__attrs_attrs__", ())}

        def construct(held: dict[str, object]) -> object:
            return made(
                **{
                    aliases.get(name, name): value
                    for name, value in held.items()
                    if value is not msgspec.UNSET
                }
            )

        return construct
    fields: dict[str, dataclasses.Field[object]] = made.__dataclass_fields__

    def assemble(held: dict[str, object]) -> object:
        new = cast("object", made.__new__(made))
        for name, value in held.items():
            object.__setattr__(
                new, name, _default(fields[name]) if value is msgspec.UNSET else value
            )
        post_init = getattr(new, "__post_init__", None)
        if post_init is not None:
            post_init()
        return new

    return assemble


def _default(field: dataclasses.Field[object]) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise ValueError(f"Object missing required field `{field.name}`")
