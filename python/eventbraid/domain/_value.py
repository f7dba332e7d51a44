"""Values made of several fields."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar, dataclass_transform, overload

from eventbraid.domain._fields import check_when_made
from eventbraid.domain._tag import set_tag
from eventbraid.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@overload
def value_object(cls: type[T], /) -> type[T]: ...


@overload
def value_object(*, tag: str) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def value_object(
    cls: type[T] | None = None, /, *, tag: str | None = None
) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a frozen dataclass that can't be made with fields of wrong types.

    For what events and commands are made of: an address, an order's line. Rules
    that span fields go into ``__post_init__``, which raises `InvalidValue` or
    another `ValueError`.

    Where an event holds one of several values, as in ``Card | Cash``, each is recorded
    with its tag under the key ``$type``. The tag is the name of the class unless one
    is given; once events are recorded, it must not change.

    Args:
        cls: The class.
        tag: What the class is called in the log.

    Raises:
        InvalidArgument: The class is a dataclass already.
        InvalidValue: When an instance is made: names the field and what to do.

    Example:
        >>> import eventbraid as eb
        >>> class Quantity(eb.Int, gt=0): ...
        >>> @eb.value_object
        ... class Line:
        ...     product: str
        ...     quantity: Quantity
        >>> Line("cd-1", Quantity(2))
        Line(product='cd-1', quantity=Quantity(2))
        >>> Line("cd-1", 2)
        Traceback (most recent call last):
        ...
        eventbraid.errors.InvalidValue: 2 is not a valid Line.quantity: ...
        >>> @eb.value_object(tag="card")
        ... class Card:
        ...     number: str
        >>> @eb.value_object(tag="cash")
        ... class Cash: ...
        >>> @eb.event("doc.bill.paid")
        ... class Paid:
        ...     by: Card | Cash
        >>> eb.new_event("bill-1", Paid(Card("4111"))).data
        b'{"by":{"$type":"card","number":"4111"}}'
    """

    def make(kind: type[T]) -> type[T]:
        if dataclasses.is_dataclass(kind) and "__dataclass_fields__" in vars(kind):
            raise InvalidArgument(
                "value class",
                kind.__qualname__,
                "it is a dataclass already; leave out @dataclass",
            )
        check_when_made(kind)
        set_tag(kind, kind.__name__ if tag is None else tag)
        return dataclasses.dataclass(frozen=True)(kind)

    return make if cls is None else make(cls)
