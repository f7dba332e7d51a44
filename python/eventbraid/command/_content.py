"""What an idempotency key stands for, when a command is executed under it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from eventbraid.domain._annotated import schema_of
from eventbraid.domain._annotation import field_types
from eventbraid.errors import InvalidArgument
from eventbraid.event._codec import TOO_DEEP
from eventbraid.event._nesting import is_too_deep
from eventbraid.event._wire import Wire, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command._command import Command

_encoder = msgspec.json.Encoder(enc_hook=to_json, order="deterministic")


def content_of(command: Command[Any, Any]) -> bytes:
    """Return a command's class and fields as bytes that are equal for equal commands.

    Raises:
        InvalidArgument: A field can't be written down.
    """
    shape = command.__shape__
    held = {field: command.__dict__[field] for field in shape.fields}
    kind: type = type(command)
    try:
        for field, write in _tagging(kind):
            held[field] = write(held[field])
        content = _encoder.encode([shape.identity, held])
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _refusal(shape.name, str(error)) from error
    except RecursionError as error:
        raise _refusal(shape.name, TOO_DEEP) from error
    if is_too_deep(content):
        raise _refusal(shape.name, TOO_DEEP)
    return content


@functools.cache
def _tagging(kind: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Return the fields whose values are distinguished by their tags, as in events."""
    found: list[tuple[str, Callable[[Any], Any]]] = []
    for field, annotation in field_types(kind).items():
        schema = schema_of(annotation)
        write = Wire(schema).writer(schema)
        if write is not None:
            found.append((field, write))
    return tuple(found)


def _refusal(name: str, reason: str) -> InvalidArgument:
    return InvalidArgument(
        "command for an idempotency key",
        name,
        f"its fields can't be compared with those of another one: {reason}; "
        "use fields that can be stored, or no key",
    )
