"""The base class of commands that decide on the states of their streams."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from eventbraid.command._command_base import CommandBase, define_command
from eventbraid.command._declared import DeclaredMany
from eventbraid.command._typing import has_slots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.command._stream import Stream
    from eventbraid.command._write import Write


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(dataclasses.field,),
)
class Command(CommandBase):
    """A request that decides on new events from the states of its streams.

    Derive a class. Its fields are the declared streams, annotated with `Declared` or
    `DeclaredMany`, and the other values that the decision needs. They are keyword-only
    arguments of the constructor, and an instance is immutable. In `decide` and
    `discover`, the handle of a stream has the stream's ``state`` and ``version``.

    `decide` and `discover` must be pure: no input or output, no clock, no random
    numbers. They may be called any number of times, and with states that are not the
    newest: then the result, or the exception, has no effect. Values from outside are
    passed in the fields.

    A class that leaves `decide` to its subclasses is defined with ``abstract=True``.
    Declare a stream in the class that writes to it, because mypy gives an inherited
    declared stream the type of the constructor's argument. With ``name=``, the
    idempotency keys of a command remain valid when its class is renamed or moved.

    Raises:
        TypeError: When a class is defined: `decide` is missing, or an annotation
            doesn't name a kind of stream.
        InvalidValue: When an instance is created: a field is of the wrong type.
        InvalidStreamId: When an instance is created: a stream is of another category.

    Example:
        >>> import eventbraid as eb
        >>> class Money(eb.Int, ge=0): ...
        >>> @eb.event("doc.pocket.filled")
        ... class Filled:
        ...     amount: Money
        >>> @eb.event("doc.pocket.spent")
        ... class Spent:
        ...     amount: Money
        >>> class Pocket(eb.Stream[Filled | Spent, Money], category="pocket"):
        ...     def initial(self):
        ...         return Money(0)
        ...
        ...     def apply(self, state, event, /):
        ...         match event:
        ...             case Filled(amount):
        ...                 return state + amount
        ...             case Spent(amount):
        ...                 return state - amount
        >>> class Spend(eb.Command):
        ...     pocket: eb.Declared[Pocket]
        ...     amount: Money
        ...
        ...     def decide(self):
        ...         left = self.pocket.state
        ...         eb.require(left >= self.amount, "too_little", left=left)
        ...         yield self.pocket.write(Spent(self.amount))
        >>> with eb.open("memory:") as store:
        ...     done = store.append([eb.new_event("pocket-1", Filled(Money(9)))])
        ...     spend = Spend(pocket="pocket-1", amount=Money(4))
        ...     eb.Executor(store).execute(spend).events
        (Spent(amount=Money(4)),)
    """

    # The fields and kinds of the declared streams, and whether the field declares many,
    # if a command of this class may take the fast path of its execution.
    plain_streams: ClassVar[tuple[tuple[str, type[Stream[Any, Any]], bool], ...] | None]

    def __init_subclass__(
        cls, *, abstract: bool = False, name: str | None = None
    ) -> None:
        """Make a frozen, keyword-only dataclass of a new command class; validate it."""
        super().__init_subclass__()
        define_command(cls, Command, abstract=abstract, name=name)
        cls.plain_streams = _plain_streams(cls)

    @abstractmethod
    def decide(self) -> Iterable[Write]:
        """Decide on events, or refuse with `require`.

        Returns:
            Any number of writes, which are built by the streams' handles. Usually this
            method is a generator.
        """

    def discover(self) -> Iterable[Stream[Any, Any] | type[Stream[Any, Any]]]:
        """Return further streams to read, which depend on the states of the others.

        This method is called again after each read, until it returns no new stream.
        Then `discovered` returns the handles of these streams.

        A kind of stream, such as ``Account``, stands for all its streams that have
        events. If another writer creates a stream of the kind before the commit, there
        is a conflict, and the command is decided again. So a command may decide on all
        of them, for example on their number.

        Returns:
            The streams to read; a stream that was read before has no effect.
        """
        return ()


def _plain_streams(
    cls: type[Command],
) -> tuple[tuple[str, type[Stream[Any, Any]], bool], ...] | None:
    """Return the declared streams of a class that may take the fast path.

    It may not if it discovers streams, if one stream could be declared as two kinds, or
    if its instances have slots.
    """
    shape = cls.__shape__
    if shape.discovers or has_slots(cls):
        return None
    kinds = {one.kind.category: one.kind for one in shape.declared}
    if any(kinds[one.kind.category] is not one.kind for one in shape.declared):
        return None
    return tuple(
        (one.name, one.kind, isinstance(one, DeclaredMany)) for one in shape.declared
    )
