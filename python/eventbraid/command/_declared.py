"""The annotations of the fields that declare a command's streams."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from eventbraid.command._stream import Stream
from eventbraid.command._write import Writable, Writables
from eventbraid.errors import InvalidArgument, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

_bare_handle: Callable[[str], Writable[Any, Any]] = partial(str.__new__, Writable)

E = TypeVar("E")
S = TypeVar("S")
K_co = TypeVar("K_co", bound=Stream[Any, Any], covariant=True)

STREAMS_LIMIT = 10_000
"""The maximum number of streams that one commit can check."""

GIVEN_LIMIT = 100_000
"""The maximum number of ids that may be passed for one field, repetitions included."""


class Declared(Generic[K_co]):
    """The annotation of a field that declares one stream of a command.

    The command reads the stream and may write to it. The argument of the constructor is
    the stream's id, as text or as an instance of the stream's kind. In the command, the
    field is the stream's handle: a `Writable` for the kind's events.

    The annotation is evaluated when the command's class is defined. So the kind must be
    defined before the class, and imported outside of ``if TYPE_CHECKING``.

    Attributes:
        kind: The kind of the stream.
        name: The field's name.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.gate.shut")
        ... class GateShut: ...
        >>> class Gate(eb.Stream[GateShut], category="gate"): ...
        >>> class ShutGate(eb.StatefulCommand[None, GateShut]):
        ...     gate: eb.Declared[Gate]
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.gate.write(GateShut())
        >>> ShutGate(gate="gate-1"), ShutGate(gate=Gate("gate-2")).gate
        (ShutGate(gate='gate-1'), 'gate-2')
        >>> ShutGate.gate.kind.category
        'gate'
    """

    def __init__(self, kind: type[K_co], name: str, /) -> None:
        """Build the descriptor of a field; `Command` does it for each annotation."""
        self.kind = kind
        self.name = name

    @overload
    def __get__(self, command: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(
        self: Declared[Stream[E, S]], command: object, owner: type[object]
    ) -> Writable[E, S]: ...
    def __get__(
        self, command: object | None, owner: type[object]
    ) -> Self | Writable[Any, Any]:
        """Return the stream's handle, bound to the command."""
        if command is None:
            return self
        # As `Writable(...)` does, in C: a command asks for its handles often.
        handle = _bare_handle(command.__dict__[self.name])
        handle.owner = command
        handle.kind = self.kind
        return handle

    def __set__(self, command: object, value: str | K_co) -> None:
        """Set the stream's id; in a frozen command only the constructor does this."""
        command.__dict__[self.name] = _id_of(self.kind, value)

    def ids_of(self, command: object) -> tuple[str, ...]:
        """Return the stream of this field of a command, as a tuple."""
        return (command.__dict__[self.name],)


class DeclaredMany(Generic[K_co]):
    """The annotation of a field that declares any number of streams of one kind.

    The argument of the constructor is a list of the streams' ids. In the command, the
    field is a tuple of the streams' handles, without repetitions. See `Declared`.

    Attributes:
        kind: The kind of the streams.
        name: The field's name.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.window.shut")
        ... class WindowShut: ...
        >>> class Window(eb.Stream[WindowShut], category="window"): ...
        >>> class ShutAll(eb.StatefulCommand[None, WindowShut]):
        ...     windows: eb.DeclaredMany[Window]
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         return [window.write(WindowShut()) for window in self.windows]
        >>> ShutAll(windows=["window-1", "window-2", "window-1"]).windows
        ('window-1', 'window-2')
    """

    def __init__(self, kind: type[K_co], name: str, /) -> None:
        """Build the descriptor of a field; `Command` does it for each annotation."""
        self.kind = kind
        self.name = name

    @overload
    def __get__(self, command: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(
        self: DeclaredMany[Stream[E, S]], command: object, owner: type[object]
    ) -> Writables[E, S]: ...
    def __get__(
        self, command: object | None, owner: type[object]
    ) -> Self | Writables[Any, Any]:
        """Return the streams' handles, bound to the command."""
        if command is None:
            return self
        ids = self.ids_of(command)
        return Writables(Writable(one, command, self.kind) for one in ids)

    def __set__(self, command: object, value: Iterable[str | K_co]) -> None:
        """Set the streams' ids without repetitions; only the constructor does this.

        Raises:
            LimitExceeded: There are more streams than one commit can check.
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
        """Return the streams of this field of a command."""
        return cast("tuple[str, ...]", command.__dict__[self.name])


def _id_of(kind: type[Stream[Any, Any]], value: object) -> str:
    return kind.checked_id(value.id if isinstance(value, Stream) else value)
