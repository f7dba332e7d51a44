"""Decorators that put a class under a stable event name."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, TypeVar, dataclass_transform

from eventbraid.domain._fields import check_when_made
from eventbraid.errors import InvalidEventType
from eventbraid.event._event_type import check_former_names, check_name
from eventbraid.event._registry import EventRegistry, default_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def event(
    name: str,
    /,
    *,
    version: int = 1,
    formerly: str | Iterable[str] = (),
    oldest_version: int = 1,
    registry: EventRegistry = default_registry,
) -> Callable[[type[T]], type[T]]:
    """Make a frozen dataclass of a plain class, and an event of it.

    Its fields are checked whenever one is made, decoded included: a bare `int` in a
    field of a derived `Int` is refused, and so is any other value that isn't what
    the annotation says.

    Args:
        name: The event type as it is recorded in the log: ``"order.submitted"``.
        version: The version of the class's schema. Increase it when a recorded event no
            longer fits the class, and add an `upcaster` from the former version. New
            fields with defaults need neither.
        formerly: Former names of the event type, in the log.
        oldest_version: The lowest schema version that the log may contain. There must
            be a class or an upcaster for each version from this one on.
        registry: The registry of the class; by default, the one that all programs use.

    Raises:
        InvalidEventType: The name is taken or unfit, or the class is no plain one.

    Example:
        >>> import eventbraid as eb
        >>> class Money(eb.Int, ge=0): ...
        >>> @eb.event("doc.account.withdrawn")
        ... class Withdrawn:
        ...     amount: Money
        >>> Withdrawn(Money(5))
        Withdrawn(amount=Money(5))
        >>> Withdrawn(5)
        Traceback (most recent call last):
        ...
        eventbraid.errors.InvalidValue: 5 is not a valid Withdrawn.amount: ...
    """
    check_name(name, version)
    former_names = check_former_names(name, version, formerly, oldest_version)

    def define(kind: type[T]) -> type[T]:
        _refuse_made_already(kind, name)
        check_when_made(kind)
        try:
            made = dataclasses.dataclass(frozen=True)(kind)
        except (TypeError, ValueError) as error:
            raise InvalidEventType(
                "event class",
                kind.__qualname__,
                f"no frozen dataclass can be made of it: {error}",
            ) from error
        registry.add(made, name, version, former_names, oldest_version)
        return made

    return define


def register_event(
    name: str,
    /,
    *,
    version: int = 1,
    formerly: str | Iterable[str] = (),
    oldest_version: int = 1,
    registry: EventRegistry = default_registry,
) -> Callable[[type[T]], type[T]]:
    """Make an event of a class and leave the class as it is.

    For msgspec Structs, pydantic models, attrs classes and dataclasses. What their
    own constructors let pass is checked when an event is stored.

    Args:
        name: The event type as it is recorded in the log: ``"order.submitted"``.
        version: The version of the class's schema. Increase it when a recorded event no
            longer fits the class, and add an `upcaster` from the former version. New
            fields with defaults need neither.
        formerly: Former names of the event type, in the log.
        oldest_version: The lowest schema version that the log may contain. There must
            be a class or an upcaster for each version from this one on.
        registry: The registry of the class; by default, the one that all programs use.

    Raises:
        InvalidEventType: The name is taken or unfit, or the class is of another kind.

    Example:
        >>> import eventbraid as eb
        >>> import msgspec
        >>> @eb.register_event("doc.parcel.weighed")
        ... class ParcelWeighed(msgspec.Struct, frozen=True):
        ...     grams: int
        >>> eb.new_event("parcel-1", ParcelWeighed(grams=250))
        NewEvent('parcel-1', 'doc.parcel.weighed', b'{"grams":250}')
    """
    check_name(name, version)
    former_names = check_former_names(name, version, formerly, oldest_version)

    def register(kind: type[T]) -> type[T]:
        registry.add(kind, name, version, former_names, oldest_version)
        return kind

    return register


_MADE_ELSEWHERE = ("__struct_fields__", "__attrs_attrs__", "__pydantic_validator__")


def _refuse_made_already(kind: type, name: str) -> None:
    """Making a dataclass of a Struct, a model or an enum breaks it in odd ways."""
    if any(hasattr(kind, mark) for mark in _MADE_ELSEWHERE):
        reason = "it is not a plain class"
    elif "__dataclass_fields__" in vars(kind):
        reason = "it is a dataclass already"
    elif issubclass(kind, tuple | dict | str | int | enum.Enum):
        raise InvalidEventType(
            "event class",
            kind.__qualname__,
            "it is not a class with fields of its own; write a plain class with "
            "annotated fields",
        )
    else:
        return
    raise InvalidEventType(
        "event class",
        kind.__qualname__,
        f'{reason}; use @register_event("{name}")',
    )
