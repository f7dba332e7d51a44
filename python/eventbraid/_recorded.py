"""An event as it was recorded, with its decoded object."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from eventbraid._native import RecordedEvent

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
    def part(self) -> int:
        """Its place among the events that upcasters made of its record, from 1.

        Only an event that an upcaster split has another part than 1. The parts have the
        same version and position: a read model that needs a unique key of a typed event
        uses the position and the part.
        """
        return 1

    @property
    def type(self) -> str:
        """The event type, as it was recorded."""
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
    def original_time(self) -> datetime | None:
        """When it happened, in UTC, if its writer passed that time; else None."""
        return self._raw.original_time

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

    def _parts(self) -> list[Recorded[Any]]:
        """Return the entries of a record whose event is `Parts`."""
        parts = cast("Parts", self._event)
        return [
            RecordedPart(event, self._raw, number)
            for number, event in enumerate(parts, 1)
        ]

    def __sizeof__(self) -> int:
        """Return the bytes that it takes with its record, without the decoded event."""
        return object.__sizeof__(self) + self._raw.__sizeof__()

    def __eq__(self, other: object, /) -> bool:
        if not isinstance(other, Recorded):
            return NotImplemented
        return self._raw == other._raw and self.part == other.part

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        place = f"{self.stream!r} version {self.version}, position {self.position}"
        return f"<Recorded {self.event!r} in {place}>"


class RecordedPart(Recorded[E_co]):
    """One of the events that upcasters made of one record."""

    __slots__ = ("_part",)

    def __init__(self, event: E_co, raw: RecordedEvent, part: int, /) -> None:
        """Pair an event with its record, and with its place among the record's events.

        Args:
            event: The decoded event.
            raw: The record.
            part: Its place, from 1.
        """
        super().__init__(event, raw)
        self._part = part

    @property
    def part(self) -> int:
        """Its place among the events that upcasters made of its record, from 1."""
        return self._part


class Parts(tuple[object, ...]):
    """The events that upcasters made of one record, if that isn't exactly one.

    Caches keep one `Recorded` for each record, so that its place in a list follows from
    its version. A record that was split or dropped has this as its event there.
    `expanded` replaces it before a fold or a caller gets the events.
    """

    __slots__ = ()


class SetAside(Parts):
    """No event: the reader's policy has set aside a record that can't be decoded."""

    __slots__ = ()


PARTS: frozenset[type] = frozenset({Parts, SetAside})
"""The classes of events that `expanded` replaces."""


def expanded(recorded: Iterable[Recorded[Any]]) -> list[Recorded[Any]]:
    """Return recorded events with one entry for each typed event.

    Args:
        recorded: One entry for each record.
    """
    events: list[Recorded[Any]] = []
    for one in recorded:
        if type(one._event) in PARTS:  # noqa: SLF001 - of the same module
            events += one._parts()  # noqa: SLF001 - as above
        else:
            events.append(one)
    return events


def kinds_of(recorded: Sequence[Recorded[Any]]) -> set[type]:
    """Return the classes of some events, also of those in `Parts`."""
    kinds: set[type] = {type(one.event) for one in recorded}
    if Parts in kinds:
        for one in recorded:
            if type(one.event) is Parts:
                kinds.update(map(type, one.event))
    return kinds


POSITION = operator.attrgetter("_position")
"""The key that sorts recorded events; in C, because there may be many."""
