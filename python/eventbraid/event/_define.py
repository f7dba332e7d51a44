"""Decorators that put a class under a stable event name."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, TypeVar, dataclass_transform

from eventbraid.domain._fields import check_when_made
from eventbraid.errors import InvalidEventType
from eventbraid.event._event_type import check_former_names, check_name
from eventbraid.event._registry import (
    EventRegistry,
    checked_registry,
    default_registry,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eventbraid.event._body_codec import BodyCodec

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def event(
    name: str,
    /,
    *,
    version: int = 1,
    formerly: str | Iterable[str] = (),
    oldest_version: int = 1,
    codec: BodyCodec | None = None,
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
        codec: The codec of the bodies of new events, such as a cipher; by default, the
            codec that `use_codec` has set.
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
        checked_registry(registry).add(
            made, name, version, former_names, oldest_version, codec
        )
        return made

    return define


def register_event(
    name: str,
    /,
    *,
    version: int = 1,
    formerly: str | Iterable[str] = (),
    oldest_version: int = 1,
    codec: BodyCodec | None = None,
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
        codec: The codec of the bodies of new events, such as a cipher; by default, the
            codec that `use_codec` has set.
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
        checked_registry(registry).add(
            kind, name, version, former_names, oldest_version, codec
        )
        return kind

    return register


def add_codec(
    codec: BodyCodec,
    /,
    *,
    replace: bool = False,
    registry: EventRegistry = default_registry,
) -> None:
    """Add a codec for reading: events that it encoded can be decoded.

    A codec that encodes new events, by `event` or by `use_codec`, is added by itself.
    Add the codecs that earlier events were encoded with, such as one for each old key.

    Args:
        codec: The codec.
        replace: Whether it replaces another codec with the same id.
        registry: The registry.

    Raises:
        InvalidArgument: It isn't a codec, or another one has its id.

    Example:
        >>> import zlib
        >>> from eventbraid.event import add_codec
        >>> class OldZlib:
        ...     id = "doc-zlib-2024"
        ...
        ...     def encode(self, body, context):
        ...         return zlib.compress(body)
        ...
        ...     def decode(self, body, context):
        ...         return zlib.decompress(body)
        >>> add_codec(OldZlib())
    """
    registry.add_codec(codec, replace=replace)


def use_codec(
    codec: BodyCodec | None, /, *, registry: EventRegistry = default_registry
) -> None:
    """Encode the bodies of new events with a codec, and add it for reading.

    It is used for all event types that were registered without a codec of their own,
    before and after this call. Records of leases and sagas, which are the library's own
    events, are never encoded.

    Args:
        codec: The codec; None if new events aren't to be encoded.
        registry: The registry.

    Raises:
        InvalidArgument: It isn't a codec, or another one has its id.

    Example:
        >>> from eventbraid.event import use_codec
        >>> use_codec(None)
    """
    registry.use_codec(codec)


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
