"""What an idempotency key stands for, when a command is executed under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from eventbraid.errors import InvalidArgument
from eventbraid.event._wire import to_json

if TYPE_CHECKING:
    from eventbraid.command._command import Command

_encoder = msgspec.json.Encoder(enc_hook=to_json, order="deterministic")


def content_of(command: Command[Any, Any]) -> bytes:
    """Give a command's class and fields as bytes that are equal for equal commands.

    Raises:
        InvalidArgument: A field can't be written down.
    """
    shape = command.__shape__
    held = command.__dict__
    try:
        return _encoder.encode([shape.identity, {f: held[f] for f in shape.fields}])
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidArgument(
            "command for an idempotency key",
            shape.name,
            f"its fields can't be compared with those of another one: {error}; "
            "use fields that can be stored, or no key",
        ) from error
