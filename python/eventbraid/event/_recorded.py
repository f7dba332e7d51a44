"""An event as it was recorded, with its decoded object."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    from eventbraid.store import RecordedEvent

E_co = TypeVar("E_co", covariant=True)


class Recorded(Generic[E_co]):
    """A typed event with its place in the log and in its stream.

    Commands fold these in ``apply``. It has all that a `RecordedEvent` has, and the
    decoded event.

    Args:
        event: The decoded event.
        raw: The event as it was read from the store.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.door.opened")
        ... class DoorOpened:
        ...     by: str
        >>> with eb.open("memory:") as store:
        ...     done = store.append([eb.new_event("door-1", DoorOpened("mia"))])
        ...     [raw] = store.read_stream("door-1")
        >>> recorded = eb.Recorded(eb.decode_event(raw), raw)
        >>> recorded.event, recorded.stream, recorded.version
        (DoorOpened(by='mia'), 'door-1', 1)
    """

    __slots__ = ("_event", "_position", "_raw")

    def __init__(self, event: E_co, raw: RecordedEvent, /) -> None:
        """Pair an event with its record."""
        self._event = event
        self._raw = raw
        self._position = raw.position

    @property
    def event(self) -> E_co:
        """The decoded event."""
        return self._event

    @property
    def stream(self) -> str:
        """The id of its stream."""
        return self._raw.stream

    @property
    def version(self) -> int:
        """Its place in its stream, counted from 1."""
        return self._raw.version

    @property
    def position(self) -> int:
        """Its place in the log, counted from 1."""
        return self._position

    @property
    def type(self) -> str:
        """The event type."""
        return self._raw.type

    @property
    def event_id(self) -> UUID:
        """Its id: a UUIDv7, unless the writer chose another."""
        return self._raw.event_id

    @property
    def recorded_at(self) -> datetime:
        """When it was appended, in UTC."""
        return self._raw.recorded_at

    @property
    def metadata(self) -> Mapping[str, str]:
        """Further facts about the event, besides its body; read only."""
        return self._raw.metadata

    @property
    def correlation_id(self) -> str | None:
        """The request that it belongs to."""
        return self._raw.correlation_id

    @property
    def causation_id(self) -> str | None:
        """The event or command that caused it."""
        return self._raw.causation_id

    @property
    def data(self) -> bytes:
        """The body, as it was recorded."""
        return self._raw.data

    def __sizeof__(self) -> int:
        """Return the bytes that it takes with its record, without the decoded event."""
        return object.__sizeof__(self) + self._raw.__sizeof__()

    def __eq__(self, other: object, /) -> bool:
        if not isinstance(other, Recorded):
            return NotImplemented
        return self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        place = f"{self.stream!r} version {self.version}, position {self.position}"
        return f"<Recorded {self.event!r} in {place}>"


def kinds_of(recorded: Iterable[Recorded[object]]) -> set[type]:
    """Return the classes of some events."""
    return {type(one.event) for one in recorded}


POSITION = operator.attrgetter("_position")
"""The key that sorts recorded events; in C, because there may be many."""
