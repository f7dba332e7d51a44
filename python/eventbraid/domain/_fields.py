"""Checks of a value's fields against their annotations."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import TYPE_CHECKING, Any, NoReturn, cast

from eventbraid.domain._annotation import field_types
from eventbraid.domain._invalid_value import refusal
from eventbraid.domain._local_names import keep_local_names
from eventbraid.domain._misfit import misfit_error
from eventbraid.domain._post_init import only_reads
from eventbraid.domain._record_schema import CHECKED, OWN
from eventbraid.domain._schema import EVERYTHING, Misfit, Schema, Use
from eventbraid.domain._schema_builder import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable

    FieldRule = tuple[str, type | None, Callable[[object], bool]]

_MISSING = object()


def check_when_made(cls: type, use: Use = Use.MADE) -> None:
    """Make a class that is about to become a dataclass check its fields.

    An own ``__post_init__`` runs after the checks, on fields of the right types. What
    it sets is checked after it.
    """
    keep_local_names(cls)
    if "__init__" in vars(cls):
        return  # Nothing calls __post_init__; its values are checked when written.
    found: Callable[..., None] | None = getattr(cls, "__post_init__", None)
    own: Callable[..., None] | None = getattr(found, OWN, found)
    checking = _field_check(cls, use)
    if own is not None:
        checking = _check_then_own(cls, checking, own)
    setattr(checking, OWN, own)
    setattr(cls, "__post_init__", checking)  # noqa: B010 - no attribute of `type`
    setattr(cls, CHECKED, True)


def _field_check(cls: type, use: Use) -> Callable[..., None]:
    rules: tuple[FieldRule, ...] | None = None

    def check(self: object) -> None:
        nonlocal rules
        if rules is None:  # Not before now: annotations may name later classes.
            rules = rules_of(cls)
        try:
            for field, exact, accepts in rules:
                held = getattr(self, field)
                if type(held) is not exact and not accepts(held):
                    _settle(self, field, held, use)
        except (AttributeError, RecursionError):
            # A field that __post_init__ has yet to set, or deep nesting.
            for field, _, _ in rules:
                _settle(self, field, getattr(self, field, _MISSING), use)

    return check


def _check_then_own(
    cls: type, check: Callable[[object], None], own: Callable[..., None]
) -> Callable[..., None]:
    computed: tuple[str, ...] | None = None
    is_harmless = False

    def check_then_own(self: object, *init_only: object) -> None:
        nonlocal computed, is_harmless
        if computed is None:
            computed = _computed_fields(cls)
            is_harmless = not computed and only_reads(own, _schemas_of(cls))
        check(self)
        if is_harmless:
            own(self, *init_only)
            return
        before = [getattr(self, field, _MISSING) for field in _schemas_of(cls)]
        own(self, *init_only)
        after = [getattr(self, field, _MISSING) for field in _schemas_of(cls)]
        if computed or not all(map(operator.is_, before, after)):
            REWRITING.add(cls)
            check(self)
            for field in computed:
                if not hasattr(self, field):
                    _refuse_missing(self, field)

    return check_then_own


REWRITING: set[type] = set()
"""Classes whose own ``__post_init__`` has changed a field.

It runs again when an instance is decoded, so that what comes of it is uncertain.
"""


def _computed_fields(cls: type) -> tuple[str, ...]:
    return tuple(
        field.name for field in dataclasses.fields(cast("Any", cls)) if not field.init
    )


@functools.cache
def rules_of(cls: type) -> tuple[FieldRule, ...]:
    """Return the checks of a class's fields, without those that accept anything."""
    rules = ((field, schema.rule()) for field, schema in _schemas_of(cls).items())
    return tuple(
        (field, rule.exact, rule.accepts)
        for field, rule in rules
        if rule is not EVERYTHING
    )


@functools.cache
def _schemas_of(cls: type) -> dict[str, Schema]:
    return {field: schema_of(held) for field, held in field_types(cls).items()}


def _settle(value: object, field: str, held: object, use: Use) -> None:
    """Replace what a field holds by the equal value of the declared type, or refuse."""
    kind: type = type(value)
    schema = _schemas_of(kind)[field]
    name = f"{kind.__name__}.{field}"
    if held is _MISSING:
        if field in _computed_fields(kind):
            return  # __post_init__ has yet to set it.
        _refuse_missing(value, field)
    try:
        narrowed = schema.narrow(held, use)
    except Misfit as misfit:
        raise misfit_error(name, held, schema.annotation, misfit) from None
    except RecursionError:
        deep = Misfit(held, schema, "it is nested too deeply")
        raise misfit_error(name, held, schema.annotation, deep) from None
    if narrowed is not held:
        object.__setattr__(value, field, narrowed)


def _refuse_missing(value: object, field: str) -> NoReturn:
    name = f"{type(value).__name__}.{field}"
    raise refusal(name, None, "the field has no value", "set it in __post_init__")
