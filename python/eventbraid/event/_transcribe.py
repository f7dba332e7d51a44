"""From typed events to events to append, and from recorded events back.

`new_event` is the one function by which the library builds a `NewEvent` of a typed
event: a schema version other than 1 is part of the event's metadata, which a type and
a body alone don't have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eventbraid._native import NewEvent
from eventbraid._native import traced_event as traced_native_event
from eventbraid.domain._invalid_value import shown
from eventbraid.errors import (
    EventbraidError,
    EventDecodeError,
    InvalidArgument,
    UnknownEventType,
)
from eventbraid.event._codec import TOO_DEEP
from eventbraid.event._recorded import Recorded
from eventbraid.event._registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self
    from uuid import UUID

    from eventbraid._native import EventId
    from eventbraid.event._registry import EventType
    from eventbraid.store import RecordedEvent

SCHEMA_VERSION = "v"
"""The metadata key of the schema version; without it, the version is 1."""


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


def event_type(kind: type, /) -> str:
    """Return the event type under which a class is registered.

    Args:
        kind: The event's class.

    Raises:
        InvalidArgument: The class isn't registered.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.lamp.lit")
        ... class LampLit: ...
        >>> with eb.open("memory:") as store:
        ...     list(store.read_all(types=[eb.event_type(LampLit)]))
        []
    """
    if not isinstance(kind, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"kind must be a class of events, not {type(kind).__name__}")
    return default_registry.of_class(kind).name


def encode_event(event: object, /) -> tuple[str, bytes]:
    """Return an event's type and its JSON, for code that does not append them.

    To append an event, use `new_event`: it also records the schema version.

    Args:
        event: An instance of a registered class.

    Returns:
        The event type and the body. The body of a schema version other than 1 has an
        attribute ``metadata``, which `NewEvent` and `append` copy into the event. Code
        that stores only the bytes must store the version, too.

    Raises:
        InvalidArgument: The class isn't registered, or a value couldn't be read back.
        InvalidValue: A field isn't what its annotation says.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.bell.rung")
        ... class BellRung:
        ...     times: int
        >>> eb.encode_event(BellRung(3))
        ('doc.bell.rung', b'{"times":3}')
    """
    found = default_registry.of_class(type(event))
    data = _encoded(found, event)
    if found.version != 1:
        return found.name, VersionedBody(data, found.version)
    return found.name, data


def decode_event(recorded: RecordedEvent, /) -> object:
    """Decode a recorded event.

    Args:
        recorded: The event as it was read from a store.

    Returns:
        An instance of the class that is registered under its type and version.

    Raises:
        UnknownEventType: No class is registered for it.
        EventDecodeError: Its body isn't what the class demands.

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
        version = _schema_version(recorded)
        found = default_registry.find(recorded.type, version)
        if found is not None:
            return found.codec.decode(recorded.data)
    except Exception as error:
        # Deep nesting, a number of too many digits, an exception of the author's
        # __post_init__: for the reader, each is a body that can't be decoded.
        raise EventDecodeError(
            recorded.type, recorded.stream, recorded.position, _reason(error)
        ) from error
    raise UnknownEventType(recorded.type, version, recorded.stream, recorded.position)


def decoded(recorded: RecordedEvent) -> Recorded[object]:
    """Pair a recorded event with its decoded object."""
    return Recorded(decode_event(recorded), recorded)


def new_event(
    stream: str,
    event: object,
    /,
    *,
    metadata: Mapping[str, str] | None = None,
    event_id: UUID | None = None,
) -> NewEvent:
    """Build the event to append to a stream from a typed event.

    It has the event's type, its body as JSON, and its schema version.

    Args:
        stream: The id of the stream.
        event: An instance of a registered class.
        metadata: Further facts about the event, besides its body. The key ``v`` is
            reserved for the schema version.
        event_id: The event's id; by default, `append` generates one.

    Raises:
        InvalidArgument: The class isn't registered, or a value couldn't be read back.
        InvalidValue: A field isn't what its annotation says.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.bell.cast", version=2)
        ... class BellCast:
        ...     kilograms: int
        >>> cast = eb.new_event("bell-1", BellCast(900), metadata={"by": "mia"})
        >>> with eb.open("memory:") as store:
        ...     done = store.append([cast], expect={"bell-1": eb.NO_STREAM})
        ...     [eb.decode_event(recorded) for recorded in store.read_stream("bell-1")]
        [BellCast(kilograms=900)]
    """
    found = default_registry.of_class(type(event))
    data = _encoded(found, event)
    if metadata and SCHEMA_VERSION in metadata:
        raise InvalidArgument(
            "metadata key",
            SCHEMA_VERSION,
            "it is reserved for the event's schema version; use another key",
        )
    if found.version != 1:
        metadata = {**(metadata or {}), SCHEMA_VERSION: str(found.version)}
    return NewEvent(stream, found.name, data, metadata=metadata, event_id=event_id)


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
    except EventbraidError:
        raise
    except RecursionError as error:
        raise InvalidArgument("event", shown(event), TOO_DEEP) from error
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidArgument("event", shown(event), str(error)) from error


def _schema_version(recorded: RecordedEvent) -> int:
    written = recorded.metadata_value(SCHEMA_VERSION)
    if written is None:
        return 1
    if _VERSION.fullmatch(written) is None:
        raise ValueError(
            f"its schema version is {shown(written)}, expected a number of at most 9 "
            "digits"
        )
    return int(written)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    text = str(error)
    if isinstance(error, TypeError | ValueError | NotImplementedError):
        return text
    return f"{type(error).__name__}: {text}"


_VERSION = re.compile("[0-9]{1,9}")
