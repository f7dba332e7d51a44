"""What a store needs of a typed stream, below the layers that decode events.

A store reads bytes, and the classes of streams and the registries of events are in
layers above it. So a store gets the decoder of a typed read from the kind of stream
itself, and pairs the two without knowing either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eventbraid._event_types import EventTypes
    from eventbraid._native import RecordedEvent
    from eventbraid._recorded import Recorded
    from eventbraid._undecoded import OnUndecodable

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class TypedStream(Generic[E]):
    """The id of a stream whose events have known classes; `eventbraid.Stream` is one.

    The typed reads of a store accept it. A program derives from `eventbraid.Stream`,
    which implements it.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.store import TypedStream
        >>> issubclass(eb.Stream, TypedStream)
        True
    """

    # Invariant in `E`. The other variances would accept wrong programs: a covariant one
    # lets `new_event` write any event, a contravariant one lets a read promise any.
    __slots__ = ()

    category: ClassVar[str] = ""

    @property
    def id(self) -> str:
        """The stream's id."""
        raise NotImplementedError

    @classmethod
    def event_decoder(
        cls, registry: EventTypes | None, on_undecodable: OnUndecodable
    ) -> StreamDecoder[E]:
        """Build the decoder of a typed read of such streams.

        Args:
            registry: The registry of the store.
            on_undecodable: The policy of the read.

        Raises:
            InvalidArgument: The policy is invalid.
            TypeError: The kind has no category.
        """
        raise NotImplementedError

    @classmethod
    def refuse_foreign_event(cls, event: object, /) -> None:
        """Raise `InvalidArgument` if an event isn't one of the kind's events."""
        raise NotImplementedError


class StreamDecoder(Protocol[E_co]):
    """Decodes the events of streams of one kind."""

    def decode(self, recorded: RecordedEvent, /) -> tuple[Recorded[E_co], ...]:
        """Decode one recorded event: into one typed event, several, or none."""
        ...

    def decode_all(
        self, recorded: Iterable[RecordedEvent], /
    ) -> Iterator[Recorded[E_co]]:
        """Iterate over the typed events of a read, in order."""
        ...
