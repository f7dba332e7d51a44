"""The events that a test gives, and the store double that a command is executed on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from eventbraid.command import Stream, Write
from eventbraid.errors import (
    ConflictedCategory,
    ConflictedStream,
    IdempotencyMismatch,
    InvalidArgument,
    VersionConflict,
)
from eventbraid.event import new_event
from eventbraid.event._registry import default_registry
from eventbraid.store import (
    ANY,
    EXISTS,
    NO_STREAM,
    Appended,
    CategoryStreams,
    NewEvent,
    RecordedEvent,
    StreamsSnapshot,
)
from eventbraid.testing._clock import ManualClock, SequentialIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from typing import Self

    from eventbraid.event import EventRegistry
    from eventbraid.store import Expectation, Store

E = TypeVar("E")

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class StreamEvents:
    """Some events of one stream; `on` builds it.

    Attributes:
        stream: The stream's id.
        events: The events, in order.
        metadata: The metadata of each of the events; `None` if it is unspecified.
        original_time: The time at which they happened; `None` if it is unspecified.
        recorded_at: The time at which they were recorded; `None` if it is unspecified.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import StreamEvents, on
        >>> @eb.event("doc.shelf.filled")
        ... class Filled: ...
        >>> class Shelf(eb.Stream[Filled], category="shelf"): ...
        >>> on(Shelf("shelf-1"), Filled()) == StreamEvents("shelf-1", (Filled(),))
        True
    """

    stream: str
    events: tuple[object, ...]
    metadata: Mapping[str, str] | None = None
    original_time: datetime | None = None
    recorded_at: datetime | None = None


def on(
    stream: Stream[E, Any],
    /,
    *events: E,
    metadata: Mapping[str, str] | None = None,
    original_time: datetime | None = None,
    recorded_at: datetime | None = None,
) -> StreamEvents:
    """Name the stream of some events, for `given` and for `Outcome.then`.

    A type checker refuses an event that isn't one of the stream's kind.

    Args:
        stream: The stream, as an instance of its kind.
        *events: The events, in order.
        metadata: The metadata of each of them. In `Outcome.then`, the events must have
            this metadata; without the argument it isn't compared.
        original_time: The time at which each of them happened, if that isn't the time
            at which it was recorded. In `Outcome.then`, it is compared like metadata.
        recorded_at: The time at which they were recorded; in `Outcome.then`, it has no
            effect.

    Raises:
        InvalidArgument: The stream isn't an instance of a kind, or an event isn't one
            of its events.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import on
        >>> @eb.event("doc.jar.filled")
        ... class Filled:
        ...     grams: int
        >>> class Jar(eb.Stream[Filled], category="jar"): ...
        >>> on(Jar("jar-1"), Filled(5), Filled(7)).events
        (Filled(grams=5), Filled(grams=7))
    """
    if not isinstance(stream, Stream):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgument(
            "stream", str(stream), "give a stream by its kind: on(Kind(id), event)"
        )
    kinds = stream.events
    for event in events if kinds is not None else ():
        if not isinstance(event, tuple(kinds or ())):
            names = ", ".join(sorted(kind.__name__ for kind in kinds or ()))
            raise InvalidArgument(
                f"event of {stream!r}",
                type(event).__name__,
                f"the events of {type(stream).__name__} are {names}; give a NewEvent "
                "for an event that another program has written",
            )
    return StreamEvents(stream.id, events, metadata, original_time, recorded_at)


def new_events(
    given: Iterable[object], registry: EventRegistry = default_registry
) -> Iterator[tuple[NewEvent, datetime | None]]:
    """Iterate over the events of some arguments, each with the time that was given.

    Raises:
        InvalidArgument: An argument is no `on(...)`, no `Write` and no `NewEvent`.
    """
    for one in given:
        if isinstance(one, StreamEvents):
            for event in one.events:
                new = new_event(
                    one.stream,
                    event,
                    metadata=one.metadata,
                    original_time=one.original_time,
                    registry=registry,
                )
                yield new, one.recorded_at
        elif isinstance(one, Write):
            new = new_event(
                one.stream,
                one.event,
                metadata=one.metadata,
                original_time=one.original_time,
                registry=registry,
            )
            yield new, None
        elif isinstance(one, NewEvent):
            yield one, None
        else:
            raise InvalidArgument(
                "event of a test",
                type(one).__name__,
                "name its stream: on(Kind(id), event), or give a Write or a NewEvent",
            )


class History:
    """A store double in memory: the events that a test gives, and what is appended.

    It has the methods that an executor calls. Its times and ids are the same in each
    run.
    """

    def __init__(self, registry: EventRegistry = default_registry) -> None:
        """Begin without events.

        Args:
            registry: The registry of the events, which an executor uses, too.
        """
        self.registry = registry
        self.events: list[RecordedEvent] = []
        self._clock = ManualClock(step=SECOND)
        self._ids = SequentialIds(self._clock)
        self._results: dict[str, tuple[bytes | None, Appended]] = {}

    def copy(self) -> Self:
        """Return a double with the same events, which are never changed here."""
        copied = copy.copy(self)
        copied.events = list(self.events)
        copied._clock = copy.copy(self._clock)  # noqa: SLF001 - of the same class
        copied._results = dict(self._results)  # noqa: SLF001 - as above
        return copied

    def as_store(self) -> Store:
        """Return this object as a store, for code that calls only these methods.

        An executor needs no others, and needs no coordination.
        """
        return cast("Store", self)

    def give(self, events: Iterable[object]) -> None:
        """Record the events of a test's arguments.

        Raises:
            InvalidArgument: An argument doesn't name the stream of its events.
        """
        for new, recorded_at in new_events(events, self.registry):
            self.record(new, recorded_at)

    def record(self, new: NewEvent, recorded_at: datetime | None = None) -> None:
        """Record an event after all others."""
        if recorded_at is not None:
            self._clock.set(recorded_at)
        self.events.append(
            RecordedEvent(
                stream=new.stream,
                version=self.version(new.stream) + 1,
                position=len(self.events) + 1,
                type=new.type,
                event_id=new.event_id or self._ids(),
                recorded_at=self._clock(),
                data=new.data,
                metadata=new.metadata,
                original_time=new.original_time,
            )
        )

    def version(self, stream: str) -> int:
        """Return the version of a stream."""
        return sum(recorded.stream == stream for recorded in self.events)

    def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Appended:
        """Append events, or return the first result of the idempotency key."""
        if idempotency_key is not None:
            known = self.committed(idempotency_key, content=content)
            if known is not None:
                return known
        failures = [
            ConflictedStream(stream, expected, self.version(stream))
            for stream, expected in (expect or {}).items()
            if not _holds(expected, self.version(stream))
        ]
        categories = [
            ConflictedCategory(category, expected, len(self._category(category)))
            for category, expected in (expect_categories or {}).items()
            if not _holds(expected, len(self._category(category)))
        ]
        if failures or categories:
            raise VersionConflict(failures, categories)
        before = len(self.events)
        for new in events:
            self.record(new)
        result = self._result(before)
        if idempotency_key is not None:
            self._results[idempotency_key] = content, result
        return result

    def _result(self, before: int) -> Appended:
        written = self.events[before:]
        versions = {recorded.stream: recorded.version for recorded in written}
        if not written:
            return Appended(None, None, versions, replayed=False)
        return Appended(before + 1, len(self.events), versions, replayed=False)

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append under an idempotency key."""
        if idempotency_key not in self._results:
            return None
        known_content, known = self._results[idempotency_key]
        if content not in {None, known_content}:
            raise IdempotencyMismatch(idempotency_key)
        return Appended(
            known.first_position, known.last_position, known.versions, replayed=True
        )

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position."""
        position = len(self.events) if at is None else min(at, len(self.events))
        names = list(streams)
        versions = dict.fromkeys(names, 0)
        known = after or {}
        found: list[RecordedEvent] = []
        for recorded in self.events[:position]:
            if recorded.stream in versions:
                versions[recorded.stream] = recorded.version
                if recorded.version > known.get(recorded.stream, 0):
                    found.append(recorded)
        return StreamsSnapshot(position, versions, found)

    def category_streams(
        self,
        category: str,
        /,
        *,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> CategoryStreams:
        """Return the streams of a category as of one position."""
        position = len(self.events) if at is None else min(at, len(self.events))
        streams = self._category(category, position)
        end = None if limit is None else after + limit
        return CategoryStreams(position, len(streams), tuple(streams[after:end]))

    def _category(self, category: str, position: int | None = None) -> list[str]:
        """Return the streams of a category, in the order of their first events."""
        streams = dict.fromkeys(one.stream for one in self.events[:position])
        return [one for one in streams if one.partition("-")[0] == category]

    def read_all(
        self, *, after: int = 0, before: int | None = None
    ) -> Iterator[RecordedEvent]:
        """Read the log."""
        end = len(self.events) if before is None else before - 1
        return iter(self.events[after:end])


def _holds(expected: Expectation, version: int) -> bool:
    if isinstance(expected, int):
        return version == expected
    return {ANY: True, NO_STREAM: version == 0, EXISTS: version > 0}[expected]
