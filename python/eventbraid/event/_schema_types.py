"""Compares two JSON Schemas: does the second accept what the first describes?

What isn't surely accepted counts as changed: a comparison that is unsure must not let a
breaking change pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from eventbraid.event._json_schema import DEFINITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from eventbraid.event._json_schema import JsonSchema

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT = (
    "contentEncoding",
    "format",
    "multipleOf",
    "pattern",
    "x-prefix",
    "x-time-zone",
    "x-type",
)
_SHOWN_LENGTH = 60


@dataclass(frozen=True, slots=True)
class TypeChange:
    """A difference between two types.

    Attributes:
        kind: The kind of change.
        path: The path of the field; empty for the whole type.
        message: What has changed.
        is_breaking: Whether a value of the first type may not be readable as one of the
            second.
    """

    kind: str
    path: str
    message: str
    is_breaking: bool = True


class TypeComparison:
    """Compares types that refer to two sets of definitions."""

    def __init__(
        self, before: Mapping[str, JsonSchema], after: Mapping[str, JsonSchema]
    ) -> None:
        """Compare types.

        Args:
            before: The definitions to which the first types refer.
            after: The definitions to which the second types refer.
        """
        self._before = before
        self._after = after
        # The pairs of definitions that are being compared: a class may contain itself.
        self._open: set[tuple[str, str]] = set()

    def changes(self, before: JsonSchema, after: JsonSchema) -> list[TypeChange]:
        """Return the differences between two types."""
        pair = (before.get("$ref", ""), after.get("$ref", ""))
        if all(pair):
            if pair in self._open:
                return []
            self._open.add(pair)
        try:
            return [*self._compare(before, after)]
        finally:
            if all(pair):
                self._open.discard(pair)

    def _compare(self, before: JsonSchema, after: JsonSchema) -> Iterator[TypeChange]:
        one = _resolved(before, self._before)
        other = _resolved(after, self._after)
        if _is_anything(other):
            if not _is_anything(one):
                yield _widened(before, after)
        elif _options(one) or _options(other):
            yield from self._compare_options(before, one, after, other)
        elif _values(one) is not None:
            yield from self._compare_values(before, one, after, other)
        else:
            yield from self._compare_plain(before, one, after, other)

    def _compare_options(
        self, before: JsonSchema, one: JsonSchema, after: JsonSchema, other: JsonSchema
    ) -> Iterator[TypeChange]:
        """Compare unions: each member of the first must be one of the second."""
        accepted = _options(other) or [after]
        is_wider = len(accepted) > len(_options(one) or [before])
        for option in _options(one) or [before]:
            results = [self.changes(option, candidate) for candidate in accepted]
            if not all(map(_breaks, results)):
                best = min((found for found in results if not _breaks(found)), key=len)
                yield from best
                continue
            # The candidate with the same tag or the same kind is the one that is meant.
            similar = [
                found
                for candidate, found in zip(accepted, results, strict=True)
                if self._is_similar(option, candidate)
            ]
            if len(similar) == 1 and len(_options(one)) == len(_options(other)):
                yield from similar[0]
            else:
                yield _changed(before, after)
                return
        if is_wider:
            yield _widened(before, after)

    def _is_similar(self, before: JsonSchema, after: JsonSchema) -> bool:
        if "x-tag" in before or "x-tag" in after:
            return before.get("x-tag") == after.get("x-tag")
        one, other = _resolved(before, self._before), _resolved(after, self._after)
        return one.get("type") == other.get("type")

    def _compare_values(
        self, before: JsonSchema, one: JsonSchema, after: JsonSchema, other: JsonSchema
    ) -> Iterator[TypeChange]:
        """Compare an enum or a literal: each of its values must be accepted."""
        values, accepted = _values(one) or [], _values(other)
        if accepted is None:
            kinds = {_JSON_TYPES[type(value)] for value in values}
            if kinds == {other.get("type")} and not _bounds(other):
                yield _widened(before, after)
            else:
                yield _changed(before, after)
            return
        # As JSON, because true is equal to 1 in Python.
        known = {json.dumps(value, sort_keys=True) for value in accepted}
        removed = [
            value for value in values if json.dumps(value, sort_keys=True) not in known
        ]
        if removed:
            listed = ", ".join(_text(value) for value in removed)
            yield TypeChange("type_changed", "", f"it has lost the value {listed}")
        elif len(accepted) > len(values):
            yield _widened(before, after)

    def _compare_plain(
        self, before: JsonSchema, one: JsonSchema, after: JsonSchema, other: JsonSchema
    ) -> Iterator[TypeChange]:
        types = one.get("type"), other.get("type")
        is_number = types == ("integer", "number")
        if (types[0] != types[1] and not is_number) or _values(other) is not None:
            yield _changed(before, after)
            return
        if before.get("x-tag", "") != after.get("x-tag", ""):
            yield _changed(before, after)
            return
        limits = _compare_limits(one, other)
        if limits is None:
            yield _changed(before, after)
            return
        if limits or is_number:
            yield _widened(before, after)
        if types[1] == "array":
            yield from self._compare_arrays(before, one, after, other)
        elif types[1] == "object":
            yield from self._compare_objects(before, one, after, other)

    def _compare_arrays(
        self, before: JsonSchema, one: JsonSchema, after: JsonSchema, other: JsonSchema
    ) -> Iterator[TypeChange]:
        if other.get("uniqueItems") and not one.get("uniqueItems"):
            yield _changed(before, after)
        elif "prefixItems" in one or "prefixItems" in other:
            yield from self._compare_tuples(before, one, after, other)
        else:
            found = self.changes(_schema(one.get("items")), _schema(other.get("items")))
            yield from _within("[]", found)

    def _compare_tuples(
        self, before: JsonSchema, one: JsonSchema, after: JsonSchema, other: JsonSchema
    ) -> Iterator[TypeChange]:
        members, accepted = one.get("prefixItems"), other.get("prefixItems")
        if members is None or accepted is None:
            yield _changed(before, after)
            return
        needed = other.get("minItems", len(accepted))
        if not needed <= one.get("minItems", len(members)) <= len(accepted) or len(
            members
        ) > len(accepted):
            yield _changed(before, after)
            return
        names = other.get("x-fields", [f"[{place}]" for place in range(len(accepted))])
        if names[: len(members)] != one.get("x-fields", names[: len(members)]):
            yield _changed(before, after)
            return
        for name, member, candidate in zip(names, members, accepted, strict=False):
            yield from _within(name, self.changes(member, candidate))

    def _compare_objects(
        self, before: JsonSchema, one: JsonSchema, after: JsonSchema, other: JsonSchema
    ) -> Iterator[TypeChange]:
        if ("properties" in one) != ("properties" in other):
            yield _changed(before, after)
            return
        if "properties" not in one:
            keys = self.changes(
                _schema(one.get("propertyNames", {"type": "string"})),
                _schema(other.get("propertyNames", {"type": "string"})),
            )
            yield from _within("[key]", keys)
            members = self.changes(
                _schema(one.get("additionalProperties")),
                _schema(other.get("additionalProperties")),
            )
            yield from _within("[]", members)
            return
        yield from self._compare_fields(one, other)

    def _compare_fields(
        self, one: JsonSchema, other: JsonSchema
    ) -> Iterator[TypeChange]:
        fields, accepted = one["properties"], other["properties"]
        needed, given = set(other.get("required", ())), set(one.get("required", ()))
        for name, field in fields.items():
            if name not in accepted:
                yield TypeChange("field_removed", name, _removal(name, one, other))
                continue
            yield from _within(name, self.changes(field, accepted[name]))
            if name in needed and name not in given:
                message = "it had a default, which events without it need"
                yield TypeChange("field_required", name, message)
            elif field.get("default") != accepted[name].get("default"):
                yield _default_change(name, field, accepted[name], given)
        for name in accepted:
            if name not in fields:
                is_needed = name in needed
                message = "the new field has no default" if is_needed else "it is new"
                kind = "field_required" if is_needed else "field_added"
                yield TypeChange(kind, name, message, is_breaking=is_needed)


def _removal(name: str, one: JsonSchema, other: JsonSchema) -> str:
    """Return the message about a removed field, with a field that may replace it."""
    fields, accepted = one["properties"], other["properties"]
    similar = [
        candidate
        for candidate, schema in accepted.items()
        if candidate not in fields and schema == fields[name]
    ]
    if len(similar) != 1:
        return "the field is gone"
    return f"the field is gone, and the new field {similar[0]!r} has the same type"


def _changed(before: JsonSchema, after: JsonSchema) -> TypeChange:
    types = _type_text(before), _type_text(after)
    message = "its type has changed from {} to {}".format(*types)
    return TypeChange("type_changed", "", message)


def _widened(before: JsonSchema, after: JsonSchema) -> TypeChange:
    types = _type_text(before), _type_text(after)
    message = "its type was widened from {} to {}".format(*types)
    return TypeChange("type_widened", "", message, is_breaking=False)


def _compare_limits(one: JsonSchema, other: JsonSchema) -> bool | None:
    """Return whether limits were relaxed; None if a value may not be accepted."""
    relaxed = False
    for names, sign in ((_LOWER, 1), (_UPPER, -1)):
        for name in names:
            before, after = one.get(name), other.get(name)
            if after is None:
                relaxed = relaxed or before is not None
            elif before is None or sign * after > sign * before:
                return None
            else:
                relaxed = relaxed or before != after
    for name in _EXACT:
        before, after = one.get(name), other.get(name)
        if after is not None and before != after:
            return None
        relaxed = relaxed or before != after
    return relaxed


def _default_change(
    name: str, field: JsonSchema, accepted: JsonSchema, given: set[str]
) -> TypeChange:
    defaults = _text(field.get("default")), _text(accepted.get("default"))
    if name in given:
        message = "it has a default now"
    else:
        message = (
            "its default has changed from {} to {}; events without it are read with "
            "the new one"
        ).format(*defaults)
    return TypeChange("default_changed", name, message, is_breaking=False)


def _within(path: str, changes: Iterable[TypeChange]) -> Iterator[TypeChange]:
    for one in changes:
        joint = "" if one.path.startswith("[") or not one.path else "."
        yield replace(one, path=f"{path}{joint}{one.path}")


def _resolved(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> JsonSchema:
    seen = set[str]()
    while "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(DEFINITIONS)
        if name in seen or name not in definitions:
            return {"x-type": name}
        seen.add(name)
        schema = definitions[name]
    return schema


def _schema(held: object) -> JsonSchema:
    """Return a schema: true stands for anything, and false for nothing."""
    if isinstance(held, dict):
        return cast("JsonSchema", held)
    return {"x-type": "nothing"} if held is False else {}


def _options(schema: JsonSchema) -> list[JsonSchema]:
    found: list[JsonSchema] = schema.get("anyOf") or schema.get("oneOf") or []
    return found


def _values(schema: JsonSchema) -> list[Any] | None:
    """Return the values of an enum or a constant."""
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _bounds(schema: JsonSchema) -> bool:
    return any(name in schema for name in (*_LOWER, *_UPPER, *_EXACT))


def _is_anything(schema: JsonSchema) -> bool:
    return not schema.keys() - {"default", "title"}


def _breaks(changes: Iterable[TypeChange]) -> bool:
    return any(one.is_breaking for one in changes)


def _text(value: object) -> str:
    return _shortened(json.dumps(value, ensure_ascii=False))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"


_JSON_TYPES: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _type_text(schema: JsonSchema) -> str:
    """Return a short description of a type."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(DEFINITIONS)
    options = _options(schema)
    if options:
        return " | ".join(map(_type_text, options))
    values = _values(schema)
    if values is not None:
        return _shortened("one of " + ", ".join(map(_text, values)))
    if "x-type" in schema:
        return str(schema["x-type"])
    if schema.get("type") == "array" and schema.get("items"):
        return f"array of {_type_text(_schema(schema['items']))}"
    limits = ", ".join(
        f"{name} {_text(held)}"
        for name, held in schema.items()
        if name in {*_LOWER, *_UPPER, *_EXACT}
    )
    name = str(schema.get("type", "anything"))
    return _shortened(f"{name} ({limits})" if limits else name)
