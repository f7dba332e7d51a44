"""The command: what an application derives its own from."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    TypeVar,
    dataclass_transform,
)

from eventbraid.command._declared import stream, streams
from eventbraid.command._shape import Shape
from eventbraid.command._write import Writable
from eventbraid.domain._fields import check_when_made
from eventbraid.domain._schema import Use

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.command._stream import Stream
    from eventbraid.command._write import Write
    from eventbraid.event import Recorded

S = TypeVar("S")
E = TypeVar("E")
T = TypeVar("T")


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(stream, streams, dataclasses.field),
)
class Command(ABC, Generic[S, E]):
    """A request that folds streams into a state and decides on new events.

    Derive a class: its type arguments are the state and the union of all events of
    the streams that it reads. Its fields, always given by name, are the declared
    streams and whatever else the decision needs; an instance can't be changed.

    `initial`, `apply`, `decide` and `discover` are pure: no input or output, no clock,
    no randomness. They may run any number of times. What they need comes in as fields.

    A class that leaves some of them to its own heirs says ``abstract=True``. Declare
    streams in the class that writes to them: mypy takes a declared stream that is
    inherited for the id that it was made with. By ``name=`` a command keeps its
    meaning for idempotency keys when its class moves.

    Raises:
        TypeError: When a class is made: a method is missing, or a declared stream has
            events that the union doesn't name.
        InvalidValue: When an instance is made: a field is of the wrong type.
        InvalidStreamId: When an instance is made: a stream is of another category.

    Example:
        >>> import eventbraid as eb
        >>> class Money(eb.Int, ge=0): ...
        >>> @eb.event("doc.purse.filled")
        ... class Filled:
        ...     amount: Money
        >>> @eb.event("doc.purse.spent")
        ... class Spent:
        ...     amount: Money
        >>> class Purse(eb.Stream[Filled | Spent], category="purse"): ...
        >>> class Spend(eb.Command[Money, Filled | Spent]):
        ...     purse: eb.Declared[Filled | Spent] = eb.stream(Purse)
        ...     amount: Money
        ...
        ...     def initial(self):
        ...         return Money(0)
        ...
        ...     def apply(self, state, recorded, /):
        ...         match recorded.event:
        ...             case Filled(amount):
        ...                 return state + amount
        ...             case Spent(amount):
        ...                 return state - amount
        ...
        ...     def decide(self, state, /):
        ...         eb.require(state >= self.amount, "too_little", left=state)
        ...         yield self.purse.write(Spent(self.amount))
        >>> with eb.open("memory:") as store:
        ...     done = store.append([eb.new_event("purse-1", Filled(Money(9)))])
        ...     spend = Spend(purse="purse-1", amount=Money(4))
        ...     eb.Executor(store).execute(spend).events
        (Spent(amount=Money(4)),)
    """

    __shape__: ClassVar[Shape]

    def __init_subclass__(
        cls, *, abstract: bool = False, name: str | None = None
    ) -> None:
        """Make a frozen, keyword-only dataclass of a new command and check it."""
        super().__init_subclass__()
        check_when_made(cls, Use.COMMAND)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        cls.__shape__ = Shape.of(
            cls,
            Command,
            discovers=_definer(cls, "discover") is not Command,
            abstract=abstract,
            name=name,
        )

    @abstractmethod
    def initial(self) -> S:
        """Give the state before any event."""

    @abstractmethod
    def apply(self, state: S, recorded: Recorded[E], /) -> S:
        """Give the state after one more event.

        Args:
            state: The state so far; it may be changed and given back.
            recorded: The event, with its stream and its place in it.
        """

    @abstractmethod
    def decide(self, state: S, /) -> Iterable[Write]:
        """Decide on events, or refuse with `require`.

        Args:
            state: All declared and discovered streams, folded.

        Returns:
            Writes, made by handles; usually this is a generator. None at all is fine.
        """

    def discover(self, state: S, /) -> Iterable[Stream[Any]]:
        """Ask for further streams, after a look at the state.

        Asked again after each fold, until it asks for nothing new.

        Args:
            state: All streams known so far, folded.

        Returns:
            Streams; those that are known already don't matter.
        """
        del state
        return ()

    def discovered(self, stream: Stream[T], /) -> Writable[T]:
        """Give the handle of a stream that `discover` asked for.

        Args:
            stream: The stream. Whether it was discovered is checked when it is
                written (`UndeclaredStream`).
        """
        return Writable(stream.id, self)


def _definer(kind: type, method: str) -> type:
    return next(base for base in kind.__mro__ if method in vars(base))
