"""Schemas of pydantic's models and dataclasses."""

from __future__ import annotations

import functools
import json
from collections import abc
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from eventbraid.domain._invalid_value import shown
from eventbraid.domain._record_schema import Record
from eventbraid.domain._same import is_same
from eventbraid.domain._schema import Misfit, Rule, Schema, Use
from eventbraid.domain._tag import tag_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.domain._record_schema import Build


class ModelRecord(Record):
    """A model: pydantic decides what it holds, and how it is written.

    Models are written by the names of their fields and read by names and aliases, so
    that an alias may change.
    """

    anything = True
    is_custom = True
    changeable = True

    def __init__(self, annotation: object, kind: type, build: Build) -> None:
        """Take the model."""
        super().__init__(annotation, kind, build)
        self.tag = tag_of(kind)

    @functools.cached_property
    def _adapter(self) -> _Adapter:
        from pydantic import TypeAdapter  # noqa: PLC0415 - an optional dependency

        adapter: Any = TypeAdapter(cast("Any", self.annotation))
        return cast("_Adapter", adapter)

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return nothing: pydantic checks its fields."""
        return ()

    def annotations(self) -> dict[str, object]:
        """Return the types that pydantic has found for its fields."""
        fields: dict[str, Any] = cast("Any", self.kind).__pydantic_fields__
        return {name: field.annotation for name, field in fields.items()}

    def dump(self, value: object) -> object:
        """Return what JSON is made of.

        Raises:
            ValueError: A field isn't what its annotation says.
        """
        dumped = self._adapter.dump_python(
            value, mode="json", by_alias=False, round_trip=True, warnings="error"
        )
        return _with_sorted_sets(dumped, value) if self._may_hold_sets else dumped

    @functools.cached_property
    def _may_hold_sets(self) -> bool:
        try:
            schema = self._adapter.json_schema(mode="serialization")
        except Exception:  # noqa: BLE001 - a type of the author's own has no JSON schema
            return True
        return '"uniqueItems"' in json.dumps(schema, default=str)

    def encode(self, value: object) -> bytes:
        """Make JSON of a model.

        Raises:
            ValueError: A field isn't what its annotation says.
        """
        if self._may_hold_sets:
            return msgspec.json.encode(self.dump(value))
        return self._adapter.dump_json(
            value, by_alias=False, round_trip=True, warnings="error"
        )

    def decode(self, data: bytes) -> object:
        """Make a model of JSON.

        Raises:
            ValueError: The JSON isn't what the model demands.
        """
        return self._adapter.validate_json(data, by_alias=True, by_name=True)

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept instances; a model that is to be stored must come back equal."""
        if not stored:
            return Rule(self.kind, lambda _: False)

        def accepts(value: object) -> bool:
            if type(value) is not self.kind:
                return False
            try:
                return is_same(self.decode(self.encode(value)), value)
            except ValueError:
                return False

        return Rule(None, accepts)

    def narrow(self, value: object, use: Use) -> object:
        """Return the model."""
        if use is Use.COMMAND and isinstance(value, self.kind):
            return value
        if type(value) is not self.kind:
            raise Misfit(value, self, self._reason_of_heir(value))
        if use is not Use.STORED:
            return value
        try:
            again = self.decode(self.encode(value))
        except ValueError as error:
            raise Misfit(value, self, str(error)) from error
        if not is_same(again, value):
            raise Misfit(value, self, f"it would come back as {shown(again)}")
        return value


def _with_sorted_sets(dumped: object, value: object) -> object:
    """Sort what pydantic wrote of a set by its JSON.

    A set iterates in an order of its process. pydantic makes a list of it, so both are
    followed side by side; where its author serializes something else, that is kept.
    """
    if isinstance(dumped, list):
        items = cast("list[object]", dumped)
        if not isinstance(value, abc.Collection):
            return items
        held = cast("abc.Collection[object]", value)
        if len(items) != len(held):
            return items
        found = [_with_sorted_sets(*one) for one in zip(items, held, strict=True)]
        return sorted(found, key=_json_of) if isinstance(value, abc.Set) else found
    if isinstance(dumped, dict):
        entries = cast("dict[str, object]", dumped)
        if isinstance(value, abc.Mapping):
            members = list(cast("abc.Mapping[object, object]", value).values())
        else:
            members = [getattr(value, name, None) for name in entries]
        if len(members) != len(entries):
            return entries
        return {
            name: _with_sorted_sets(item, member)
            for (name, item), member in zip(entries.items(), members, strict=True)
        }
    return dumped


def _json_of(value: object) -> str:
    return json.dumps(value, sort_keys=True)


class _Adapter(Protocol):
    def json_schema(self, *, mode: str) -> dict[str, object]: ...
    def dump_python(
        self,
        instance: object,
        /,
        *,
        mode: str,
        by_alias: bool,
        round_trip: bool,
        warnings: str,
    ) -> object: ...
    def dump_json(
        self, instance: object, /, *, by_alias: bool, round_trip: bool, warnings: str
    ) -> bytes: ...
    def validate_json(
        self, data: bytes, /, *, by_alias: bool, by_name: bool
    ) -> object: ...
