"""What both forms of commands have in common."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar, TypeVar

from eventbraid.command._annotated_fields import make_dataclass
from eventbraid.command._shape import Shape
from eventbraid.command._write import Writable
from eventbraid.domain._fields import check_when_made
from eventbraid.domain._schema import Use

if TYPE_CHECKING:
    from eventbraid.command._stream import Stream

E = TypeVar("E")
S = TypeVar("S")


class CommandBase(ABC):
    """A request that reads streams and decides on new events.

    Derive commands from `Command`, or from `StatefulCommand` if they have a state of
    their own.
    """

    __shape__: ClassVar[Shape]

    def discovered(self, stream: Stream[E, S], /) -> Writable[E, S]:
        """Return the handle of a stream that `discover` returned.

        Args:
            stream: The stream. A write to a stream that was not discovered is refused
                by the executor (`UndeclaredStream`).
        """
        return Writable(stream.id, self, type(stream))


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
