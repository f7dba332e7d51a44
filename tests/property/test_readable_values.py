"""Whatever type a field has and whatever value it holds: accepted means readable.

Types are built from all that an annotation may be, values from what fits the type and
from what doesn't. A class may be refused, and so may a value; what is accepted comes
back equal and of the same types.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar, Union
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.domain._same import is_same

T = TypeVar("T")
numbers = itertools.count()


class Money(eb.Int, ge=0): ...


class Fee(Money): ...


class OrderId(eb.Id, prefix="order"): ...


class Name(eb.Text, max_length=20): ...


class Colour(enum.Enum):
    RED = "röd"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@eb.value_object
class Card:
    number: str
    größe: int = 0  # noqa: PLC2401 - such names are used


@eb.value_object
class Cash:
    amount: Money
    change: float = 0.0


@eb.value_object
class Box(Generic[T]):
    inside: T


class Price(NamedTuple):
    amount: Money
    currency: str


class Point(TypedDict, total=False):
    x: int
    ÿ: float  # noqa: PLC2401 - such names are used


class Struct(msgspec.Struct, frozen=True):
    price: Money
    note: str | None = None


@dataclasses.dataclass
class Loose:
    rate: float
    tags: list[str]


texts = st.text(max_size=8)
money = st.integers(0, 2**63 - 1).map(Money)
offsets = st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=6,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    None: st.none(),
    bool: st.booleans(),
    int: st.integers() | st.integers(-(2**80), 2**80),
    float: st.floats() | st.integers(-(2**60), 2**60),
    str: texts | st.text(st.characters(), max_size=3),
    bytes: st.binary(max_size=8),
    Decimal: st.decimals(),
    UUID: st.uuids(),
    datetime: st.datetimes(timezones=st.none() | offsets | st.timezones()),
    date: st.dates(),
    time: st.times(timezones=st.none() | offsets | st.timezones()),
    timedelta: st.timedeltas(),
    Money: money,
    OrderId: st.uuids().map(lambda u: OrderId(f"order-{u}")),
    Name: st.text("aé😀", min_size=1, max_size=5).map(Name),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Literal["a", 1, "ß"]: st.sampled_from(["a", 1, "ß"]),
    Any: json_values,
    Card: st.builds(Card, texts, st.integers()),
    Cash: st.builds(Cash, money, st.floats(allow_nan=False, allow_infinity=False)),
    Price: st.builds(Price, money, texts),
    Point: st.fixed_dictionaries({}, optional={"x": st.integers(), "ÿ": st.floats()}),
    Struct: st.builds(Struct, money, st.none() | texts),
    Loose: st.builds(Loose, st.floats(), st.lists(texts, max_size=2)),
}
ODD = st.sampled_from(
    [Fee(1), object(), float("nan"), "\ud800", b"x", (1,), [1], {1}, {1: 2}, 2**53 + 1]
)


@st.composite
def annotations(  # noqa: C901 - one case for each form
    draw: st.DrawFn, levels: int = 2
) -> Any:
    """Draw a type and a strategy of values of this type."""
    if levels == 0 or draw(st.booleans()):
        kind = draw(st.sampled_from(list(SCALARS)))
        return kind, SCALARS[kind]
    inside, values = draw(annotations(levels - 1))
    other, others = draw(annotations(levels - 1))
    lists = st.lists(values, max_size=3)
    match draw(st.integers(0, 10)):
        case 0:
            return list[inside], lists
        case 1:
            return tuple[inside, ...], lists.map(tuple)
        case 2:
            return tuple[inside, other], st.tuples(values, others)
        case 3:
            return Sequence[inside], lists | lists.map(tuple)
        case 4:
            return frozenset[inside], lists.map(_frozen)
        case 5:
            return dict[str, inside], st.dictionaries(texts, values, max_size=3)
        case 6:
            return Mapping[inside, other], st.lists(st.tuples(values, others)).map(
                _dict
            )
        case 7:
            return Box[inside], st.builds(Box, values)
        case 8:
            return Union[inside, None], values | st.none()  # noqa: UP007 - of a variable
        case _:
            return Union[inside, other], values | others  # noqa: UP007 - of a variable


def _frozen(items: list[Any]) -> Any:
    try:
        return frozenset(items)
    except TypeError:
        return items


def _dict(items: list[tuple[Any, Any]]) -> Any:
    try:
        return dict(items)
    except TypeError:
        return items


def recorded(name: str, data: bytes) -> eb.RecordedEvent:
    return eb.RecordedEvent(
        stream="any-1",
        version=1,
        position=1,
        type=name,
        event_id=UUID(int=1),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
        metadata=None,
    )


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(annotations(), st.data())
def test_an_event_that_is_accepted_comes_back_as_it_was(typed, data):
    annotation, values = typed
    body = {"__annotations__": {"held": annotation}, "__module__": __name__}
    kind = type(f"Any{next(numbers)}", (), body)
    try:
        kind = eb.event(f"test_readable_values.{kind.__name__}")(kind)
    except eb.errors.InvalidEventType:
        event("refused class")
        assume(False)
    value = data.draw(values if data.draw(st.integers(0, 9)) else ODD)
    try:
        happened = kind(value)
        type_, encoded = eb.encode_event(happened)
    except (eb.InvalidValue, eb.errors.InvalidArgument):
        event("refused value")
        return
    event("accepted")
    again = eb.decode_event(recorded(type_, encoded))
    assert is_same(again, happened)
    assert eb.encode_event(again)[0] == type_
