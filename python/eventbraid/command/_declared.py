"""Fields of a command that declare its streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast, overload

from eventbraid.command._stream import Stream
from eventbraid.command._write import Writable, Writables
from eventbraid.errors import InvalidArgument, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

E = TypeVar("E")

STREAMS_LIMIT = 10_000
"""How many streams one commit can check."""

GIVEN_LIMIT = 100_000
"""How many streams may be given for one field, each as often as it is given."""


def stream(kind: type[Stream[E]], /) -> Declared[E]:
    """Declare one stream that a command reads and may write.

    Args:
        kind: The kind of the stream.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.door.locked")
        ... class DoorLocked: ...
        >>> class Door(eb.Stream[DoorLocked], category="door"): ...
        >>> class LockDoor(eb.Command[None, DoorLocked]):
        ...     door: eb.Declared[DoorLocked] = eb.stream(Door)
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.door.write(DoorLocked())
        >>> LockDoor(door="door-1")
        LockDoor(door='door-1')
    """
    return Declared(kind)


def streams(kind: type[Stream[E]], /) -> DeclaredMany[E]:
    """Declare any number of streams of one kind, known when the command is made.

    Args:
        kind: The kind of the streams.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.seat.taken")
        ... class SeatTaken: ...
        >>> class Seat(eb.Stream[SeatTaken], category="seat"): ...
        >>> class TakeSeats(eb.Command[None, SeatTaken]):
        ...     seats: eb.DeclaredMany[SeatTaken] = eb.streams(Seat)
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         for seat in self.seats:
        ...             yield seat.write(SeatTaken())
        >>> TakeSeats(seats=["seat-1", "seat-2"])
        TakeSeats(seats=('seat-1', 'seat-2'))
    """
    return DeclaredMany(kind)


class Declared(Generic[E]):
    """A field that takes a stream's id and is read as its handle.

    Its type argument is the union of the stream's events. Made by `stream`.

    Attributes:
        kind: The kind of the stream.
        name: The field's name.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.gate.shut")
        ... class GateShut: ...
        >>> class Gate(eb.Stream[GateShut], category="gate"): ...
        >>> class ShutGate(eb.Command[None, GateShut]):
        ...     gate: eb.Declared[GateShut] = eb.stream(Gate)
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.gate.write(GateShut())
        >>> ShutGate.gate.kind.category, ShutGate(gate="gate-1").gate
        ('gate', 'gate-1')
    """

    def __init__(self, kind: type[Stream[E]], /) -> None:
        """Declare a stream of this kind."""
        self.kind = kind
        self.name = ""

    def __set_name__(self, owner: type[object], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, command: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, command: object, owner: type[object]) -> Writable[E]: ...
    def __get__(
        self, command: object | None, owner: type[object]
    ) -> Self | Writable[E]:
        """Give the stream's handle, bound to the command."""
        if command is None:
            _refuse_as_default(self.name, owner)
            return self
        return Writable(command.__dict__[self.name], command)

    def __set__(self, command: object, value: str | Stream[E]) -> None:
        """Keep the stream's id; only the command's constructor gets here."""
        command.__dict__[self.name] = _id_of(self.kind, value)

    def ids_of(self, command: object) -> tuple[str, ...]:
        """Give the one stream that a command declares here."""
        return (command.__dict__[self.name],)


class DeclaredMany(Generic[E]):
    """A field that takes many streams' ids and is read as their handles.

    Its type argument is the union of the streams' events. Made by `streams`.

    Attributes:
        kind: The kind of the streams.
        name: The field's name.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.window.shut")
        ... class WindowShut: ...
        >>> class Window(eb.Stream[WindowShut], category="window"): ...
        >>> class ShutAll(eb.Command[None, WindowShut]):
        ...     windows: eb.DeclaredMany[WindowShut] = eb.streams(Window)
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         return [window.write(WindowShut()) for window in self.windows]
        >>> ShutAll(windows=["window-1", "window-2", "window-1"]).windows
        ('window-1', 'window-2')
    """

    def __init__(self, kind: type[Stream[E]], /) -> None:
        """Declare any number of streams of this kind."""
        self.kind = kind
        self.name = ""

    def __set_name__(self, owner: type[object], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, command: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, command: object, owner: type[object]) -> Writables[E]: ...
    def __get__(
        self, command: object | None, owner: type[object]
    ) -> Self | Writables[E]:
        """Give the streams' handles, bound to the command."""
        if command is None:
            _refuse_as_default(self.name, owner)
            return self
        ids = self.ids_of(command)
        return Writables(Writable(one, command) for one in ids)

    def __set__(self, command: object, value: Iterable[str | Stream[E]]) -> None:
        """Keep the streams' ids, each once; only the constructor gets here.

        Raises:
            LimitExceeded: There are more than one commit can check.
        """
        if isinstance(value, str):
            raise InvalidArgument(
                f"value of {self.name}", value, "give a list of stream ids, not one"
            )
        ids = dict[str, None]()
        for number, one in enumerate(value):
            ids[_id_of(self.kind, one)] = None
            if len(ids) > STREAMS_LIMIT or number >= GIVEN_LIMIT:
                what = f"streams of {type(command).__name__}.{self.name}"
                limit = STREAMS_LIMIT if len(ids) > STREAMS_LIMIT else GIVEN_LIMIT
                raise LimitExceeded(what, max(len(ids), number + 1), limit)
        command.__dict__[self.name] = tuple(ids)

    def ids_of(self, command: object) -> tuple[str, ...]:
        """Give the streams that a command declares here."""
        return cast("tuple[str, ...]", command.__dict__[self.name])


def _id_of(kind: type[Stream[E]], value: object) -> str:
    return kind.checked_id(value.id if isinstance(value, Stream) else value)


def _refuse_as_default(name: str, owner: type[object]) -> None:
    """Hide the descriptor until its class is made.

    While a class becomes a dataclass, a descriptor found on it would be taken for the
    field's default.
    """
    if name not in owner.__dict__.get("__dataclass_fields__", ()):
        raise AttributeError(name)
