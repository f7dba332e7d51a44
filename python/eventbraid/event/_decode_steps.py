"""The parts of decoding that are rarely needed: old versions, and errors.

`decode_event` and `EventDecoder` decode an event of a current version by themselves,
without a call into this module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import msgspec

from eventbraid._recorded import Parts
from eventbraid.domain._invalid_value import shown
from eventbraid.errors import EventDecodeError, UnknownCodec, UnknownEventType
from eventbraid.event._body_codec import BodyContext, codec_id, decoded_body
from eventbraid.event._codec import TOO_DEEP
from eventbraid.event._registry import default_registry
from eventbraid.event._upcasting import SPLIT_LIMIT, UpcastError
from eventbraid.event._wire import to_json

if TYPE_CHECKING:
    from eventbraid.event._event_type import EventType
    from eventbraid.event._registry import EventRegistry
    from eventbraid.event._upcasting import Upcaster
    from eventbraid.store import RecordedEvent

SCHEMA_VERSION = "v"
"""The metadata key of the schema version; without it, the version is 1."""

_VERSION = re.compile("[0-9]{1,9}")


def schema_version(recorded: RecordedEvent) -> int:
    """Return the schema version of a recorded event.

    Raises:
        ValueError: Its metadata has something else.
    """
    written = recorded.metadata_value(SCHEMA_VERSION)
    if written is None:
        return 1
    if _VERSION.fullmatch(written) is None:
        raise ValueError(
            f"its schema version is {shown(written)}, expected a number of at most 9 "
            "digits"
        )
    return int(written)


def decode_old(
    recorded: RecordedEvent,
    version: int,
    registry: EventRegistry,
    body: bytes | None = None,
) -> object:
    """Decode an event of a type and version that no class is registered for.

    Args:
        recorded: The event.
        version: Its schema version.
        registry: The registry.
        body: Its body, if a codec has encoded it.

    Returns:
        The typed event to which upcasters lead; `Parts` if it isn't exactly one; an
        `UnknownEventType` for the caller to raise if nothing reads the event.

    Raises:
        Exception: The event can't be decoded; `decode_error` makes an error for the
            caller of it.
    """
    first = registry.upcaster(recorded.type, version)
    events = (
        (recorded.type, version)
        if first is None
        else upcast(registry, first, recorded, recorded.data if body is None else body)
    )
    if isinstance(events, list):
        return events[0] if len(events) == 1 else Parts(events)
    name, unread = events
    return UnknownEventType(
        name,
        unread,
        recorded.stream,
        recorded.position,
        readable=registry.versions_of(name),
    )


def decode_again(
    recorded: RecordedEvent, error: Exception, registry: EventRegistry
) -> object:
    """Decode an event whose body was not JSON, because a codec may have encoded it.

    An encoded body is found only here, after it could not be decoded as it is. Events
    that aren't encoded don't pay for a test.

    Args:
        recorded: The event.
        error: What decoding its body as JSON has raised.
        registry: The registry.

    Returns:
        What `decode_old` returns, or the `EventDecodeError` for the caller to raise.
    """
    try:
        if codec_id(recorded.data) is None:
            raise error  # noqa: TRY301 - as any error of decoding
        body = plain_body(recorded, registry=registry)
        version = schema_version(recorded)
        found = registry.find(recorded.type, version)
        if found is not None:
            return found.codec.decode(body)
        return decode_old(recorded, version, registry, body)
    except EventDecodeError as refused:
        return refused
    except Exception as last:  # noqa: BLE001 - the cause of the refusal
        refusal = decode_error(recorded, last)
        refusal.__cause__ = last
        return refusal


def plain_body(
    recorded: RecordedEvent, /, *, registry: EventRegistry = default_registry
) -> bytes:
    """Return the body of a recorded event, decoded by its codec if it is encoded.

    The data of a `RecordedEvent` is the body as it is stored. This function is for code
    that reads bodies without decoding them into a class, such as an export.

    Args:
        recorded: The event as it was read from a store.
        registry: The registry that has the codecs; by default, the one that all
            programs use.

    Returns:
        The body: the JSON of a typed event; any bytes of another.

    Raises:
        UnknownCodec: The program doesn't have the codec that encoded the body.
        EventDecodeError: The codec can't decode the body.

    Example:
        >>> import base64
        >>> import eventbraid as eb
        >>> from eventbraid.event import plain_body
        >>> class Base64:
        ...     id = "base64"
        ...
        ...     def encode(self, body, context):
        ...         return base64.b64encode(body)
        ...
        ...     def decode(self, body, context):
        ...         return base64.b64decode(body)
        >>> @eb.event("doc.note.written", codec=Base64())
        ... class NoteWritten:
        ...     text: str
        >>> with eb.open("memory:") as store:
        ...     done = store.append([eb.new_event("note-1", NoteWritten("hello"))])
        ...     [recorded] = store.read_stream("note-1")
        >>> recorded.data, plain_body(recorded)
        (b'...base64eyJ0ZXh0IjoiaGVsbG8ifQ==', b'{"text":"hello"}')
    """
    data = recorded.data
    written = codec_id(data)
    if written is None:
        return data
    codec = registry.codecs.get(written)
    if codec is None:
        raise UnknownCodec(
            written,
            recorded.type,
            recorded.stream,
            recorded.version,
            recorded.position,
        )
    try:
        context = BodyContext(recorded.stream, recorded.type, schema_version(recorded))
        return decoded_body(codec, data, context)
    except Exception as error:
        reason = f"the codec {written!r} failed: {_reason(error)}"
        raise EventDecodeError(
            recorded.type, recorded.stream, recorded.position, reason
        ) from error


def decode_error(recorded: RecordedEvent, error: Exception) -> EventDecodeError:
    """Return the error for the caller of an exception that decoding raised.

    Deep nesting, a number of too many digits, an exception of the author's
    `__post_init__` or upcaster: for the reader, each is a body that can't be decoded.
    """
    return EventDecodeError(
        recorded.type, recorded.stream, recorded.position, _reason(error)
    )


def upcast(
    registry: EventRegistry, first: Upcaster, recorded: RecordedEvent, data: bytes
) -> list[object] | tuple[str, int]:
    """Return the typed events that a recorded event of an old version becomes.

    Args:
        registry: The registry.
        first: The upcaster of the event's version.
        recorded: The event.
        data: Its body, as JSON.

    Returns:
        The events in order; or the type and version that nothing reads.

    Raises:
        Exception: The event can't be decoded.
    """
    body = cast("object", msgspec.json.decode(data))
    todo = first.upcast(body, recorded)
    todo.reverse()
    events: list[object] = []
    steps = 0
    while todo:
        one = todo.pop()
        found = registry.find(one.type, one.version)
        if found is not None:
            events.append(_decode_upcast(found, one.body))
            if len(events) > SPLIT_LIMIT:
                raise UpcastError(f"it becomes more than {SPLIT_LIMIT:,} events")
            continue
        next_upcaster = registry.upcaster(one.type, one.version)
        if next_upcaster is None:
            return one.type, one.version
        steps += 1
        if steps > _STEPS_LIMIT:
            # Only a registry that was never validated can have a cycle.
            raise UpcastError(
                f"it passes through more than {_STEPS_LIMIT:,} upcasters, which form a "
                "cycle; call validate() of the registry, which names them"
            )
        todo += reversed(next_upcaster.upcast(one.body, recorded))
    return events


def _decode_upcast(found: EventType, body: object) -> object:
    try:
        return found.codec.decode(_encode(body))
    except Exception as error:
        raise UpcastError(f"after its upcasters: {_reason(error)}") from error


_STEPS_LIMIT = 10_000
"""The maximum number of upcasters that one recorded event passes through."""

_encode = msgspec.json.Encoder(enc_hook=to_json).encode


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    text = str(error)
    if isinstance(error, TypeError | ValueError | NotImplementedError):
        return text
    return f"{type(error).__name__}: {text}"
