"""Whatever type a field has and whatever value it holds: accepted means readable.

Types are built from all that an annotation may be, values from what fits the type and
from what doesn't. A class may be refused, and so may a value; what is accepted comes
back equal and of the same types.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import os
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import (
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Self,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import attrs
import msgspec
import pydantic
import typing_extensions
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.domain._same import is_same
from eventbraid.event import BodyContext, codec_id

T = TypeVar("T")
numbers = itertools.count()
Whole = typing_extensions.TypeAliasType("Whole", int)
Pair = typing_extensions.TypeAliasType("Pair", tuple[T, T], type_params=(T,))
UserId = NewType("UserId", int)


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


class Shade(enum.Enum):
    DARK = (0, 0)
    LÏGHT = (1.5, "x")  # noqa: PLC2401 - such names are used


class Rights(enum.Flag):
    READ = 1
    WRITE = 2
    SHARE = 8


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


class Page(TypedDict, Generic[T]):
    items: list[T]
    nöte: NotRequired[str]  # noqa: PLC2401 - such names are used


class Leaf(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: Literal["leaf"] = "leaf"
    value: Decimal = Decimal(0)


@dataclasses.dataclass(frozen=True)
class Fork:
    kind: Literal["fork"]
    left: Leaf | Fork
    own: tuple[Self, ...] = ()


@attrs.frozen
class Attributes(Generic[T]):
    held: T
    _secret: int = 0


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    price: Decimal
    tags: frozenset[str] = frozenset()


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
decimals = st.decimals(allow_nan=False, allow_infinity=False)
leaves = st.builds(Leaf, value=decimals)
forks = st.recursive(
    leaves,
    lambda inner: st.builds(
        Fork,
        st.just("fork"),
        inner,
        st.lists(inner.filter(lambda one: isinstance(one, Fork)), max_size=2).map(
            tuple
        ),
    ),
    max_leaves=4,
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
    Shade: st.sampled_from(Shade),
    Rights: st.integers(0, 3).map(Rights) | st.just(Rights.SHARE | Rights.READ),
    Literal["a", 1, "ß"]: st.sampled_from(["a", 1, "ß"]),
    Literal[True, 1, Shade.DARK]: st.sampled_from([True, 1, Shade.DARK]),
    Whole: st.integers(),
    Pair[Decimal]: st.tuples(decimals, decimals),
    UserId: st.integers(),
    Page[Decimal]: st.fixed_dictionaries(
        {"items": st.lists(decimals, max_size=2)}, optional={"nöte": texts}
    ),
    Union[Leaf, Fork]: forks,  # noqa: UP007 - a key of the dict
    Model: st.builds(Model, price=decimals, tags=st.frozensets(texts, max_size=3)),
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
def annotations(  # noqa: C901, PLR0912 - one case for each form
    draw: st.DrawFn, levels: int = 2
) -> Any:
    """Draw a type and a strategy of values of this type."""
    if levels == 0 or draw(st.booleans()):
        kind = draw(st.sampled_from(list(SCALARS)))
        return kind, SCALARS[kind]
    inside, values = draw(annotations(levels - 1))
    other, others = draw(annotations(levels - 1))
    lists = st.lists(values, max_size=3)
    match draw(st.integers(0, 13)):
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
        case 9:
            return Attributes[inside], st.builds(Attributes, values, st.integers())
        case 10:
            return dict[inside, other], st.lists(st.tuples(values, others)).map(_dict)
        case 11:
            return set[inside], lists.map(_set)
        case 8:
            return Union[inside, None], values | st.none()  # noqa: UP007 - of a variable
        case _:
            return Union[inside, other], values | others  # noqa: UP007 - of a variable


def _frozen(items: list[Any]) -> Any:
    try:
        return frozenset(items)
    except TypeError:
        return items


def _set(items: list[Any]) -> Any:
    try:
        return set(items)
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


def accepted(typed: Any, data: st.DataObject, codec: Any = None) -> Any:
    """Define an event class with a field of the type, and draw an event of it.

    Returns:
        The event, and the event to append; None if the class or the value is refused.
    """
    annotation, values = typed
    body = {"__annotations__": {"held": annotation}, "__module__": __name__}
    kind = type(f"Any{next(numbers)}", (), body)
    name = f"test_readable_values.{kind.__name__}"
    try:
        kind = eb.event(name, codec=codec)(kind)
    except eb.errors.InvalidEventType:
        event("refused class")
        assume(False)
    value = data.draw(values if data.draw(st.integers(0, 9)) else ODD)
    try:
        happened = kind(value)
        return happened, eb.new_event("any-1", happened)
    except (eb.InvalidValue, eb.errors.InvalidArgument):
        event("refused value")
        return None


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(annotations(), st.data())
def test_an_event_that_is_accepted_comes_back_as_it_was(typed, data):
    found = accepted(typed, data)
    if found is None:
        return
    event("accepted")
    happened, new = found
    again = eb.decode_event(recorded(new.type, new.data))
    assert is_same(again, happened)
    assert eb.encode_event(again)[0] == new.type


class Noisy:
    """A codec whose result differs each time, as that of a cipher does."""

    id = "readable-noisy"

    def encode(self, body: bytes, context: BodyContext) -> bytes:
        noise = os.urandom(8)
        return noise + zlib.compress(body + repr(context).encode() + noise)

    def decode(self, body: bytes, context: BodyContext) -> bytes:
        end = repr(context).encode() + body[:8]
        plain = zlib.decompress(body[8:])
        if not plain.endswith(end):
            raise ValueError("another context")
        return plain[: -len(end)]


class MessagePack:
    id = "readable-msgpack"

    def encode(self, body: bytes, context: BodyContext) -> bytes:
        del context
        return msgspec.msgpack.encode(msgspec.json.decode(body))

    def decode(self, body: bytes, context: BodyContext) -> bytes:
        del context
        return msgspec.json.encode(msgspec.msgpack.decode(body))


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(annotations(), st.data(), st.sampled_from([Noisy(), MessagePack()]))
def test_an_encoded_event_comes_back_as_it_was(typed, data, codec):
    try:
        found = accepted(typed, data, codec)
    except OverflowError:  # MessagePack has no number beyond 64 bits.
        event("refused by the codec")
        return
    if found is None:
        return
    event("accepted")
    happened, new = found
    assert codec_id(new.data) == codec.id
    assert is_same(eb.decode_event(recorded(new.type, new.data)), happened)
    retried = eb.new_event("any-1", happened)
    assert retried.content == new.content
