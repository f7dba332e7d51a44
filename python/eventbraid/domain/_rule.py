"""Rules that judge values by an annotation, built once and asked often.

`exact` is the common case: a value whose type is that very class is right, for one
comparison. `accepts` judges every other value.
"""

from __future__ import annotations

import math
import types
import typing
from collections import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec

from eventbraid.domain._annotation import alternatives, field_types, has_fields
from eventbraid.domain._int import Int

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKED = "__eventbraid_checked__"
"""Marks classes that check their fields whenever an instance is made."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What an annotation demands of a value."""

    exact: type | None
    accepts: Callable[[object], bool]

    def allows(self, value: object) -> bool:
        """Tell whether the value is what the annotation says."""
        return type(value) is self.exact or self.accepts(value)


def rule_of(annotation: object) -> Rule:
    """Build the rule of an annotation; what it can't judge, it lets pass."""
    options = alternatives(annotation)
    if len(options) != 1:
        return _union(options)
    option = options[0]
    if option is None or option is types.NoneType:
        return Rule(types.NoneType, _nothing)
    origin: object = typing.get_origin(option)
    arguments: tuple[object, ...] = typing.get_args(option)
    if origin is Annotated:
        return _bounded(option)
    if origin is Literal:
        allowed = frozenset((type(value), value) for value in arguments)
        return Rule(None, lambda value: (type(value), value) in allowed)
    if isinstance(origin, type):
        return _container(cast("type[object]", origin), arguments)
    return _class(option) if isinstance(option, type) else ANYTHING


def _everything(_: object) -> bool:
    return True


def _nothing(_: object) -> bool:
    return False


ANYTHING = Rule(None, _everything)


def _union(options: tuple[object, ...]) -> Rule:
    rules = [rule_of(option) for option in options]
    exact = frozenset(rule.exact for rule in rules if rule.exact is not None)

    def accepts(value: object) -> bool:
        return type(value) in exact or any(rule.accepts(value) for rule in rules)

    return Rule(None, accepts)


def _container(origin: type, arguments: tuple[object, ...]) -> Rule:
    if _derives(origin, tuple) and arguments[-1:] != (Ellipsis,):
        return _fixed_tuple([rule_of(argument) for argument in arguments])
    if _derives(origin, abc.Mapping):
        return _mapping(origin, *(rule_of(argument) for argument in arguments))
    if _derives(origin, abc.Collection) and arguments:
        return _collection(origin, rule_of(arguments[0]))
    return Rule(None, lambda value: isinstance(value, origin))


def _bounded(annotation: object) -> Rule:
    """Judge the type as always, then the bounds as msgspec will when it decodes."""
    plain = rule_of(typing.get_args(annotation)[0])

    def accepts(value: object) -> bool:
        if not plain.allows(value):
            return False
        try:
            msgspec.convert(value, cast("type", annotation), dec_hook=_as_it_is)
        except msgspec.ValidationError:
            return False
        return True

    return Rule(None, accepts)


def _as_it_is(_: type, value: object) -> object:
    return value


def _derives(kind: type, base: type) -> bool:
    return issubclass(kind, base)


def _fixed_tuple(members: list[Rule]) -> Rule:
    def accepts(value: object) -> bool:
        if not isinstance(value, tuple):
            return False
        items = cast("tuple[object, ...]", value)
        return len(items) == len(members) and all(
            rule.allows(item) for rule, item in zip(members, items, strict=True)
        )

    return Rule(None, accepts)


def _collection(origin: type, member: Rule) -> Rule:
    exact, fits = member.exact, member.accepts

    def accepts(value: object) -> bool:
        # A text is a collection of texts to Python, and to nobody else.
        if not isinstance(value, origin) or isinstance(value, str):
            return False
        items = cast("abc.Collection[object]", value)
        return all([type(item) is exact or fits(item) for item in items])  # noqa: C419 - quicker

    return Rule(None, accepts)


def _mapping(origin: type, key: Rule, member: Rule) -> Rule:
    def accepts(value: object) -> bool:
        if not isinstance(value, origin):
            return False
        entries = cast("abc.Mapping[object, object]", value)
        return all(
            key.allows(name) and member.allows(item) for name, item in entries.items()
        )

    return Rule(None, accepts)


def _class(kind: type) -> Rule:
    if kind in {object, Any} or getattr(kind, "_is_protocol", False):
        return ANYTHING
    if kind is float:
        return Rule(None, _is_number)
    if kind is int:
        return Rule(int, _is_bare_int)
    if has_fields(kind) and CHECKED not in kind.__dict__:
        return Rule(None, _unchecked(kind))
    return Rule(kind, lambda value: isinstance(value, kind))


def _is_bare_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, Int | bool)


def _is_number(value: object) -> bool:
    """JSON knows neither NaN nor infinity: they would come back as nothing."""
    if isinstance(value, float):
        return math.isfinite(value)
    return _is_bare_int(value)


def _unchecked(kind: type) -> Callable[[object], bool]:
    """Judge, field by field, a value whose class doesn't check itself."""
    rules: list[tuple[str, Rule]] = []

    def accepts(value: object) -> bool:
        if not isinstance(value, kind):
            return False
        if not rules:  # Not before now: a class may hold values of its own kind.
            rules.extend((name, rule_of(t)) for name, t in field_types(kind).items())
        return all([rule.allows(getattr(value, name)) for name, rule in rules])  # noqa: C419 - quicker

    return accepts
