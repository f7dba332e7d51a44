"""Events to what a store keeps, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eventbraid._native import NewEvent
from eventbraid.domain._refusal import shown
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

    from eventbraid.event._registry import EventType
    from eventbraid.store import RecordedEvent

SCHEMA_VERSION = "v"
"""The metadata key of a schema version other than 1."""


class VersionedBody(bytes):
    """A body of another schema version than 1, with the metadata that records it.

    `NewEvent`, and `append` of a tuple, take the metadata over.
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
    """Give the event type under which a class is registered.

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
    return default_registry.of_class(kind).name


def encode_event(event: object, /) -> tuple[str, bytes]:
    """Return an event's type and its JSON.

    Args:
        event: An instance of a registered class.

    Returns:
        What `append` and `NewEvent` take after the stream. A schema version other than
        1 is kept in the event's metadata; the body carries it there as its attribute
        ``metadata``. Code that takes only the bytes has to pass the version on.

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
    """Make the event of a recorded one.

    Args:
        recorded: The event as a store gave it.

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
        ...     done = store.append([("bell-1", *eb.encode_event(BellMuted("mia")))])
        ...     [eb.decode_event(recorded) for recorded in store.read_stream("bell-1")]
        [BellMuted(by='mia')]
    """
    try:
        version = _schema_version(recorded)
        found = default_registry.find(recorded.type, version)
        if found is not None:
            return found.codec.decode(recorded.data)
    except Exception as error:
        # Whatever it was (deep nesting, a number of too many digits, an exception of
        # the author's __post_init__): to the reader, it is a body that doesn't decode.
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
    """Make what a store appends of an event: its type, body and schema version.

    Args:
        stream: The id of the stream that it goes to.
        event: An instance of a registered class.
        metadata: What is to be known about the event besides its body.
        event_id: The event's id; if not given, one is made when it is appended.

    Raises:
        InvalidArgument: The class isn't registered, or a value couldn't be read back.
        InvalidValue: A field isn't what its annotation says.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.bell.cast", version=2)
        ... class BellCast:
        ...     kilograms: int
        >>> with eb.open("memory:") as store:
        ...     done = store.append([eb.new_event("bell-1", BellCast(900))])
        ...     [eb.decode_event(recorded) for recorded in store.read_stream("bell-1")]
        [BellCast(kilograms=900)]
    """
    found = default_registry.of_class(type(event))
    data = _encoded(found, event)
    if metadata and SCHEMA_VERSION in metadata:
        raise InvalidArgument(
            "metadata key", SCHEMA_VERSION, "the event's schema version is kept there"
        )
    if found.version != 1:
        metadata = {**(metadata or {}), SCHEMA_VERSION: str(found.version)}
    return NewEvent(stream, found.name, data, metadata=metadata, event_id=event_id)


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
