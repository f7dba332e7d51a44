"""Writes, and the handles of the streams to which a command may write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from eventbraid.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from eventbraid.store import NewEvent

E_contra = TypeVar("E_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Write:
    """One event to append to one stream.

    In `Command.decide`, call `write` of a handle (``self.source.write(...)``), so that
    a type checker can check the event. Construct a `Write` for the argument ``also`` of
    `Executor.execute`.

    Attributes:
        stream: The stream's id.
        event: An event of a registered class.
        metadata: Further facts about this event, besides its body.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.note.taken")
        ... class NoteTaken:
        ...     text: str
        >>> eb.Write("note-1", NoteTaken("milk")).stream
        'note-1'
    """

    stream: str
    event: object
    metadata: Mapping[str, str] | None = None
    owner: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class EncodedWrite(Write):
    """A further write whose event is encoded already, for a record of a saga.

    The event is encoded only once, even if the command is retried. Only the metadata of
    the encoded event is used.

    Attributes:
        encoded: The event to append.
    """

    encoded: NewEvent = field(kw_only=True)


class Writable(str, Generic[E_contra]):
    """A stream's id inside the command that declared it, with the right to write.

    It is a `str`, so it can be compared with ``recorded.stream`` and used as the key of
    a mapping.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.tap.opened")
        ... class TapOpened: ...
        >>> class Tap(eb.Stream[TapOpened], category="tap"): ...
        >>> class OpenTap(eb.Command[None, TapOpened]):
        ...     tap: eb.Declared[Tap]
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.tap.write(TapOpened())
        >>> OpenTap(tap="tap-1").tap == "tap-1"
        True
    """

    __slots__ = ("owner",)

    owner: object

    def __new__(cls, stream_id: str, owner: object, /) -> Self:
        """Build the handle of a stream for the command that may write to it."""
        handle = super().__new__(cls, stream_id)
        handle.owner = owner
        return handle

    def __reduce__(self) -> tuple[type[Self], tuple[str, object]]:
        """Restore the handle from the stream and the command that may write to it."""
        return type(self), (str.__str__(self), self.owner)

    def write(
        self, event: E_contra, /, *, metadata: Mapping[str, str] | None = None
    ) -> Write:
        """Return the write of an event to this stream, for `decide` to yield.

        Args:
            event: An event of the stream's kind.
            metadata: Further facts about this event, besides its body.
        """
        return Write(str.__str__(self), event, metadata, self.owner)


class Writables(tuple[Writable[E_contra], ...]):
    """The handles of a field that declares many streams, in the order given.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.lamp.dimmed")
        ... class LampDimmed: ...
        >>> class Lamp(eb.Stream[LampDimmed], category="lamp"): ...
        >>> class Dim(eb.Command[None, LampDimmed]):
        ...     lamps: eb.DeclaredMany[Lamp]
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         for lamp in self.lamps:
        ...             yield lamp.write(LampDimmed())
        >>> Dim(lamps=["lamp-1", "lamp-2"]).lamps.of("lamp-2")
        'lamp-2'
    """

    __slots__ = ()

    def of(self, stream_id: str, /) -> Writable[E_contra]:
        """Return the handle of one of the streams.

        Args:
            stream_id: The stream's id.

        Raises:
            InvalidArgument: The stream isn't among them.
        """
        for handle in self:
            if handle == stream_id:
                return handle
        raise InvalidArgument(
            "stream", stream_id, f"the field declares only {', '.join(self)}"
        )
