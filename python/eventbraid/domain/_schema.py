"""What an annotation allows: one schema for construction, encoding and decoding.

`schema_of` (in `_schema_builder`) builds a schema once per annotation. It answers four
questions, so that they can't be answered differently in different places:

* which values a field accepts when an instance is made (`rule`),
* which accepted value is replaced by an equal one of the declared type (`narrow`),
* whether the JSON of every accepted value can be read back as an equal value
  (`problem`, found when a class is registered),
* what has to be checked again when a value is written, because it may have changed
  since it was made (`changeable`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from eventbraid.domain._annotation import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Check = Callable[[object], bool]

MAX_NESTING = 100
"""The number of arrays and objects that may lie inside of each other in one body.

Encoding and decoding have the same limit. It is far below the depth at which the
parsers, or checks written in Python, would exhaust the interpreter's stack.
"""

ALL_JSON = frozenset({"null", "bool", "int", "float", "str", "array", "object"})


class Use(enum.Enum):
    """What a value is accepted for."""

    MADE = "made"
    """For a field of a value or an event."""

    COMMAND = "command"
    """For a field of a command, which is never read back: subclasses are accepted."""

    STORED = "stored"
    """For the log: the value must be equal after it was read back."""


class Misfit(Exception):
    """A value isn't what a schema allows.

    Attributes:
        path: Where it lies inside of the field, such as ``[2].price``.
        value: The value.
        schema: The schema.
        reason: The reason if the type alone doesn't explain it.
    """

    def __init__(self, value: object, schema: Schema, reason: str = "") -> None:
        """Begin with an empty path; callers prepend to it."""
        super().__init__()
        self.path = ""
        self.value = value
        self.schema = schema
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled check.

    `exact` is the common case: a value whose type is that very class is accepted, for
    one comparison. `accepts` judges every other value.

    A collection of that exact type is accepted without a call into Python, too, if
    `only_exact` says of the types of its members that all are exact.
    """

    exact: type | None
    accepts: Check
    collection: type | None = None
    only_exact: Callable[[Iterable[type]], bool] | None = None

    def allows(self, value: object) -> bool:
        """Return whether the value is accepted."""
        return type(value) is self.exact or self.accepts(value)


class Schema:
    """The schema of one annotation.

    Attributes:
        annotation: The annotation, without aliases.
        json: The kinds of JSON that its values are written as.
        changeable: Whether an accepted value can change without a new check.
        levels: The number of JSON levels that a value adds around its members.
        is_custom: Whether msgspec calls a hook for its values by itself.
        is_plain: Whether orjson writes exactly what msgspec reads, members apart.
        reason: Why its values can't be read back, members apart; None if they can.
        is_renamed: Whether msgspec doesn't find the type behind the annotation, such as
            that of an alias, so that it gets the type itself.
    """

    json: frozenset[str] = ALL_JSON
    changeable: bool = False
    levels: int = 0
    is_custom: bool = False
    is_plain: bool = False
    reason: str | None = None
    is_renamed: bool = False
    anything: ClassVar[bool] = False

    def __init__(self, annotation: object) -> None:
        """Make the schema of an annotation."""
        self.annotation = annotation
        self._rules: dict[bool, Rule] = {}

    def rule(self, *, stored: bool = False) -> Rule:
        """Return the check of values.

        Args:
            stored: Also look into what may have changed since it was made.
        """
        if stored not in self._rules:
            self._rules[stored] = self.make_rule(stored=stored)
        return self._rules[stored]

    def make_rule(self, *, stored: bool) -> Rule:
        """Compile the check of values."""
        raise NotImplementedError

    def narrow(self, value: object, use: Use) -> object:
        """Return the value, or the equal value of the declared type.

        Raises:
            Misfit: The value isn't allowed.
        """
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        raise Misfit(value, self)

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return the schemas of members, each with its place for error messages."""
        return ()

    def names(self) -> Iterable[str]:
        """Return the texts that msgspec compares with JSON: field names and the like.

        They are the very objects that msgspec holds.
        """
        return ()

    @property
    def needs_hook(self) -> bool:
        """Whether msgspec would read or write its values in another way.

        It then gets a type with a hook in place of the annotation.
        """
        return False

    @property
    def name(self) -> str:
        """The annotation as its author wrote it."""
        return name_of(self.annotation)


NOTHING = Rule(None, lambda _: False)
EVERYTHING = Rule(None, lambda _: True)


def inside(path: str, schema: Schema, value: object, use: Use) -> object:
    """Narrow a member, and name its place in the error."""
    try:
        return schema.narrow(value, use)
    except Misfit as misfit:
        misfit.path = path + misfit.path
        raise


def reachable(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Iterate over a schema and all schemas inside of it, each with its path."""
    seen = {id(schema)}
    todo = [("", schema)]
    while todo:
        path, found = todo.pop()
        yield path, found
        for place, child in found.children():
            if id(child) not in seen:
                seen.add(id(child))
                todo.append((path + place, child))


def problem(schema: Schema) -> tuple[str, str] | None:
    """Return where and why values can't be read back; None if all of them can."""
    found = [(path, one.reason) for path, one in reachable(schema) if one.reason]
    if found:
        return min(found, key=lambda one: len(one[0]))
    nesting = depth(schema)
    if nesting is not None and nesting > MAX_NESTING:
        return "", f"its JSON has {nesting} levels, and {MAX_NESTING} are allowed"
    return None


def is_changeable(schema: Schema) -> bool:
    """Return whether an accepted value can change without a new check."""
    return any(one.changeable for _, one in reachable(schema))


def is_plain(schema: Schema) -> bool:
    """Return whether orjson writes exactly what msgspec reads."""
    return all(one.is_plain for _, one in reachable(schema))


def depth(schema: Schema) -> int | None:
    """Return the greatest number of JSON levels; None if the types don't bound it."""
    known: dict[int, int | None] = {}

    def measure(one: Schema) -> int | None:
        if id(one) in known:
            return known[id(one)]
        known[id(one)] = None  # Met again inside of itself: unbounded.
        if one.anything:
            return None
        deepest = 0
        for _, child in one.children():
            below = measure(child)
            if below is None:
                return None
            deepest = max(deepest, below)
        known[id(one)] = one.levels + deepest
        return known[id(one)]

    return measure(schema)
