"""The parts of decoding that are rarely needed: old versions, and errors.

`decode_event` and `EventDecoder` decode an event of a current version by themselves,
without a call into this module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import msgspec

from eventbraid.domain._invalid_value import shown
from eventbraid.errors import EventDecodeError, UnknownEventType
from eventbraid.event._codec import TOO_DEEP
from eventbraid.event._recorded import Parts
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
    recorded: RecordedEvent, version: int, registry: EventRegistry
) -> object:
    """Decode an event of a type and version that no class is registered for.

    Args:
        recorded: The event.
        version: Its schema version.
        registry: The registry.

    Returns:
        The typed event to which upcasters lead; `Parts` if it isn't exactly one; an
        `UnknownEventType` for the caller to raise if nothing reads the event.

    Raises:
        Exception: The event can't be decoded; `decode_error` makes an error for the
            caller of it.
    """
    first = registry.upcaster(recorded.type, version)
    events = (
        (recorded.type, version) if first is None else upcast(registry, first, recorded)
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


def decode_error(recorded: RecordedEvent, error: Exception) -> EventDecodeError:
    """Return the error for the caller of an exception that decoding raised.

    Deep nesting, a number of too many digits, an exception of the author's
    `__post_init__` or upcaster: for the reader, each is a body that can't be decoded.
    """
    return EventDecodeError(
        recorded.type, recorded.stream, recorded.position, _reason(error)
    )


def upcast(
    registry: EventRegistry, first: Upcaster, recorded: RecordedEvent
) -> list[object] | tuple[str, int]:
    """Return the typed events that a recorded event of an old version becomes.

    Args:
        registry: The registry.
        first: The upcaster of the event's version.
        recorded: The event.

    Returns:
        The events in order; or the type and version that nothing reads.

    Raises:
        Exception: The event can't be decoded.
    """
    body = cast("object", msgspec.json.decode(recorded.data))
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
            raise UpcastError("its upcasters form a cycle; call registry.validate()")
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
