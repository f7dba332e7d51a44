"""Checks of a value's fields against their annotations."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from eventbraid.domain._annotation import alternatives, field_types, name_of
from eventbraid.domain._id import Id
from eventbraid.domain._int import Int
from eventbraid.domain._refusal import refusal
from eventbraid.domain._rule import ANYTHING, CHECKED, rule_of
from eventbraid.domain._text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.errors import InvalidValue

    FieldRule = tuple[str, type | None, Callable[[object], bool]]

_OWN = "__eventbraid_own__"
"""On a checking ``__post_init__``: the class's own one, so that heirs check once."""


def check_fields(value: object) -> None:
    """Refuse a value one of whose fields isn't what its annotation says.

    Raises:
        InvalidValue: Names the class, the field, and what to do.
    """
    kind: type = type(value)
    for field, exact, accepts in rules_of(kind):
        held = getattr(value, field)
        if type(held) is not exact and not accepts(held):
            raise _broken(value, field)


def check_when_made(cls: type) -> None:
    """Make a class that is about to become a dataclass check its fields.

    An own ``__post_init__`` runs after the checks, on fields of the right types.
    """
    found: Callable[..., None] | None = getattr(cls, "__post_init__", None)
    own: Callable[..., None] | None = getattr(found, _OWN, found)
    rules: tuple[FieldRule, ...] | None = None

    def check(self: object) -> None:
        nonlocal rules
        if rules is None:  # Not before now: annotations may name later classes.
            rules = rules_of(cls)
        for field, exact, accepts in rules:
            held = getattr(self, field)
            if type(held) is not exact and not accepts(held):
                raise _broken(self, field)

    def check_then_own(self: object, *init_only: object) -> None:
        check(self)
        if own is not None:
            own(self, *init_only)

    checking = check if own is None else check_then_own
    setattr(checking, _OWN, own)
    setattr(cls, "__post_init__", checking)  # noqa: B010 - no attribute of `type`
    setattr(cls, CHECKED, True)


@functools.cache
def rules_of(cls: type) -> tuple[FieldRule, ...]:
    """Give the rules of a class's fields, without those that accept anything."""
    rules = ((field, rule_of(kind)) for field, kind in field_types(cls).items())
    return tuple(
        (field, rule.exact, rule.accepts)
        for field, rule in rules
        if rule is not ANYTHING
    )


def _broken(value: object, field: str) -> InvalidValue:
    held: object = getattr(value, field)
    annotation = field_types(type(value))[field]
    return refusal(
        f"{type(value).__name__}.{field}",
        held,
        f"the field holds {name_of(annotation)}, and this is {_what(held)}",
        _remedy(annotation, held),
    )


def _what(held: object) -> str:
    name = type(held).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _remedy(annotation: object, held: object) -> str:
    for kind in alternatives(annotation):
        if not isinstance(kind, type) or isinstance(held, bool):
            continue
        if issubclass(kind, Int) and isinstance(held, int):
            return f"write {kind.__name__}({int(held)})"
        if issubclass(kind, Id | Text) and isinstance(held, str):
            return f"write {kind.__name__}({str(held)!r})"
        if kind is int and isinstance(held, Int):
            return "write int(value)"
    return f"give {name_of(annotation)}"
