"""From recorded events to typed ones, with a policy for those that can't be decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from eventbraid._recorded import PARTS, Recorded, SetAside, expanded
from eventbraid._undecoded import OnUndecodable, UndecodedEvent
from eventbraid.domain._invalid_value import shown_argument
from eventbraid.errors import EventDecodeError, InvalidArgument, UnknownEventType
from eventbraid.event._decode_steps import (
    SCHEMA_VERSION,
    decode_again,
    decode_old,
    schema_version,
)
from eventbraid.event._registry import (
    EventRegistry,
    checked_registry,
    default_registry,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from eventbraid.store import RecordedEvent


class EventDecoder:
    """Decodes recorded events: a registry, and a policy for undecodable events.

    The same policy is an argument of each typed read. No policy skips an event in
    silence, and after each of them a read can continue with the next event.

    Args:
        registry: The registry of the classes and upcasters.
        on_undecodable: What to do with an event whose type is unknown or whose body
            doesn't decode: ``"raise"``, ``"raw"`` to get an `UndecodedEvent` in its
            place, or a function that sets it aside.

    Raises:
        InvalidArgument: The policy is something else.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.event import EventDecoder
        >>> @eb.event("doc.gong.struck")
        ... class GongStruck:
        ...     times: int
        >>> unreadable = []
        >>> decoder = EventDecoder(on_undecodable=unreadable.append)
        >>> with eb.open("memory:") as store:
        ...     done = store.append(
        ...         [
        ...             eb.new_event("gong-1", GongStruck(3)),
        ...             ("gong-1", "doc.gong.struck", b'{"times": "often"}'),
        ...         ]
        ...     )
        ...     for raw in store.read_stream("gong-1"):
        ...         for recorded in decoder.decode(raw):
        ...             print(recorded.version, recorded.event)
        1 GongStruck(times=3)
        >>> [undecoded.raw.version for undecoded in unreadable]
        [2]
    """

    __slots__ = ("_decoders", "_find", "_generation", "_on_undecodable", "_registry")

    def __init__(
        self,
        *,
        registry: EventRegistry = default_registry,
        on_undecodable: OnUndecodable = "raise",
    ) -> None:
        """Validate the policy."""
        if not (on_undecodable in ("raise", "raw") or callable(on_undecodable)):
            raise InvalidArgument(
                "on_undecodable",
                shown_argument(on_undecodable),
                'it must be "raise", "raw", or a function that gets an UndecodedEvent',
            )
        self._registry = checked_registry(registry)
        self._find = registry.find
        # The decoders of version 1 by type, until a class is registered again.
        self._decoders: dict[str, Callable[[bytes], object]] = {}
        self._generation = registry.generation
        self._on_undecodable: OnUndecodable = on_undecodable

    @property
    def registry(self) -> EventRegistry:
        """The registry of the classes and upcasters."""
        return self._registry

    @property
    def on_undecodable(self) -> OnUndecodable:
        """What to do with an event that can't be decoded."""
        return self._on_undecodable

    def decode(self, recorded: RecordedEvent, /) -> tuple[Recorded[object], ...]:
        """Decode one recorded event.

        Args:
            recorded: The event as it was read from a store.

        Returns:
            One typed event, unless upcasters split the event into several or drop it,
            or the policy sets it aside. All of them have the stream, the version and
            the position of the recorded event.

        Raises:
            UnknownEventType: Neither a class nor an upcaster is registered for it.
            EventDecodeError: Its body isn't what the class demands.
        """
        one = self.pair(recorded)
        if type(one.event) in PARTS:
            return tuple(expanded([one]))
        return (one,)

    def decode_all(
        self, recorded: Iterable[RecordedEvent], /
    ) -> Iterator[Recorded[object]]:
        """Iterate over the typed events of a read, in order.

        Args:
            recorded: The events as they are read from a store.

        Raises:
            UnknownEventType: Neither a class nor an upcaster is registered for one.
            EventDecodeError: A body isn't what the class demands.

        Example:
            >>> import eventbraid as eb
            >>> from eventbraid.event import EventDecoder
            >>> @eb.event("doc.gong.hung")
            ... class GongHung: ...
            >>> with eb.open("memory:") as store:
            ...     done = store.append([eb.new_event("gong-1", GongHung())])
            ...     read = store.read_stream("gong-1")
            ...     [one.event for one in EventDecoder().decode_all(read)]
            [GongHung()]
        """
        pair = self.pair
        for raw in recorded:
            one = pair(raw)
            if type(one.event) in PARTS:
                yield from expanded([one])
            else:
                yield one

    def current_decoders(self) -> Mapping[str, Callable[[bytes], object]]:
        """Return the functions that decode bodies of version 1, by event type.

        The types of which `event` has decoded an event are in it, as long as no class
        is registered again.
        """
        if self._generation != self._registry.generation:
            self._decoders, self._generation = {}, self._registry.generation
        return self._decoders

    def event(self, recorded: RecordedEvent) -> object:
        """Return the typed event of a recorded event, or one of the classes of `PARTS`.

        This is for folds, which need no record: it makes as few calls as it can.
        """
        if recorded.metadata_value(SCHEMA_VERSION) is None:
            if self._generation != self._registry.generation:
                self._decoders, self._generation = {}, self._registry.generation
            decode = self._decoders.get(recorded.type)
            if decode is None:
                found = self._find(recorded.type, 1)
                if found is not None:
                    decode = self._decoders[recorded.type] = found.codec.decode
            if decode is not None:
                try:
                    return decode(recorded.data)
                except Exception:  # noqa: BLE001, S110 - raised again below
                    pass
        decoded: object = self.pair(recorded).event
        return decoded

    def pair(self, recorded: RecordedEvent) -> Recorded[Any]:
        """Return one entry for a recorded event, whatever upcasters make of it.

        This is for caches, which find an event by its version. `expanded` makes one
        entry for each typed event of it.
        """
        try:
            version = schema_version(recorded)
            found = self._find(recorded.type, version)
            if found is not None:
                return Recorded(found.codec.decode(recorded.data), recorded)
            decoded = decode_old(recorded, version, self._registry)
        except Exception as error:  # noqa: BLE001 - returned as the refusal
            decoded = decode_again(recorded, error, self._registry)
        if isinstance(decoded, UnknownEventType | EventDecodeError):
            return self.refused(recorded, decoded)
        return Recorded(decoded, recorded)

    def refused(
        self, recorded: RecordedEvent, error: UnknownEventType | EventDecodeError
    ) -> Recorded[Any]:
        """Apply the policy to an event that can't be decoded, and return its entry."""
        if self._on_undecodable == "raise":
            raise error
        return Recorded(self._substitute(recorded, error), recorded)

    def events(self, recorded: Iterable[RecordedEvent]) -> tuple[object, ...]:
        """Return the typed events of records, without the records."""
        return tuple([one.event for one in self.decode_all(recorded)])

    def _substitute(
        self, recorded: RecordedEvent, error: UnknownEventType | EventDecodeError
    ) -> object:
        self._registry.note_refused_type()
        policy = self._on_undecodable
        undecoded = UndecodedEvent(recorded, error)
        if policy == "raw":
            return undecoded
        cast("Callable[[UndecodedEvent], object]", policy)(undecoded)
        return SetAside()

    def __eq__(self, other: object, /) -> bool:
        """Return whether both decode all events alike: they can share caches."""
        if not isinstance(other, EventDecoder):
            return NotImplemented
        return (
            self._registry is other._registry
            and self._on_undecodable == other._on_undecodable
        )

    def __hash__(self) -> int:
        return hash(id(self._registry))

    def __repr__(self) -> str:
        return f"EventDecoder(on_undecodable={self._on_undecodable!r})"
