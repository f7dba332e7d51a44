"""System streams: their ids begin with ``$``, and only the library writes to them."""

from __future__ import annotations

from eventbraid._native import NewEvent
from eventbraid._native import system_event as _marked


def system_event(stream: str, event_type: str, data: bytes) -> NewEvent:
    """Build an event that a store accepts for a system stream.

    Appends of other events to a system stream are refused. Only the library's own
    layers use this.

    Args:
        stream: The stream's id.
        event_type: The event type.
        data: The body.
    """
    return _marked(NewEvent(stream, event_type, data))
