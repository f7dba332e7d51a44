"""What both forms of commands have in common."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar, TypeVar, overload

from eventbraid.command._annotated_fields import make_dataclass
from eventbraid.command._shape import Shape
from eventbraid.command._write import MEMBERS, Writable, Writables
from eventbraid.domain._fields import check_when_made
from eventbraid.domain._schema import Use
from eventbraid.errors import InvalidArgument

if TYPE_CHECKING:
    from eventbraid.command._cached_state import Members
    from eventbraid.command._stream import Stream

E = TypeVar("E")
S = TypeVar("S")


class CommandBase(ABC):
    """A request that reads streams and decides on new events.

    Derive commands from `Command`, or from `StatefulCommand` if they have a state of
    their own.
    """

    __shape__: ClassVar[Shape]

    @overload
    def discovered(self, stream: Stream[E, S], /) -> Writable[E, S]: ...
    @overload
    def discovered(self, stream: type[Stream[E, S]], /) -> Writables[E, S]: ...
    def discovered(
        self, stream: Stream[E, S] | type[Stream[E, S]], /
    ) -> Writable[E, S] | Writables[E, S]:
        """Return the handle of a stream, or of all streams of a kind.

        Args:
            stream: A stream that `discover` returned; a write to any other stream is
                refused by the executor (`UndeclaredStream`). Or a kind that `discover`
                returned: then the handles of all its streams that have events, in the
                order of their first events.

        Raises:
            InvalidArgument: The kind was not discovered, or the command isn't being
                executed.
        """
        if not isinstance(stream, type):
            return Writable(stream.id, self, type(stream))
        members: Members = self.__dict__.get(MEMBERS, {})
        if stream not in members:
            raise InvalidArgument(
                "discovered kind",
                stream.__name__,
                "its streams are known only during an execution, in decide(), and if "
                "discover() returned the kind",
            )
        return Writables(Writable(one, self, stream) for one in members[stream])


def define_command(
    cls: type[CommandBase], form: type[CommandBase], *, abstract: bool, name: str | None
) -> None:
    """Make a frozen, keyword-only dataclass of a new command class; validate it.

    Args:
        cls: The new class.
        form: `Command` or `StatefulCommand`.
        abstract: Whether the class leaves methods to its subclasses.
        name: Its name in the content of idempotency keys; by default, its qualified
            name.

    Raises:
        TypeError: The class isn't a valid command.
    """
    check_when_made(cls, Use.COMMAND)
    make_dataclass(cls)
    cls.__shape__ = Shape.of(
        cls,
        form,
        discovers=_definer(cls, "discover") is not form,
        abstract=abstract,
        name=name,
    )


def _definer(kind: type, method: str) -> type:
    return next(base for base in kind.__mro__ if method in vars(base))
