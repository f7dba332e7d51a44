"""The content with which an idempotency key is compared: a command as bytes."""

from __future__ import annotations

import enum
import functools
import math
from typing import TYPE_CHECKING, Any, cast

import msgspec

from eventbraid.domain._annotation import field_names, field_types, has_fields
from eventbraid.domain._int import Int
from eventbraid.domain._model_schema import ModelRecord
from eventbraid.domain._schema import reachable
from eventbraid.domain._schema_builder import schema_of
from eventbraid.domain._tag import tag_of
from eventbraid.errors import InvalidArgument
from eventbraid.event._codec import TOO_DEEP, stable_json
from eventbraid.event._nesting import is_too_deep
from eventbraid.event._wire import Wire, by_json, is_unordered, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command._command_base import CommandBase
    from eventbraid.domain._schema import Schema


def content_of(command: CommandBase) -> bytes:
    """Return a command's class and fields as bytes that are equal for equal commands.

    Raises:
        InvalidArgument: A field can't be encoded.
    """
    shape = command.__shape__
    held = {field: command.__dict__[field] for field in shape.fields}
    kind: type = type(command)
    try:
        for field, write in _encoders(kind):
            held[field] = write(held[field])
        content = stable_json([shape.identity, held])
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _refusal(shape.name, str(error)) from error
    except RecursionError as error:
        raise _refusal(shape.name, TOO_DEEP) from error
    if is_too_deep(content):
        raise _refusal(shape.name, TOO_DEEP)
    return content


@functools.cache
def _encoders(kind: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Return the fields that need an encoding of their own, each with its encoder."""
    found: list[tuple[str, Callable[[Any], Any]]] = []
    for field, annotation in field_types(kind).items():
        schema = schema_of(annotation)
        is_open = any(_is_open(one) for _, one in reachable(schema))
        write = described if is_open else Wire(schema, sorts=True).writer(schema)
        if write is not None:
            found.append((field, write))
    return tuple(found)


def _is_open(schema: Schema) -> bool:
    """Return whether plain JSON can't be compared in place of the values.

    This is so if different values may have the same JSON, such as ``"1"`` and
    ``Decimal(1)`` in a field of any type, or if equal values may have different JSON.
    """
    if isinstance(schema, ModelRecord):
        return False
    return schema.anything or schema.reason is not None or is_unordered(schema)


_TYPE = "$type"


def described(value: Any) -> Any:
    """Return a value as JSON that is different for values that aren't equal.

    Values that JSON can represent are unchanged. Other values are tagged with the names
    of their types. The members of sets are sorted, as are the entries of mappings whose
    keys aren't texts.
    """
    kind: type[object] = type(cast("object", value))
    if value is None or kind in {str, int, bool}:
        return value
    if kind is float:
        return value if math.isfinite(value) else _named("float", repr(value))
    if isinstance(value, list | tuple):
        return [described(item) for item in cast("list[object]", value)]
    if isinstance(value, set | frozenset):
        members = cast("set[object]", value)
        return _named("set", by_json([described(item) for item in members]))
    if isinstance(value, dict):
        return _described_dict(cast("dict[object, object]", value))
    if isinstance(value, str):  # A member of StrEnum, for example.
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, Int):
        return int(value)
    name = tag_of(kind) or kind.__qualname__
    if isinstance(value, enum.Enum):
        return _named(name, value.name)
    if has_fields(kind):
        held = {field: getattr(value, field) for field in field_names(kind)}
        return _named(name, {field: described(item) for field, item in held.items()})
    return _named(name, msgspec.to_builtins(value, enc_hook=to_json))


def _described_dict(entries: dict[object, object]) -> object:
    if all(type(key) is str for key in entries):
        found = {key: described(item) for key, item in entries.items()}
        return _named("dict", found) if _TYPE in found else found
    pairs = [[described(key), described(item)] for key, item in entries.items()]
    return _named("dict", by_json(pairs))


def _named(kind: str, value: object) -> dict[str, object]:
    return {_TYPE: kind, "value": value}


def _refusal(name: str, reason: str) -> InvalidArgument:
    return InvalidArgument(
        "command for an idempotency key",
        name,
        f"its fields can't be compared with those of another one: {reason}; "
        "use fields that can be stored, or no key",
    )
