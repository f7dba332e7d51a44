"""Schemas of values with fields: dataclasses, Structs, attrs classes and the like."""

from __future__ import annotations

import copy
import dataclasses
import functools
import typing
from typing import TYPE_CHECKING, Any, cast

from eventbraid.domain._annotation import (
    Fields,
    bare,
    field_names,
    is_descriptor,
    resolved_fields,
    resolved_hints,
)
from eventbraid.domain._post_init import only_reads
from eventbraid.domain._schema import (
    NOTHING,
    Misfit,
    Rule,
    Schema,
    Use,
    inside,
    is_changeable,
)
from eventbraid.domain._tag import tag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eventbraid.domain._schema import Check

    Build = Callable[[object], Schema]

CHECKED = "__eventbraid_checked__"
"""Marks classes that check their fields whenever an instance is made."""

OWN = "__eventbraid_own__"
"""On a checking ``__post_init__``: the class's own one, so that heirs check once."""

_MISSING = object()


class Record(Schema):
    """A class with named fields.

    Its fields are resolved at the first use, because annotations may name classes
    that are defined later, and because a class may hold values of its own kind.
    """

    levels = 1
    tag: str | None = None
    native_tag: object = None

    def __init__(self, annotation: object, kind: type, build: Build) -> None:
        """Find out what kind of class it is."""
        super().__init__(annotation)
        self.kind = kind
        self.build = build
        self.json = frozenset({"object"})

    @functools.cached_property
    def fields(self) -> list[tuple[str, Schema]]:
        """The schemas of its fields, in order."""
        return [(name, self.build(held)) for name, held in self.annotations().items()]

    def annotations(self) -> dict[str, object]:
        """Return the resolved annotations of its fields."""
        raise NotImplementedError

    def literals(self) -> dict[str, frozenset[str]]:
        """Return the fields whose type is a `Literal` of texts, with these texts."""
        found: dict[str, frozenset[str]] = {}
        for name, annotation in self.annotations().items():
            annotation = bare(annotation)  # noqa: PLW2901 - the same, without aliases
            values = typing.get_args(annotation)
            is_literal = typing.get_origin(annotation) is typing.Literal
            if is_literal and all(type(value) is str for value in values):
                found[name] = frozenset(cast("tuple[str, ...]", values))
        return found

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return the schemas of its fields."""
        return [(f".{name}", schema) for name, schema in self.fields]

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept instances of this very class with fitting fields."""
        rules: list[tuple[str, type | None, Check]] | None = None
        arrays: list[tuple[str, Any, Any, Check]] = []
        kind = self.kind

        def accepts(value: object) -> bool:
            nonlocal rules, arrays
            if type(value) is not kind:
                return False
            if rules is None:
                found = self._rules_of_fields(stored=stored)
                arrays = [
                    (name, rule.collection, rule.only_exact, rule.accepts)
                    for name, rule in found
                    if rule.collection is not None
                ]
                rules = [
                    (name, rule.exact, rule.accepts)
                    for name, rule in found
                    if rule.collection is None
                ]
            # `Rule.allows` inline: this is asked of each event that is appended.
            for name, exact, fits in rules:
                held: Any = getattr(value, name, _MISSING)
                if type(held) is not exact and not fits(held):
                    return False
            for name, collection, only_exact, fits in arrays:
                held = getattr(value, name, _MISSING)
                if type(held) is collection and only_exact(map(type, held)):
                    continue
                if not fits(held):
                    return False
            return True

        return Rule(None, accepts)

    def _rules_of_fields(self, *, stored: bool) -> list[tuple[str, Rule]]:
        return [(name, schema.rule(stored=stored)) for name, schema in self.fields]

    def narrow(self, value: object, use: Use) -> object:
        """Return the value, or an equal copy with narrowed fields."""
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        if use is Use.COMMAND and isinstance(value, self.kind):
            return value
        if type(value) is not self.kind:
            raise Misfit(value, self, self._reason_of_heir(value))
        changed: dict[str, object] = {}
        for name, schema in self.fields:
            held = getattr(value, name, _MISSING)
            if held is _MISSING:
                raise Misfit(value, self, f"its field {name} has no value")
            narrowed = inside(f".{name}", schema, held, use)
            if narrowed is not held:
                changed[name] = narrowed
        # Who can still change it wants to see the change here, too.
        if self.changeable and use is Use.MADE:
            return value
        return _copied(value, changed)

    def _reason_of_heir(self, value: object) -> str:
        if not isinstance(value, self.kind):
            return ""
        heir = type(value).__name__
        return (
            f"a {heir} would come back as a {self.name}; annotate {self.name} | {heir}"
        )


def _copied(value: object, changed: dict[str, object]) -> object:
    copied = copy.copy(value)
    if hasattr(value, "__struct_fields__"):
        from msgspec.structs import force_setattr  # noqa: PLC0415 - rarely needed

        for name, held in changed.items():
            force_setattr(cast("Any", copied), name, held)
    else:
        for name, held in changed.items():
            object.__setattr__(copied, name, held)
    return copied


class FieldsRecord(Record):
    """A dataclass, a Struct or an attrs class."""

    is_array = False

    def __init__(
        self,
        annotation: object,
        kind: type,
        arguments: tuple[object, ...],
        build: Build,
    ) -> None:
        """Find out whether it checks itself, can change, and can be read back."""
        super().__init__(annotation, kind, build)
        self.arguments = arguments
        self.is_checked = CHECKED in vars(kind)
        self.changeable = not _is_frozen(kind)
        self.tag = tag_of(kind)
        self.reason = _reason(kind)
        self.is_plain = _is_plain(kind)
        struct_config: Any = getattr(kind, "__struct_config__", None)
        if struct_config is not None:
            self.native_tag = struct_config.tag
            self.is_array = bool(struct_config.array_like)
            if self.is_array:
                self.json = frozenset({"array"})
            if self.tag is None and self.native_tag is not None:
                # For a union that msgspec doesn't read by itself.
                self.tag = str(self.native_tag)

    @functools.cached_property
    def _found(self) -> Fields:
        return resolved_fields(self.kind, self.arguments)

    def annotations(self) -> dict[str, object]:
        """Return the resolved annotations of its fields."""
        return self._found.types

    @property
    def needs_hook(self) -> bool:
        """Whether msgspec finds other fields, or other types, than there are.

        It reads fields that it doesn't write (attrs' private ones), and it resolves
        annotations by itself, without `Self` and without the names of a function.
        """
        return self.has_hidden_fields or self._found.is_own

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept instances of this very class; look into them only if that is due."""
        into = super().make_rule(stored=stored)
        if not self.is_checked or self.arguments:
            return into
        if stored and is_changeable(self):
            return into
        return Rule(self.kind, NOTHING.accepts)

    def _rules_of_fields(self, *, stored: bool) -> list[tuple[str, Rule]]:
        rules = super()._rules_of_fields(stored=stored)
        if not stored or not self.is_checked or self.arguments:
            return rules
        # What can't have changed was checked when the instance was made.
        changeable = {name for name, schema in self.fields if is_changeable(schema)}
        return [(name, rule) for name, rule in rules if name in changeable]

    @property
    def has_hidden_fields(self) -> bool:
        """Whether msgspec reads fields that it doesn't write: attrs' private ones."""
        return hasattr(self.kind, "__attrs_attrs__") and any(
            name.startswith("_") for name in field_names(self.kind)
        )

    def names(self) -> Iterable[str]:
        """Return the names of its fields, in Python and in JSON."""
        yield from field_names(self.kind)
        encoded: tuple[str, ...] = getattr(self.kind, "__struct_encode_fields__", ())
        yield from encoded
        struct_config: Any = getattr(self.kind, "__struct_config__", None)
        if struct_config is not None:
            tag = (struct_config.tag_field, struct_config.tag)
            yield from (text for text in tag if isinstance(text, str))


def _is_frozen(kind: type) -> bool:
    record: Any = kind
    if hasattr(record, "__struct_config__"):
        return bool(record.__struct_config__.frozen)
    if hasattr(record, "__attrs_attrs__"):
        return getattr(record.__setattr__, "__name__", "") == "_frozen_setattrs"
    return bool(record.__dataclass_params__.frozen)


def _reason(kind: type) -> str | None:
    fields: dict[str, dataclasses.Field[object]] = getattr(
        kind, "__dataclass_fields__", {}
    )
    for name, field in fields.items():
        if isinstance(field.type, dataclasses.InitVar) or _is_init_only(field):
            return (
                f"the value of {kind.__name__}.{name}, an InitVar, isn't stored; make "
                "it a field, or compute what depends on it before"
            )
    for name in field_names(kind):
        if is_descriptor(kind, name) and name in fields:
            return (
                f"the value of {kind.__name__}.{name} is kept by a descriptor, which "
                "decides what is read back; give the field a default of its type"
            )
    for attribute in getattr(kind, "__attrs_attrs__", ()):
        if getattr(attribute.default, "takes_self", False):
            return (
                f"the default of {kind.__name__}.{attribute.name} depends on the "
                "instance; give it a default of its own"
            )
    return None


def _is_init_only(field: object) -> bool:
    kind: object = getattr(field, "_field_type", None)
    return getattr(kind, "name", "") == "_FIELD_INITVAR"


def _is_plain(kind: type) -> bool:
    """Return whether orjson writes the fields of a class, and nothing else.

    orjson leaves out fields that begin with an underscore and writes whatever else an
    instance holds, such as what a cached property has left behind.
    """
    return (
        dataclasses.is_dataclass(kind)
        and not may_assign(kind)
        and not any(name.startswith("_") for name in field_names(kind))
        and not any(
            isinstance(member, functools.cached_property)
            for base in kind.__mro__
            for member in vars(base).values()
        )
    )


def may_assign(kind: type) -> bool:
    """Return whether code of the class's author may set fields of a new instance."""
    own = own_post_init(kind)
    return own is not None and not only_reads(own, tuple(field_names(kind)))


def own_post_init(kind: type) -> object:
    """Return the method of the class's author that completes an instance, if any."""
    if hasattr(kind, "__attrs_attrs__"):
        return getattr(kind, "__attrs_post_init__", None)
    post_init: object = getattr(kind, "__post_init__", None)
    return getattr(post_init, OWN, post_init)


class NamedTupleRecord(Record):
    """A `NamedTuple`, written as an array."""

    def __init__(
        self,
        annotation: object,
        kind: type,
        arguments: tuple[object, ...],
        build: Build,
    ) -> None:
        """Take the class and its type arguments."""
        super().__init__(annotation, kind, build)
        self.arguments = arguments
        self.json = frozenset({"array"})

    @functools.cached_property
    def _found(self) -> Fields:
        return resolved_hints(self.kind, self.arguments)

    def annotations(self) -> dict[str, object]:
        """Return the resolved annotations of its fields."""
        hints = self._found.types
        names: tuple[str, ...] = cast("Any", self.kind)._fields
        return {name: hints.get(name, Any) for name in names}

    @property
    def needs_hook(self) -> bool:
        """Whether msgspec resolves the annotations to other types."""
        return self._found.is_own

    def narrow(self, value: object, use: Use) -> object:
        """Return the tuple, or an equal one with narrowed fields."""
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        if type(value) is not self.kind:
            raise Misfit(value, self, self._reason_of_heir(value))
        made: Any = value
        changed = {
            name: inside(f".{name}", schema, getattr(made, name), use)
            for name, schema in self.fields
        }
        return value if use is Use.COMMAND else made._replace(**changed)


class TypedDictRecord(Record):
    """A `TypedDict`."""

    changeable = True

    def __init__(
        self,
        annotation: object,
        kind: type,
        arguments: tuple[object, ...],
        build: Build,
    ) -> None:
        """Take the class and its type arguments."""
        super().__init__(annotation, kind, build)
        self.arguments = arguments

    @functools.cached_property
    def _found(self) -> Fields:
        return resolved_hints(self.kind, self.arguments)

    def annotations(self) -> dict[str, object]:
        """Return the resolved annotations of its keys."""
        return {
            name: _without_qualifiers(annotation)
            for name, annotation in self._found.types.items()
        }

    @functools.cached_property
    def required(self) -> frozenset[str]:
        """The keys that each value has.

        Under ``from __future__ import annotations``, Python itself overlooks
        `NotRequired` and `Required`, because they are in a text.
        """
        found: set[str] = set(cast("Any", self.kind).__required_keys__)
        for name, annotation in self._found.types.items():
            qualifiers = _qualifiers(annotation)
            if "Required" in qualifiers:
                found.add(name)
            if "NotRequired" in qualifiers:
                found.discard(name)
        return frozenset(found)

    @property
    def needs_hook(self) -> bool:
        """Whether msgspec finds other keys or types than there are."""
        known: frozenset[str] = cast("Any", self.kind).__required_keys__
        return self._found.is_own or known != self.required

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept dicts with these keys, no others, and fitting members."""
        rules: dict[str, Rule] | None = None

        def accepts(value: object) -> bool:
            nonlocal rules
            if type(value) is not dict:
                return False
            if rules is None:
                rules = dict(self._rules_of_fields(stored=stored))
            entries = cast("dict[str, object]", value)
            return self.required <= entries.keys() <= rules.keys() and all(
                rules[name].allows(item) for name, item in entries.items()
            )

        return Rule(None, accepts)

    def narrow(self, value: object, use: Use) -> object:
        """Return the dict, or an equal one with narrowed members."""
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        entries = _entries_of(value)
        if entries is None:
            raise Misfit(value, self)
        fields = dict(self.fields)
        required = self.required
        if not required <= entries.keys():
            missing = sorted(required - entries.keys())
            raise Misfit(value, self, f"it lacks {', '.join(missing)}")
        if not entries.keys() <= fields.keys():
            more = sorted(map(str, entries.keys() - fields.keys()))
            raise Misfit(value, self, f"it has no {', '.join(more)}")
        found = {
            name: inside(f"[{name!r}]", fields[name], item, use)
            for name, item in entries.items()
        }
        return value if use is Use.COMMAND else found

    def names(self) -> Iterable[str]:
        """Return its keys."""
        own: dict[str, object] = self.kind.__annotations__
        return own


def _entries_of(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


_QUALIFIERS = {"Required", "NotRequired", "ReadOnly"}


def _qualifiers(annotation: object) -> set[str]:
    """Return the qualifiers around the type of a key."""
    found: set[str] = set()
    while (name := _qualifier(annotation)) is not None:
        found.add(name)
        annotation = typing.get_args(annotation)[0]
    return found


def _without_qualifiers(annotation: object) -> object:
    while _qualifier(annotation) is not None:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _qualifier(annotation: object) -> str | None:
    name: str = getattr(typing.get_origin(annotation), "_name", None) or ""
    return name if name in _QUALIFIERS else None
