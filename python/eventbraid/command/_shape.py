"""The shape of a command's class, inspected once when the class is defined."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from eventbraid.command._declared import Declared, DeclaredMany
from eventbraid.command._typing import (
    EventKinds,
    event_kinds,
    is_covered,
    may_be_none,
    type_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eventbraid.command._annotated_fields import AnyDeclared
    from eventbraid.command._stream import Stream

_OWN_METHODS = ("initial", "apply", "decide")


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The facts about a command's class that its execution needs.

    Attributes:
        name: The command's name in errors.
        identity: The command's name in the content of an idempotency key.
        fields: The names of its fields, in order.
        declared: Its fields that declare streams.
        events: The classes of events that it applies; `None` if they are unknown.
        discovers: Whether it defines `discover`.
        may_be_none: Whether its state may be None; also true if that is unknown.
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
        """Inspect a class that has just become a dataclass.

        Raises:
            TypeError: A method is missing, or a declared stream has events that the
                command does not apply.
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
            may_be_none=not arguments or may_be_none(arguments[0]),
        )
        for one in declared:
            unapplied = shape.unapplied_events(one.kind)
            if unapplied:
                raise TypeError(
                    f"{shape.name} reads {one.kind.__name__} streams ({one.name}), but "
                    f"doesn't name their events {unapplied}; add them to the second "
                    "type argument of Command"
                )
        return shape

    def unapplied_events(self, kind: type[Stream[Any, Any]]) -> str:
        """Return the names of a kind's events that the command doesn't apply."""
        if self.events is None or kind.events is None:
            return ""
        unapplied = [one for one in kind.events if not is_covered(one, self.events)]
        return ", ".join(sorted(one.__name__ for one in unapplied))


def _refuse_missing_methods(kind: type) -> None:
    missing = [
        method
        for method in _OWN_METHODS
        if getattr(getattr(kind, method, None), "__isabstractmethod__", False)
    ]
    if missing:
        raise TypeError(
            f"{kind.__name__} lacks {', '.join(missing)}(); define it, or write "
            f"`class {kind.__name__}(..., abstract=True)` and define it in a subclass"
        )


def _descriptors(kind: type, fields: Iterable[str]) -> Iterator[AnyDeclared]:
    for name in fields:
        member = getattr(kind, name, None)
        if isinstance(member, Declared | DeclaredMany):
            yield member
