"""From typed events to events to append, and from recorded events back.

`new_event` is the one function by which the library builds a `NewEvent` of a typed
event: a schema version other than 1 is part of the event's metadata, which a type and
a body alone don't have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from eventbraid._native import NewEvent
from eventbraid._native import traced_event as traced_native_event
from eventbraid._recorded import Parts
from eventbraid._typed_stream import TypedStream
from eventbraid.domain._invalid_value import shown, shown_argument
from eventbraid.domain._same import is_same
from eventbraid.errors import (
    EventbraidError,
    EventDecodeError,
    EventError,
    InvalidArgument,
)
from eventbraid.event._body_codec import BodyContext, decoded_body, encoded_body
from eventbraid.event._codec import TOO_DEEP
from eventbraid.event._decode_steps import (
    SCHEMA_VERSION,
    decode_again,
    decode_old,
    schema_version,
)
from eventbraid.event._registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Self
    from uuid import UUID

    from eventbraid._native import EventId
    from eventbraid.event._body_codec import BodyCodec
    from eventbraid.event._event_type import EventType
    from eventbraid.event._registry import EventRegistry
    from eventbraid.store import RecordedEvent

E = TypeVar("E")


class VersionedBody(bytes):
    """A body of another schema version than 1, with the metadata that records it.

    `NewEvent`, and `append` of a tuple, copy the metadata into the event.
    """

    metadata: dict[str, str]

    def __new__(cls, data: bytes, version: int) -> Self:
        """Attach the version to a body."""
        made = super().__new__(cls, data)
        made.metadata = {SCHEMA_VERSION: str(version)}
        return made

    def __reduce__(self) -> tuple[type[Self], tuple[bytes, int]]:
        return type(self), (bytes(self), int(self.metadata[SCHEMA_VERSION]))


def event_type(kind: type, /, *, registry: EventRegistry = default_registry) -> str:
    """Return the event type under which a class is registered.

    Args:
        kind: The event's class.
        registry: The registry.

    Raises:
        InvalidArgument: The class isn't registered.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.lamp.lit")
        ... class LampLit: ...
        >>> eb.event_type(LampLit)
        'doc.lamp.lit'
    """
    return registry.of_class(_checked_class(kind)).name


def event_types(
    *kinds: type, registry: EventRegistry = default_registry
) -> tuple[str, ...]:
    """Return all event types from which events of some classes may be decoded.

    These are the types of the classes, their former names, and the types whose
    upcasters lead to them. Use it to filter a read or a subscription.

    An upcaster may split an event into several, so a read that is filtered in this way
    may also return events of other classes.

    Args:
        kinds: The classes.
        registry: The registry.

    Raises:
        InvalidArgument: A class isn't registered.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.event import event_types
        >>> @eb.event("doc.lamp.dimmed", formerly="doc.lamp.darkened")
        ... class LampDimmed: ...
        >>> event_types(LampDimmed)
        ('doc.lamp.darkened', 'doc.lamp.dimmed')
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("lamp-1", "doc.lamp.darkened", b"{}")])
        ...     log = store.read_all(types=event_types(LampDimmed))
        ...     [eb.decode_event(recorded) for recorded in log]
        [LampDimmed()]
    """
    return tuple(sorted(registry.names_read_as(map(_checked_class, kinds))))


def _checked_class(kind: object) -> type:
    if not isinstance(kind, type):
        raise TypeError(f"kind must be a class of events, not {type(kind).__name__}")
    return kind


def encode_event(
    event: object, /, *, registry: EventRegistry = default_registry
) -> tuple[str, bytes]:
    """Return an event's type and its JSON, for code that does not append them.

    To append an event, use `new_event`: it also records the schema version.

    Args:
        event: An instance of a registered class.
        registry: The registry of the class.

    Returns:
        The event type and the body. The body of a schema version other than 1 has an
        attribute ``metadata``, which `NewEvent` and `append` copy into the event. Code
        that stores only the bytes must store the version, too.

    Raises:
        InvalidArgument: The class isn't registered, its bodies are encoded by a codec,
            or a value couldn't be read back.
        InvalidValue: A field isn't what its annotation says.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.bell.rung")
        ... class BellRung:
        ...     times: int
        >>> eb.encode_event(BellRung(3))
        ('doc.bell.rung', b'{"times":3}')
    """
    found = registry.of_class(type(event))
    data = _encoded(found, event)
    if found.is_plain:
        return found.name, data
    if found.body_codec is not None:
        # The plain body must not get into a log by an append of this result.
        raise InvalidArgument(
            "event",
            shown_argument(event),
            f"its body is encoded by the codec {found.body_codec.id!r}, which depends "
            "on the stream; use new_event(stream, event)",
        )
    return found.name, VersionedBody(data, found.version)


def decode_event(
    recorded: RecordedEvent, /, *, registry: EventRegistry = default_registry
) -> object:
    """Decode a recorded event.

    An event of an old schema version passes through its upcasters. If they make several
    events of it, or none, use `EventDecoder`. An `EventDecoder` also has a policy for
    events that can't be decoded.

    Args:
        recorded: The event as it was read from a store.
        registry: The registry of its class.

    Returns:
        An instance of the class that is registered under its type and version, or to
        which upcasters lead.

    Raises:
        UnknownEventType: Neither a class nor an upcaster is registered for it.
        EventDecodeError: Its body isn't what the class demands, or upcasters make
            several events of it, or none.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.bell.muted")
        ... class BellMuted:
        ...     by: str
        >>> with eb.open("memory:") as store:
        ...     done = store.append([eb.new_event("bell-1", BellMuted("mia"))])
        ...     [eb.decode_event(recorded) for recorded in store.read_stream("bell-1")]
        [BellMuted(by='mia')]
    """
    try:
        version = schema_version(recorded)
        found = registry.find(recorded.type, version)
        if found is not None:
            return found.codec.decode(recorded.data)
        decoded = decode_old(recorded, version, registry)
    except Exception as error:  # noqa: BLE001 - returned as the refusal
        decoded = decode_again(recorded, error, registry)
    if isinstance(decoded, EventError):
        raise decoded
    if type(decoded) is not Parts:
        return decoded
    raise EventDecodeError(
        recorded.type,
        recorded.stream,
        recorded.position,
        f"upcasters make {len(decoded)} events of it; decode it with EventDecoder, "
        "which returns all of them",
    )


@overload
def new_event(
    stream: TypedStream[E],
    event: E,
    /,
    *,
    metadata: Mapping[str, str] | None = None,
    event_id: UUID | None = None,
    registry: EventRegistry = default_registry,
    original_time: datetime | None = None,
) -> NewEvent: ...


@overload
def new_event(
    stream: str,
    event: object,
    /,
    *,
    metadata: Mapping[str, str] | None = None,
    event_id: UUID | None = None,
    registry: EventRegistry = default_registry,
    original_time: datetime | None = None,
) -> NewEvent: ...


def new_event(
    stream: str | TypedStream[E],
    event: object,
    /,
    *,
    metadata: Mapping[str, str] | None = None,
    event_id: UUID | None = None,
    registry: EventRegistry = default_registry,
    original_time: datetime | None = None,
) -> NewEvent:
    """Build the event to append to a stream from a typed event.

    It has the event's type, its body as JSON, and its schema version.

    Args:
        stream: The stream: a typed one, which accepts the events of its kind only, or
            the id of any.
        event: An instance of a registered class.
        metadata: Further facts about the event, besides its body. The key ``v`` is
            reserved for the schema version.
        event_id: The event's id; by default, `append` generates one.
        registry: The registry of the class.
        original_time: When the event happened, if that isn't when it is recorded: for
            the import of history. It has a time zone, and readers get it in UTC.

    Raises:
        InvalidArgument: The class isn't registered or isn't one of the kind's events, a
            value couldn't be read back, or the original time has no time zone.
        InvalidValue: A field isn't what its annotation says.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.bell.cast", version=2, oldest_version=2)
        ... class BellCast:
        ...     kilograms: int
        >>> cast = eb.new_event("bell-1", BellCast(900), metadata={"by": "mia"})
        >>> with eb.open("memory:") as store:
        ...     done = store.append([cast], expect={"bell-1": eb.NO_STREAM})
        ...     [eb.decode_event(recorded) for recorded in store.read_stream("bell-1")]
        [BellCast(kilograms=900)]

        For a typed stream, a type checker refuses the event of another kind:

        >>> class Tower(eb.Stream[BellCast], category="tower"): ...
        >>> eb.new_event(Tower("tower-1"), BellCast(350)).stream
        'tower-1'
    """
    if type(stream) is not str:
        stream = _stream_id(stream, event)
    found = registry.of_class(type(event))
    # As `_encoded` does: commands call this function for each event.
    try:
        data = found.codec.encode(event)
    except Exception as error:
        _raise_refusal(event, error)
        raise
    if metadata and SCHEMA_VERSION in metadata:
        raise InvalidArgument(
            "metadata key",
            SCHEMA_VERSION,
            "it is reserved for the event's schema version; use another key",
        )
    if not found.is_plain:
        if found.version != 1:
            metadata = {**(metadata or {}), SCHEMA_VERSION: str(found.version)}
        if found.body_codec is not None:
            return NewEvent(
                stream,
                found.name,
                _encoded_body(found, found.body_codec, data, stream),
                metadata=metadata,
                event_id=event_id,
                original_time=original_time,
                # A cipher makes other bytes of the same body each time, and a retry is
                # the same request.
                content=data,
            )
    return NewEvent(
        stream,
        found.name,
        data,
        metadata=metadata,
        event_id=event_id,
        original_time=original_time,
    )


def _stream_id(stream: str | TypedStream[E], event: object) -> str:
    """Return the id of a stream, and refuse an event that its kind doesn't have."""
    if isinstance(stream, TypedStream):
        stream.refuse_foreign_event(event)
        return stream.id
    return stream


def _encoded_body(
    found: EventType, codec: BodyCodec, body: bytes, stream: str
) -> bytes:
    """Encode a body, and refuse what the codec can't decode again."""
    context = BodyContext(stream, found.name, found.version)
    data = encoded_body(codec, body, context)
    try:
        again = decoded_body(codec, data, context)
        # Another format may write the same values as other JSON.
        if again == body or is_same(
            found.codec.decode(again), found.codec.decode(body)
        ):
            return data
        reason = f"it decodes the body as {shown(again)}"
    except Exception as error:
        error.add_note(f"raised while the codec {codec.id!r} decoded its own result")
        raise
    raise InvalidArgument(
        f"body encoded by the codec {codec.id!r}",
        shown_argument(body),
        f"{reason}; decode must return the body that was given to encode",
    )


def traced_event(
    stream: str,
    event: object,
    correlation_id: str,
    causation_id: str,
    event_id: EventId | None = None,
    /,
) -> NewEvent:
    """Build an event of the library's own, whose metadata traces it.

    The metadata has the schema version, also if it is 1, so that a reader without the
    class can tell the versions apart.

    Args:
        stream: The id of the stream.
        event: An instance of a registered class.
        correlation_id: The request that the event belongs to.
        causation_id: The event that led to it.
        event_id: The event's id; by default, `append` generates one.
    """
    found = default_registry.of_class(type(event))
    data = _encoded(found, event)
    return traced_native_event(
        stream,
        found.name,
        data,
        correlation_id,
        causation_id,
        found.version,
        event_id,
    )


def _encoded(found: EventType, event: object) -> bytes:
    try:
        return found.codec.encode(event)
    except Exception as error:
        _raise_refusal(event, error)
        raise


def _raise_refusal(event: object, error: Exception) -> None:
    """Raise the error for the caller of an exception that encoding an event raised.

    Return if the exception itself is that error.
    """
    if isinstance(error, EventbraidError):
        return
    if isinstance(error, RecursionError):
        raise InvalidArgument("event", shown_argument(event), TOO_DEEP) from error
    if isinstance(error, TypeError | ValueError | NotImplementedError):
        reason = str(error)
        if "set_int_max_str_digits" in reason:
            # Python's remedy is of no use: the decoder has the same limit.
            reason = (
                "a whole number in it has more than 4,300 digits; record it as a str "
                "or as bytes"
            )
        raise InvalidArgument("event", shown_argument(event), reason) from error
