"""Recorded events that can't be decoded, and what a typed read does with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from eventbraid._native import RecordedEvent
    from eventbraid.errors import EventDecodeError, UnknownEventType


@dataclass(frozen=True, slots=True)
class UndecodedEvent:
    """A recorded event that this program can't decode, in place of its typed event.

    Attributes:
        raw: The event as it was read from the store.
        error: The reason: its type is unknown, or its body doesn't decode.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.event import EventDecoder, UndecodedEvent
        >>> decoder = EventDecoder(on_undecodable="raw")
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("a-1", "doc.unheard_of", b"{}")])
        ...     [raw] = store.read_stream("a-1")
        >>> [recorded] = decoder.decode(raw)
        >>> match recorded.event:
        ...     case UndecodedEvent(raw, error):
        ...         print(raw.type, type(error).__name__)
        doc.unheard_of UnknownEventType
    """

    raw: RecordedEvent
    error: UnknownEventType | EventDecodeError = field(compare=False)


OnUndecodable: TypeAlias = Literal["raise", "raw"] | Callable[[UndecodedEvent], object]
"""What a typed read does with an event that can't be decoded.

``"raise"`` raises `UnknownEventType` or `EventDecodeError`. ``"raw"`` returns an
`UndecodedEvent` in place of the typed event. A function is called with the
`UndecodedEvent`, to set it aside, and the read continues without it.
"""
