"""Values made of several fields."""

from __future__ import annotations

import dataclasses
from typing import TypeVar, dataclass_transform

from eventbraid.domain._fields import check_when_made

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def value(cls: type[T], /) -> type[T]:
    """Make a frozen dataclass that can't be made with fields of wrong types.

    For what events and commands are made of: an address, an order's line. Rules
    that span fields go into ``__post_init__``, which raises `InvalidValue` or
    another `ValueError`.

    Raises:
        InvalidValue: When an instance is made: names the field and what to do.

    Example:
        >>> import eventbraid as eb
        >>> class Quantity(eb.Int, gt=0): ...
        >>> @eb.value
        ... class Line:
        ...     product: str
        ...     quantity: Quantity
        >>> Line("cd-1", Quantity(2))
        Line(product='cd-1', quantity=Quantity(2))
        >>> Line("cd-1", 2)
        Traceback (most recent call last):
        ...
        eventbraid.errors.InvalidValue: 2 is no Line.quantity: ...
    """
    check_when_made(cls)
    return dataclasses.dataclass(frozen=True)(cls)
