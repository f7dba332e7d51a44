"""Schemas of lists, tuples, sets and mappings."""

from __future__ import annotations

from collections import abc
from typing import TYPE_CHECKING, Any, cast

from eventbraid.domain._int import Int
from eventbraid.domain._invalid_value import shown
from eventbraid.domain._scalar_schema import Atom, Member, Named, OneOf
from eventbraid.domain._schema import Misfit, Rule, Schema, Use, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CONCRETE: dict[type, type] = {
    **{kind: kind for kind in (list, tuple, set, frozenset, dict)},
    **dict.fromkeys((abc.Sequence, abc.MutableSequence, abc.Collection), list),
    **dict.fromkeys((abc.Set, abc.MutableSet), set),
    **dict.fromkeys((abc.Mapping, abc.MutableMapping), dict),
}
"""The types that msgspec reads collections as."""

CONTAINERS = frozenset(_CONCRETE)


class Array(Schema):
    """Any number of members of one type: a list, a tuple, a set and the like."""

    levels = 1

    def __init__(self, annotation: object, origin: type, member: Schema) -> None:
        """Take the schema of members."""
        super().__init__(annotation)
        self.origin = origin
        self.kind = _CONCRETE[origin]
        self.member = member
        self.json = frozenset({"array"})
        self.changeable = self.kind not in {tuple, frozenset}
        self.is_plain = self.kind in {list, tuple}

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept the type that is read back, with fitting members."""
        rule = self.member.rule(stored=stored)
        exact, fits, kind = rule.exact, rule.accepts, self.kind
        has_exact_types = _only(exact)
        # A tuple for a Sequence is of use everywhere but in the log.
        also = (
            tuple if kind is list and self.origin is not list and not stored else kind
        )

        def accepts(value: object) -> bool:
            if type(value) is not kind and type(value) is not also:
                return False
            items = cast("abc.Collection[object]", value)
            return has_exact_types(map(type, items)) or all(
                [type(item) is exact or fits(item) for item in items]  # noqa: C419 - quicker
            )

        return Rule(None, accepts, kind, has_exact_types)

    def narrow(self, value: object, use: Use) -> object:
        """Return the collection, of the declared type and with narrowed members."""
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        if not isinstance(value, self.origin) or isinstance(value, str | bytes):
            raise Misfit(value, self)
        items = cast("abc.Collection[object]", value)
        found = [
            inside(f"[{number}]", self.member, item, use)
            for number, item in enumerate(items)
        ]
        if use is Use.COMMAND:
            return value
        if _items_of(value) is not None and self.kind is list:
            if use is Use.MADE:
                return tuple(found)
            raise Misfit(
                value,
                self,
                f"{self.name} is read back as a list; give a list, or annotate "
                f"tuple[{self.member.name}, ...]",
            )
        return _equal(self.kind(found), value, self)

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return the schema of members."""
        return [("[...]", self.member)]


class FixedTuple(Schema):
    """A tuple with a type for each place."""

    levels = 1

    def __init__(self, annotation: object, members: list[Schema]) -> None:
        """Take the schemas of the places."""
        super().__init__(annotation)
        self.members = members
        self.json = frozenset({"array"})
        self.is_plain = True

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept tuples of this length, with fitting members."""
        rules = [member.rule(stored=stored) for member in self.members]

        def accepts(value: object) -> bool:
            if type(value) is not tuple:
                return False
            items = cast("tuple[object, ...]", value)
            return len(items) == len(rules) and all(
                rule.allows(item) for rule, item in zip(rules, items, strict=True)
            )

        return Rule(None, accepts)

    def narrow(self, value: object, use: Use) -> object:
        """Return the tuple with narrowed members."""
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        items = _items_of(value)
        if items is None or len(items) != len(self.members):
            raise Misfit(value, self)
        found = tuple(
            inside(f"[{number}]", member, item, use)
            for number, (member, item) in enumerate(
                zip(self.members, items, strict=True)
            )
        )
        return value if use is Use.COMMAND else _equal(found, value, self)

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return the schemas of the places."""
        return [(f"[{number}]", one) for number, one in enumerate(self.members)]


class Map(Schema):
    """A mapping."""

    levels = 1
    changeable = True

    def __init__(
        self, annotation: object, origin: type, key: Schema, member: Schema
    ) -> None:
        """Take the schemas of keys and members; find out whether keys can be read."""
        super().__init__(annotation)
        self.origin = origin
        self.key = key
        self.member = member
        # A key that isn't written as a text or a whole number can't be a key of JSON.
        self.is_pairs = not _is_key(key) and not key.json <= {"str"}
        self.json = frozenset({"array" if self.is_pairs else "object"})
        self.is_plain = isinstance(key, Atom) and key.kind is str
        if not _is_hashable(key):
            self.reason = (
                f"{key.name} is not hashable by value, so it can't be a key that is "
                "read back; use a frozen class, a tuple, or a scalar type"
            )

    @property
    def needs_hook(self) -> bool:
        """Whether msgspec doesn't read such keys of JSON by itself."""
        return self.has_int_kind_keys or not _is_key(self.key)

    @property
    def has_int_kind_keys(self) -> bool:
        """Whether keys are of a kind of `Int`, which JSON writes as texts."""
        return isinstance(self.key, Named) and issubclass(self.key.kind, Int)

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept dicts with fitting keys and members."""
        key, member = self.key.rule(stored=stored), self.member.rule(stored=stored)
        exact, fits = key.exact, key.accepts
        exact_item, fits_item = member.exact, member.accepts
        has_exact_keys, has_exact_items = _only(exact), _only(exact_item)

        def accepts(value: object) -> bool:
            if type(value) is not dict:
                return False
            entries = cast("dict[object, object]", value)
            if has_exact_keys(map(type, entries)) and has_exact_items(
                map(type, entries.values())
            ):
                return True
            return all(
                [  # noqa: C419 - quicker
                    (type(name) is exact or fits(name))
                    and (type(item) is exact_item or fits_item(item))
                    for name, item in entries.items()
                ]
            )

        return Rule(None, accepts)

    def narrow(self, value: object, use: Use) -> object:
        """Return the mapping as a dict with narrowed keys and members."""
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        if not isinstance(value, self.origin):
            raise Misfit(value, self)
        entries = cast("abc.Mapping[object, object]", value)
        found = {
            inside(f"[key {shown(key):.40}]", self.key, key, use): inside(
                f"[{shown(key):.40}]", self.member, item, use
            )
            for key, item in entries.items()
        }
        return value if use is Use.COMMAND else _equal(found, value, self)

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return the schemas of keys and members."""
        return [("[key]", self.key), ("[...]", self.member)]


def _only(exact: type | None) -> Callable[[Iterable[type]], bool]:
    """Return what finds out, in one call of C, whether all types are the exact one."""
    # The `None` of a rule without an exact type is the type of no member.
    return frozenset({exact}).issuperset


_KEY_KINDS = {"str", "int", "UUID", "date", "datetime"}


def _is_key(key: Schema) -> bool:
    """Return whether msgspec reads and writes keys of this type by itself."""
    if isinstance(key, Atom):
        return key.kind.__name__ in _KEY_KINDS
    if isinstance(key, OneOf):
        return key.json == frozenset({"str"}) and not key.needs_hook
    if isinstance(key, Member):
        return not key.needs_hook
    return isinstance(key, Named)


def _is_hashable(key: Schema) -> bool:
    """Return whether equal keys have equal hashes, as far as the type itself decides.

    What is inside of a key decides it, too, but a tuple with a list in it is no key of
    any mapping.
    """
    if isinstance(key, Array):
        return key.kind in {tuple, frozenset}
    if isinstance(key, Atom):
        return key.kind is not bytearray
    if isinstance(key, Map) or key.anything:
        return False
    kind: Any = getattr(key, "kind", None)
    if isinstance(kind, type) and key.levels:
        hashes: object = kind.__hash__
        compares: object = kind.__eq__
        is_by_value = hashes is not None and compares is not object.__eq__
        return is_by_value and not key.changeable
    return True


def _items_of(value: object) -> tuple[object, ...] | None:
    return cast("tuple[object, ...]", value) if isinstance(value, tuple) else None


def _equal(narrowed: object, value: object, schema: Schema) -> object:
    """Refuse what would come back as something else."""
    if narrowed == value:
        return narrowed
    raise Misfit(value, schema)
