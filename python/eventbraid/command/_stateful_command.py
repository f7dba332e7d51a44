"""The base class of commands that fold their streams into a state of their own."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform

from eventbraid.command._command_base import CommandBase, define_command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.command._stream import Stream
    from eventbraid.command._write import Write
    from eventbraid.event import Recorded

S = TypeVar("S")
E = TypeVar("E")


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(dataclasses.field,),
)
class StatefulCommand(CommandBase, Generic[S, E]):
    """A request that folds its streams into a state of its own, and decides on events.

    Use it if the decision depends on all streams together, or on facts of the events
    that the states of the streams don't have. Otherwise derive from `Command`: states
    of streams are cached, so that no command folds an event again.

    Derive a class: its type arguments are the state and the union of all events of
    the streams that it reads. Its fields are the declared streams, annotated with
    `Declared` or `DeclaredMany`, and the other values that the decision needs. They are
    keyword-only arguments of the constructor, and an instance is immutable.

    `initial`, `apply`, `decide` and `discover` must be pure: no input or output, no
    clock, no random numbers. They may be called any number of times. Values from
    outside are passed in the fields.

    A class that leaves some of the methods to its subclasses is defined with
    ``abstract=True``. Declare a stream in the class that writes to it, because mypy
    gives an inherited declared stream the type of the constructor's argument. With
    ``name=``, the idempotency keys of a command remain valid when its class is renamed
    or moved.

    Raises:
        TypeError: When a class is defined: a method is missing, an annotation doesn't
            name a kind of stream, or a declared stream has events that are not in the
            union.
        InvalidValue: When an instance is created: a field is of the wrong type.
        InvalidStreamId: When an instance is created: a stream is of another category.

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
        >>> class Spend(eb.StatefulCommand[Money, Filled | Spent]):
        ...     purse: eb.Declared[Purse]
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

    def __init_subclass__(
        cls, *, abstract: bool = False, name: str | None = None
    ) -> None:
        """Make a frozen, keyword-only dataclass of a new command class; validate it."""
        super().__init_subclass__()
        define_command(cls, StatefulCommand, abstract=abstract, name=name)

    @abstractmethod
    def initial(self) -> S:
        """Return the state before any event."""

    @abstractmethod
    def apply(self, state: S, recorded: Recorded[E], /) -> S:
        """Return the state after one more event.

        Args:
            state: The state before the event; it may be changed and returned.
            recorded: The event, with its stream and its version.
        """

    @abstractmethod
    def decide(self, state: S, /) -> Iterable[Write]:
        """Decide on events, or refuse with `require`.

        Args:
            state: The fold of all declared and discovered streams.

        Returns:
            Any number of writes, which are built by the streams' handles. Usually this
            method is a generator.
        """

    def discover(
        self, state: S, /
    ) -> Iterable[Stream[Any, Any] | type[Stream[Any, Any]]]:
        """Return further streams to read, which depend on the state.

        This method is called again after each fold, until it returns no new stream. A
        kind of stream, such as ``Account``, stands for all its streams that have
        events; see `Command.discover`.

        Args:
            state: The fold of all streams that were read before.

        Returns:
            The streams to read; a stream that was read before has no effect.
        """
        del state
        return ()
