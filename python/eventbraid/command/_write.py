"""Writes, and the handles of the streams to which a command may write."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from eventbraid.command._stream import without_state
from eventbraid.errors import InvalidArgument
from eventbraid.errors._base import MAXIMUM_LISTED

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Self

    from eventbraid.command._cached_state import States
    from eventbraid.command._stream import Stream
    from eventbraid.store import NewEvent

E_contra = TypeVar("E_contra", contravariant=True)
S_co = TypeVar("S_co", covariant=True, default=None)

STATES = " states"
"""The entry of a command's ``__dict__`` with the states of its streams, by kind and id.

Only the copy of the command that an execution makes has it. No field has this name,
because it has a space.
"""

MEMBERS = " members"
"""The entry of a command's ``__dict__`` with the discovered streams of whole kinds.

It is made like `STATES`.
"""


_new = object.__new__
_set = object.__setattr__


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
        original_time: When the event happened, if that isn't when it is recorded.

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
    original_time: datetime | None = None
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


class Writable(str, Generic[E_contra, S_co]):
    """A stream's id inside the command that declared it, with its state and its writes.

    It is a `str`, so it can be compared with ``recorded.stream`` and used as the key of
    a mapping.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.tap.opened")
        ... class TapOpened: ...
        >>> class Tap(eb.Stream[TapOpened], category="tap"): ...
        >>> class OpenTap(eb.StatefulCommand[None, TapOpened]):
        ...     tap: eb.Declared[Tap]
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.tap.write(TapOpened())
        >>> OpenTap(tap="tap-1").tap == "tap-1"
        True
    """

    __slots__ = ("kind", "owner")

    kind: type[Stream[Any, Any]]
    owner: object

    def __new__(
        cls, stream_id: str, owner: object, kind: type[Stream[Any, Any]], /
    ) -> Self:
        """Build the handle of a stream for the command that may write to it."""
        handle = super().__new__(cls, stream_id)
        handle.owner = owner
        handle.kind = kind
        return handle

    def __reduce__(
        self,
    ) -> tuple[type[Self], tuple[str, object, type[Stream[Any, Any]]]]:
        """Restore the handle from the stream and the command that may write to it."""
        return type(self), (str.__str__(self), self.owner, self.kind)

    @property
    def state(self) -> S_co:
        """The state of the stream, in `decide` and `discover`.

        Raises:
            InvalidArgument: The kind of the stream has no state, the command isn't
                being executed, or the stream hasn't been read.
        """
        states: States = self.owner.__dict__.get(STATES, {})
        read = states.get(self.kind, {})
        if self not in read or not self.kind.has_state:
            raise self._unavailable()
        state: S_co = read[self][1]
        return state

    @property
    def version(self) -> int:
        """The number of events that the state is folded from.

        Raises:
            InvalidArgument: The command isn't being executed, or the stream hasn't been
                read.
        """
        states: States = self.owner.__dict__.get(STATES, {})
        read = states.get(self.kind, {})
        if self not in read:
            raise self._unavailable()
        return read[self][0]

    def _unavailable(self) -> InvalidArgument:
        if not self.kind.has_state:
            remedy = without_state(self.kind)
        elif STATES in self.owner.__dict__:
            remedy = "the stream was not read; return it from discover() first"
        else:
            remedy = (
                "it is known only during an execution, in decide() and discover(); "
                "to query it, use load() of the executor"
            )
        return InvalidArgument("state of stream", str(self), remedy)

    def write(
        self,
        event: E_contra,
        /,
        *,
        metadata: Mapping[str, str] | None = None,
        original_time: datetime | None = None,
    ) -> Write:
        """Return the write of an event to this stream, for `decide` to yield.

        Args:
            event: An event of the stream's kind.
            metadata: Further facts about this event, besides its body.
            original_time: When the event happened, if that isn't when it is recorded,
                for example in an import of history. It has a time zone, and readers get
                it in UTC. A command gets it as one of its fields, because `decide`
                doesn't read the clock.

        Example:
            >>> from datetime import UTC, datetime
            >>> import eventbraid as eb
            >>> @eb.event("doc.meter.read")
            ... class MeterRead:
            ...     kwh: int
            >>> class Meter(eb.Stream[MeterRead], category="meter"): ...
            >>> class Import(eb.Command):
            ...     meter: eb.Declared[Meter]
            ...     kwh: int
            ...     read_at: datetime
            ...
            ...     def decide(self):
            ...         event = MeterRead(self.kwh)
            ...         yield self.meter.write(event, original_time=self.read_at)
            >>> with eb.open("memory:") as store:
            ...     read_at = datetime(1999, 12, 31, tzinfo=UTC)
            ...     command = Import(meter="meter-1", kwh=7, read_at=read_at)
            ...     done = eb.Executor(store).execute(command)
            ...     [recorded] = store.read_stream("meter-1")
            >>> str(recorded.original_time)
            '1999-12-31 00:00:00+00:00'
        """
        # As `Write(...)` does, in C: its constructor is a call in Python.
        write = _new(Write)
        _set(write, "stream", str.__str__(self))
        _set(write, "event", event)
        _set(write, "metadata", metadata)
        _set(write, "original_time", original_time)
        _set(write, "owner", self.owner)
        return write


class Writables(tuple[Writable[E_contra, S_co], ...], Generic[E_contra, S_co]):
    """The handles of many streams of one kind.

    They are those of a field that declares many streams, in the order given, or those
    of all streams of a kind, in the order of their first events.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.lamp.dimmed")
        ... class LampDimmed: ...
        >>> class Lamp(eb.Stream[LampDimmed], category="lamp"): ...
        >>> class Dim(eb.StatefulCommand[None, LampDimmed]):
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

    def of(self, stream_id: str, /) -> Writable[E_contra, S_co]:
        """Return the handle of one of the streams.

        Args:
            stream_id: The stream's id.

        Raises:
            InvalidArgument: The stream isn't among them.
        """
        for handle in self:
            if handle == stream_id:
                return handle
        listed = ", ".join(self[:MAXIMUM_LISTED])
        if len(self) > MAXIMUM_LISTED:
            listed += f" and {len(self) - MAXIMUM_LISTED} more"
        raise InvalidArgument(
            "stream", stream_id, f"it is not among these streams: {listed or 'none'}"
        )
