"""Strategies of hypothesis for events, derived from the schemas of their classes."""

from __future__ import annotations

import datetime as dt
import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

import msgspec

from eventbraid.domain import Id, Int
from eventbraid.domain._container_schema import Array, FixedTuple, Map
from eventbraid.domain._model_schema import ModelRecord
from eventbraid.domain._record_schema import Record, TypedDictRecord
from eventbraid.domain._scalar_schema import (
    Absent,
    Anything,
    Atom,
    Bounded,
    Member,
    Named,
    OneOf,
    RawJson,
)
from eventbraid.domain._schema_builder import schema_of
from eventbraid.domain._union_schema import Choice
from eventbraid.errors import InvalidArgument, InvalidValue
from eventbraid.event import event_type, new_event

try:
    from hypothesis import reject
    from hypothesis import strategies as st
except ModuleNotFoundError as missing:
    message = (
        "eventbraid.testing.events_of needs hypothesis, which is not installed; "
        "install it with: pip install 'eventbraid[testing]'"
    )
    raise ModuleNotFoundError(message, name=missing.name) from missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from eventbraid.domain import Text
    from eventbraid.domain._schema import Schema

    Any_ = SearchStrategy[Any]

E = TypeVar("E")

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_REFUSALS = (InvalidArgument, InvalidValue, ValueError, TypeError)


def events_of(kind: type[E], /, **fields: SearchStrategy[Any]) -> SearchStrategy[E]:
    """Return a strategy for the events of a registered class.

    Each event can be stored and read back. The values respect the bounds of `Int`,
    `Text` and `Id`, the bounds of ``Annotated[..., msgspec.Meta(...)]``, and what the
    class itself checks.

    Args:
        kind: The class.
        **fields: Strategies for fields, by their names, in place of the derived ones.

    Raises:
        InvalidArgument: The class isn't registered, a field doesn't exist, or no
            strategy can be derived for a field; pass one for it.
        ModuleNotFoundError: hypothesis isn't installed.

    Example:
        >>> import eventbraid as eb
        >>> from hypothesis import given, strategies as st
        >>> from eventbraid.testing import events_of
        >>> @eb.event("doc.letter.weighed")
        ... class Weighed:
        ...     grams: int
        ...     is_urgent: bool
        >>> @given(events_of(Weighed, grams=st.integers(1, 500)))
        ... def every_letter_has_a_weight(weighed):
        ...     assert 1 <= weighed.grams <= 500
        >>> every_letter_has_a_weight()
    """
    event_type(kind)
    schema = cast("Record", schema_of(kind))
    declared = _fields_of(schema)
    names = [name for name, _ in declared]
    for name in fields:
        if name not in names:
            listed = ", ".join(names)
            raise InvalidArgument(
                f"field of {kind.__name__}", name, f"its fields are: {listed}"
            )
    builder = _Builder(kind)
    values = {
        name: fields[name] if name in fields else builder.strategy_of(one, name)
        for name, one in declared
    }
    return st.fixed_dictionaries(values).map(_event_maker(kind))


def _fields_of(schema: Record) -> list[tuple[str, Schema]]:
    if not isinstance(schema, ModelRecord):
        return schema.fields
    # pydantic knows the fields of its models; it checks their bounds at construction.
    fields: dict[str, Any] = cast("Any", schema.kind).model_fields
    return [(name, schema_of(field.annotation)) for name, field in fields.items()]


def _event_maker(kind: type[E]) -> Callable[[dict[str, Any]], E]:
    make = _maker(kind)

    def build(values: dict[str, Any]) -> E:
        event = cast("E", make(values))
        try:
            # What can't be stored is no event that an application could meet.
            new_event("_", event)
        except _REFUSALS:
            reject()
        return event

    return build


def _maker(kind: type) -> Callable[[dict[str, Any]], object]:
    """Return a function that constructs an instance, or rejects the example."""
    fields = getattr(kind, "__dataclass_fields__", {})
    computed = {name for name, field in fields.items() if not field.init}
    attributes: tuple[Any, ...] = getattr(kind, "__attrs_attrs__", ())
    aliases = {one.name: one.alias for one in attributes}

    def build(values: dict[str, Any]) -> object:
        arguments = {
            aliases.get(name, name): value
            for name, value in values.items()
            if name not in computed
        }
        try:
            return kind(**arguments)
        except _REFUSALS:
            reject()

    return build


class _Builder:
    """Builds the strategies of one class; records may contain their own kind."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._records: dict[int, Any_] = {}

    def strategy_of(self, schema: Schema, path: str) -> Any_:
        """Return the strategy of a schema.

        Raises:
            InvalidArgument: No strategy can be derived for it.
        """
        scalar = _scalar(schema)
        if scalar is not None:
            return scalar
        match schema:
            case Bounded():
                return self._bounded(schema, path)
            case Choice():
                options = [self.strategy_of(one, path) for one in schema.options]
                return st.one_of(options)
            case Record():
                return self._record(schema, path)
            case _:
                return self._collection(schema, path)

    def _collection(self, schema: Schema, path: str) -> Any_:
        match schema:
            case Array():
                members = self.strategy_of(schema.member, f"{path}[...]")
                unique = schema.kind in {set, frozenset}
                lists = st.lists(members, max_size=5, unique=unique)
                return lists.map(schema.kind)
            case FixedTuple():
                return st.tuples(
                    *(
                        self.strategy_of(one, f"{path}[{number}]")
                        for number, one in enumerate(schema.members)
                    )
                )
            case Map():
                key = self.strategy_of(schema.key, f"{path}[key]")
                member = self.strategy_of(schema.member, f"{path}[...]")
                return st.dictionaries(key, member, max_size=5)
            case _:
                raise InvalidArgument(
                    f"field of {self._kind.__name__}",
                    f"{path}: {schema.name}",
                    "no strategy can be derived for this type; pass one: "
                    f"events_of({self._kind.__name__}, "
                    f"{path.partition('.')[0].partition('[')[0]}=...)",
                )

    def _record(self, schema: Record, path: str) -> Any_:
        # Deferred, because a class may have fields of its own kind.
        found = self._records.get(id(schema))
        if found is None:
            found = st.deferred(lambda: self._new_record(schema, path))
            self._records[id(schema)] = found
        return found

    def _new_record(self, schema: Record, path: str) -> Any_:
        fields = {
            name: self.strategy_of(one, f"{path}.{name}")
            for name, one in _fields_of(schema)
        }
        if not isinstance(schema, TypedDictRecord):
            return st.fixed_dictionaries(fields).map(_maker(schema.kind))
        required: frozenset[str] = cast("Any", schema.kind).__required_keys__
        return st.fixed_dictionaries(
            {name: one for name, one in fields.items() if name in required},
            optional={
                name: one for name, one in fields.items() if name not in required
            },
        )

    def _bounded(self, schema: Bounded, path: str) -> Any_:
        annotation: Any = schema.annotation
        bounds: dict[str, Any] = {}
        for meta in annotation.__metadata__:
            if isinstance(meta, msgspec.Meta):
                bounds |= {
                    name: getattr(meta, name)
                    for name in (*_NUMBERS, *_LENGTHS, "pattern")
                    if getattr(meta, name) is not None
                }
        strategy = self.strategy_of(schema.plain, path)
        if isinstance(schema.plain, Atom):
            narrowed = _within(schema.plain.kind, bounds)
            strategy = strategy if narrowed is None else narrowed
        # What the bounds above don't narrow, such as `multiple_of`, is filtered.
        return strategy.filter(schema.rule().allows)


_NUMBERS = ("gt", "ge", "lt", "le")
_LENGTHS = ("min_length", "max_length")


def _within(kind: type, bounds: dict[str, Any]) -> Any_ | None:
    """Return a strategy for a built-in type within the bounds of an annotation."""
    if kind is int:
        lowest: int = bounds.get("ge", bounds.get("gt", _LOWEST - 1) + 1)
        highest: int = bounds.get("le", bounds.get("lt", _HIGHEST + 1) - 1)
        return st.integers(lowest, highest)
    if kind is float:
        return st.floats(
            min_value=bounds.get("ge", bounds.get("gt")),
            max_value=bounds.get("le", bounds.get("lt")),
            exclude_min="gt" in bounds,
            exclude_max="lt" in bounds,
            allow_nan=False,
            allow_infinity=False,
        )
    if kind is str and "pattern" in bounds:
        pattern: str = bounds["pattern"]
        return st.from_regex(pattern)
    if kind in {str, bytes}:
        shortest, longest = bounds.get("min_length", 0), bounds.get("max_length")
        if kind is str:
            return _text(shortest, longest)
        return st.binary(min_size=shortest, max_size=longest)
    return None


def _scalar(schema: Schema) -> Any_ | None:
    """Return the strategy of a value without members; `None` for other schemas."""
    match schema:
        case Atom():
            return _ATOMS[schema.kind]()
        case Named():
            return _named(schema.kind)
        case Member():
            return st.sampled_from(list(schema.kind))
        case OneOf():
            return st.sampled_from(schema.values)
        case Anything():
            return _json()
        case RawJson():
            return _json().map(lambda one: msgspec.Raw(msgspec.json.encode(one)))
        case Absent():
            return st.just(msgspec.UNSET)
        case _:
            return None


def _named(kind: type[Int | Id | Text]) -> Any_:
    if issubclass(kind, Int):
        return st.integers(kind.lowest, kind.highest).map(kind)
    if issubclass(kind, Id):
        start = f"{kind.prefix}-" if kind.prefix else ""
        rest = st.text(_ID_CHARACTERS, min_size=1, max_size=36)
        return st.builds(operator.add, st.just(start), rest).map(kind)
    shortest, longest = kind._shortest, kind._longest  # noqa: SLF001 - of the library
    form = kind._form  # noqa: SLF001 - as above
    if form is None:
        return _text(min_size=shortest, max_size=longest).map(kind)

    def has_fitting_length(text: str) -> bool:
        return shortest <= len(text) and (longest is None or len(text) <= longest)

    texts = st.from_regex(form, fullmatch=True).filter(has_fitting_length)
    return texts.map(kind)


_ID_CHARACTERS = st.characters(
    codec="ascii", categories=["L", "N"], include_characters="-_."
)


def _text(min_size: int = 0, max_size: int | None = None) -> Any_:
    # A lone surrogate has no UTF-8, so it can't be stored.
    characters = st.characters(exclude_categories=["Cs"])
    return st.text(characters, min_size=min_size, max_size=max_size)


def _json() -> Any_:
    numbers = st.integers(_LOWEST, _HIGHEST) | st.floats(
        allow_nan=False, allow_infinity=False
    )
    atoms = st.none() | st.booleans() | numbers | _text()
    return st.recursive(
        atoms,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(_text(), inner, max_size=3)
        ),
        max_leaves=5,
    )


_ATOMS: dict[type, Callable[[], Any_]] = {
    type(None): st.none,
    bool: st.booleans,
    int: lambda: st.integers(_LOWEST, _HIGHEST),
    float: lambda: st.floats(allow_nan=False, allow_infinity=False),
    str: _text,
    bytes: st.binary,
    bytearray: lambda: st.binary().map(bytearray),
    dt.datetime: lambda: st.datetimes(timezones=st.just(dt.UTC)),
    dt.date: st.dates,
    dt.time: st.times,
    dt.timedelta: st.timedeltas,
    Decimal: lambda: st.decimals(allow_nan=False, allow_infinity=False),
    UUID: st.uuids,
}
