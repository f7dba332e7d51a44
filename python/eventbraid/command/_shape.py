"""What is known of a command's class, found out once when the class is made."""

from __future__ import annotations

import dataclasses
import typing
from types import NoneType
from typing import TYPE_CHECKING, Any

from eventbraid.command._declared import Declared, DeclaredMany
from eventbraid.command._typing import (
    EventKinds,
    event_kinds,
    is_covered,
    type_arguments,
)
from eventbraid.domain._annotation import alternatives

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eventbraid.command._annotated_fields import AnyDeclared
    from eventbraid.command._stream import Stream

_OWN_METHODS = ("initial", "apply", "decide")


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """A command's class.

    Attributes:
        name: What the command is called in errors.
        identity: What it is called in the content of an idempotency key.
        fields: The names of its fields, in order.
        declared: Its fields that declare streams.
        events: The classes of events that it applies, if they are known.
        discovers: Whether it asks for further streams.
        may_be_none: Whether its state may be None, as far as that is known.
    """

    name: str
    identity: str
    fields: tuple[str, ...]
    declared: tuple[AnyDeclared, ...]
    events: EventKinds
    discovers: bool
    may_be_none: bool

    @classmethod
    def of(
        cls,
        kind: type,
        base: type,
        *,
        discovers: bool,
        abstract: bool,
        name: str | None,
    ) -> Shape:
        """Find out the shape of a class that has just become a dataclass.

        Raises:
            TypeError: A method is missing, or a declared stream isn't covered.
        """
        if not abstract:
            _refuse_missing_methods(kind)
        fields = tuple(field.name for field in dataclasses.fields(kind))
        declared = tuple(_descriptors(kind, fields))
        arguments = type_arguments(kind, base)
        shape = cls(
            name=kind.__name__,
            identity=name or f"{kind.__module__}.{kind.__qualname__}",
            fields=fields,
            declared=declared,
            events=event_kinds(arguments[1]) if arguments else None,
            discovers=discovers,
            may_be_none=not arguments or _may_be_none(arguments[0]),
        )
        for one in declared:
            lacking = shape.lacking(one.kind)
            if lacking:
                raise TypeError(
                    f"{shape.name} reads {one.kind.__name__} streams ({one.name}), but "
                    f"doesn't name their events {lacking}; add them to the second type "
                    "argument of Command"
                )
        return shape

    def lacking(self, kind: type[Stream[Any]]) -> str:
        """Name the events of a kind of stream that the command doesn't apply."""
        if self.events is None or kind.events is None:
            return ""
        lacking = [one for one in kind.events if not is_covered(one, self.events)]
        return ", ".join(sorted(one.__name__ for one in lacking))


def _may_be_none(state: object) -> bool:
    """Return whether None is a state; of what isn't a class, that is not known."""
    return any(
        not isinstance(option, type) or option in {object, NoneType}
        for option in map(_origin, alternatives(state))
    )


def _origin(option: object) -> object:
    return typing.get_origin(option) or option


def _refuse_missing_methods(kind: type) -> None:
    missing = [
        method
        for method in _OWN_METHODS
        if getattr(getattr(kind, method), "__isabstractmethod__", False)
    ]
    if missing:
        raise TypeError(
            f"{kind.__name__} lacks {', '.join(missing)}(); define it, or say "
            f"`class {kind.__name__}(..., abstract=True)` and define it in heirs"
        )


def _descriptors(kind: type, fields: Iterable[str]) -> Iterator[AnyDeclared]:
    for name in fields:
        member = getattr(kind, name, None)
        if isinstance(member, Declared | DeclaredMany):
            yield member
