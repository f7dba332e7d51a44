"""Schemas of unions: how the members are distinguished in JSON."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, TypeGuard

from eventbraid.domain._record_schema import Record
from eventbraid.domain._schema import Misfit, Rule, Schema, Use

if TYPE_CHECKING:
    from collections.abc import Iterable

TAG = "$type"
"""The key of a JSON object that names the member of a union that it is."""


class Choice(Schema):
    """A union.

    Members that JSON distinguishes by itself (a number, a text, null) are written as
    always. Two or more values with fields are written with their tag. Classes without
    tags are distinguished by a field that is a `Literal` of other texts in each.
    """

    def __init__(self, annotation: object, options: list[Schema]) -> None:
        """Determine whether JSON distinguishes the members."""
        super().__init__(annotation)
        self.options = options
        self.json = frozenset().union(*(option.json for option in options))
        records = [one for one in options if _is_object(one)]
        self.is_natively_tagged = len(records) > 1 and all(
            one.native_tag is not None for one in records
        )
        self.discriminator: str | None = None
        if len(records) > 1 and any(one.tag is None for one in records):
            self.discriminator = _common_literal(records)
        self.is_tagged = (
            len(records) > 1 and not self.is_natively_tagged and not self.discriminator
        )
        self.is_plain = not self.is_tagged and not self.discriminator
        if not any(option.reason for option in options):
            self.reason = self._ambiguity()

    def _ambiguity(self) -> str | None:
        for one, other in combinations(self.options, 2):
            if one.json.isdisjoint(other.json):
                continue
            if _is_object(one) and _is_object(other):
                if self.discriminator:
                    continue
                if self.is_natively_tagged and one.native_tag != other.native_tag:
                    continue
                reason = _untold(one, other)
                if reason is not None:
                    return reason
            else:
                return (
                    f"JSON doesn't tell {one.name} from {other.name}: both are "
                    f"written as {_WORDS[min(one.json & other.json)]}; use one of "
                    "them, or wrap each in an eb.value_object class"
                )
        return None

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept what one of the members accepts."""
        rules = [option.rule(stored=stored) for option in self.options]
        exact = frozenset(rule.exact for rule in rules if rule.exact is not None)

        def accepts(value: object) -> bool:
            return type(value) in exact or any(rule.accepts(value) for rule in rules)

        return Rule(None, accepts)

    def narrow(self, value: object, use: Use) -> object:
        """Return the value, narrowed to the first member that allows it."""
        if self.rule(stored=use is Use.STORED).allows(value):
            return value
        deepest = Misfit(value, self)
        for option in self.options:
            try:
                return option.narrow(value, use)
            except Misfit as misfit:
                if len(misfit.path) > len(deepest.path) or misfit.reason:
                    deepest = misfit
        raise deepest

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return the members."""
        return [("", option) for option in self.options]

    @property
    def has_tags(self) -> bool:
        """Whether a hook of ours writes tags.

        msgspec writes the tags of Structs only if it reads and writes all that is
        inside of them.
        """
        return self.is_tagged or self.is_natively_tagged

    def by_literal(self) -> list[tuple[Record, frozenset[str]]]:
        """Return the members with fields, with their texts of the discriminator."""
        name = self.discriminator
        if name is None:
            return []
        return [
            (option, option.literals()[name])
            for option in self.options
            if _is_object(option)
        ]

    def tags(self) -> dict[str, Record]:
        """Return the members with fields by their tags."""
        found: dict[str, Record] = {}
        for option in self.options:
            if _is_object(option) and option.tag is not None:
                found[option.tag] = option
        return found


def _is_object(schema: Schema) -> TypeGuard[Record]:
    return isinstance(schema, Record) and schema.json == frozenset({"object"})


def _common_literal(records: list[Record]) -> str | None:
    """Return a field that is a `Literal` in all classes, with other texts in each."""
    first, *others = [record.literals() for record in records]
    for name in first:
        texts = [first[name], *(one.get(name, frozenset[str]()) for one in others)]
        distinct = frozenset[str]().union(*texts)
        if all(texts) and len(distinct) == sum(map(len, texts)):
            return name
    return None


def _untold(one: Record, other: Record) -> str | None:
    for record in (one, other):
        if record.tag is None:
            return (
                f"JSON doesn't tell {one.name} from {other.name}; {_tagging(record)}, "
                'or give each class a field such as kind: Literal["..."] of its own'
            )
    if one.kind is other.kind:
        return (
            f"JSON doesn't tell {one.name} from {other.name}: type arguments aren't "
            f"recorded; derive a class from {one.kind.__name__} for each"
        )
    if one.tag == other.tag:
        return (
            f"{one.name} and {other.name} have the same tag {one.tag!r}; give one of "
            'them another: @eb.value_object(tag="...")'
        )
    return None


def _tagging(record: Record) -> str:
    """Return how a class without a tag gets one."""
    kind, name = record.kind, record.name
    if hasattr(kind, "__struct_fields__"):
        return f'give {name} a tag: class {kind.__name__}(msgspec.Struct, tag="...")'
    if hasattr(kind, "__dataclass_fields__") and not hasattr(
        kind, "__pydantic_validator__"
    ):
        return (
            f"decorate {name} with @eb.value_object in place of @dataclass, which "
            "gives it a tag"
        )
    return f"write {name} as an @eb.value_object class, which has a tag"


_WORDS = {
    "null": "null",
    "bool": "true or false",
    "int": "whole numbers",
    "float": "numbers",
    "str": "texts",
    "array": "arrays",
    "object": "objects",
}
