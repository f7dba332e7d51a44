"""An event that is accepted can be read back, equal and of the same types.

What a class can't read back is refused when the class is registered; a value that would
come back as something else is refused before it is written. Until then, such an event is
durable, and each read of its stream fails for ever.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import fractions
import itertools
import types
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    TypedDict,
    TypeVar,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

import eventbraid as eb
from eventbraid.domain._invalid_value import shown
from eventbraid.domain._same import is_same
from eventbraid.event import EventRegistry

T = TypeVar("T")


class Money(eb.Int, ge=0): ...


class Fee(Money): ...


class Huge(eb.Int, le=2**200): ...


class OrderId(eb.Id, prefix="order"): ...


class RushId(OrderId, prefix="rush"): ...


class Short(eb.Text, max_length=5): ...


class Long(Short, max_length=10): ...


@eb.value_object
class Card:
    number: str


@eb.value_object
class Voucher:
    number: str


@eb.value_object
class Cash:
    amount: Money


@eb.value_object
class GoldCard(Card):
    bonus: int = 0


@eb.value_object(tag="bank-transfer")
class BankTransfer:
    account: str
    then: Card | Cash | None = None


@eb.value_object
class Tree:
    name: str
    children: tuple[Tree | Card, ...] = ()


@eb.value_object
class Box(Generic[T]):
    inside: T


@eb.value_object
class Upper:
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text.upper())


@eb.value_object
class Doubled:
    amount: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", self.amount * 2)


@eb.value_object
class Growing:
    items: list[int]

    def __post_init__(self) -> None:
        self.items.append(0)


@eb.value_object
class Sorted:
    items: list[int]

    def __post_init__(self) -> None:
        self.items.sort()


@eb.value_object
class NotANumber:
    amount: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", float("nan"))


@eb.value_object
class Labelled:
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", object())


class Colour(enum.Enum):
    RED = "rot"
    GREEN = "grün"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Mixed(enum.Enum):
    A4 = (210, 297)
    LETTER = "letter"


class Price(NamedTuple):
    amount: Money
    currency: str


class Point(TypedDict, total=False):
    x: Money
    größe: int  # noqa: PLC2401 - such names are used


class By(TypedDict):
    payment: Card | Cash


class Struct(msgspec.Struct, frozen=True):
    price: Money
    payment: Card | Cash | None = None


class Sparse(msgspec.Struct, frozen=True):
    price: int | msgspec.UnsetType = msgspec.UNSET
    other: int | msgspec.UnsetType = 5


@attrs.frozen
class DependentDefault:
    price: int
    double: int = attrs.Factory(lambda self: self.price * 2, takes_self=True)


class Tagged(msgspec.Struct, frozen=True, tag=True):
    price: Money


class AlsoTagged(msgspec.Struct, frozen=True, tag=True):
    price: Money


@dataclasses.dataclass
class Loose:
    price: Money
    rate: float = 0.0


@attrs.frozen
class Attrs:
    price: Money
    _hidden: int = 0


@eb.register_event("test_readable.model")
class Model(pydantic.BaseModel):
    price: Money
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    aliased: int = pydantic.Field(default=1, alias="theAlias")


@pydantic.dataclasses.dataclass
class ModelDataclass:
    price: Money


class Quacks(Protocol):
    def quack(self) -> None: ...


@eb.event("test_readable.happened")
class Happened:
    what: str


@eb.event("test_readable.ended", version=2, oldest_version=2)
class Ended:
    what: str


CARD, CASH = Card("4111"), Cash(Money(5))
EAST = timezone(timedelta(hours=5, minutes=45))
numbers = itertools.count()


def event_class(annotation):
    number = next(numbers)
    body = {"__annotations__": {"held": annotation}, "__module__": __name__}
    return eb.event(f"test_readable.{number}")(type(f"Case{number}", (), body))


def read_back(event):
    with eb.open("memory:") as store:
        store.append([eb.new_event("case-1", event)])
        [recorded] = store.read_stream("case-1")
    return eb.decode_event(recorded)


COMES_BACK = [
    (Card | Cash, CARD),
    (Card | Cash, CASH),
    (Card | Cash | None, None),
    (Card | Cash | str | Money, Money(3)),
    (Card | Cash | str | Money, "x"),
    (Card | Cash | BankTransfer, BankTransfer("a", BankTransfer("b").then)),
    (Card | BankTransfer, BankTransfer("a", CASH)),
    (list[Card | Cash], [CARD, CASH]),
    (tuple[Card | Cash, ...], (CARD, CASH)),
    (tuple[str, Card | Cash], ("x", CASH)),
    (frozenset[Card | Cash], frozenset({CARD, CASH})),
    (dict[str, Card | Cash], {"a": CARD, "b": CASH}),
    (dict[str, list[Card | Cash | None]], {"a": [CARD, None]}),
    (Tree | Card, Tree("a", (Tree("b"), CARD))),
    (Happened | Ended, Ended("x")),
    (Happened | Card, Happened("x")),
    (Card | Model, Card("1")),
    (Card | Model, Model(price=Money(1), theAlias=5)),
    (Box[Money], Box(Money(1))),
    (Box[Card | Cash], Box(CASH)),
    (Box[Money] | None, Box(Money(1))),
    (Money | str, Money(1)),
    (Money | str, "x"),
    (OrderId | int, OrderId("order-1")),
    (OrderId | Money | None, None),
    (int | float, 5),
    (int | float, 5.0),
    (Money | float, 5.0),
    (Money | float, Money(5)),
    (dict[Money, int], {Money(1): 1}),
    (dict[Money, Card | Cash], {Money(1): CARD}),
    (dict[OrderId, Money], {OrderId("order-1"): Money(1)}),
    (dict[int, str], {-5: "x"}),
    (dict[date, int], {date(2026, 1, 1): 1}),
    (dict[UUID, int], {UUID(int=1): 1}),
    (dict[Colour, int], {Colour.GREEN: 1}),
    (dict[Level, int], {Level.LOW: 1}),
    (Price, Price(Money(1), "EUR")),
    (Point, {"x": Money(1)}),
    (Point, {"größe": 1}),
    (By, {"payment": CARD}),
    (Struct, Struct(Money(1), CARD)),
    (Tagged | AlsoTagged, AlsoTagged(Money(1))),
    (Loose, Loose(Money(1), 0.5)),
    (Attrs, Attrs(Money(1), 5)),
    (Model, Model(price=Money(1), theAlias=5)),
    (list[Model], [Model(price=Money(1))]),
    (ModelDataclass, ModelDataclass(Money(1))),
    (Colour, Colour.GREEN),
    (Level | None, Level.LOW),
    (Literal["größe", 1] | None, "größe"),
    (Literal["a"] | Literal["b"] | None, "b"),  # noqa: PYI030 - as users write it
    (Final[int], 5),
    (Sparse, Sparse()),
    (Sparse, Sparse(1, 2)),
    (Sequence[Money], [Money(1)]),
    (Mapping[str, Money], {"a": Money(1)}),
    (set[Money], {Money(1)}),
    (datetime, datetime(2026, 1, 1, 5, 6, 7, 8, tzinfo=EAST)),
    (datetime, datetime(2026, 1, 1)),  # noqa: DTZ001 - without a zone on purpose
    (time, time(5, 6, 7, 8, tzinfo=UTC)),
    (timedelta, timedelta.max),
    (timedelta, timedelta(microseconds=-1)),
    (Decimal, Decimal("1E+5")),
    (Decimal, Decimal("-0.00")),
    (bytes, bytes(range(256))),
    (bytearray, bytearray(b"x")),
    (float, -0.0),
    (float, 1e300),
    (int, 2**13000),
    (int, 10**4299),
    (int, -(10**4298)),
    (str, "1" * 10_000),
    (Any, ["1" * 10_000, -(10**4298)]),
    (Huge, Huge(2**150)),
    (str, "\u2028\x00\N{PILE OF POO}"),
    (Any, {"a": [1, 2**70, 0.5, None, True, "x", {}]}),
    (list[Any], [[], {}]),
    (Upper, Upper("abc")),
    (Sorted, Sorted([3, 1, 2])),
    (Labelled, Labelled("abc")),
    (msgspec.Raw, msgspec.Raw(b'{"a":[1]}')),
]


@pytest.mark.parametrize(("annotation", "value"), COMES_BACK, ids=shown)
def test_an_accepted_value_comes_back_as_it_was(annotation, value):
    event = event_class(annotation)(value)
    again = read_back(event)
    assert is_same(again, event)
    assert type(again.held) is type(value)


UNREADABLE = [
    (object, "typing.Any"),
    (Quacks, "counterpart of Quacks"),
    (Path, "counterpart of Path"),
    (complex, "counterpart of complex"),
    (fractions.Fraction, "counterpart of Fraction"),
    (collections.deque[int], "counterpart of deque"),
    (Mixed, "values of its members"),
    (Literal[b"a"], "a Literal may list"),
    (Literal[Colour.RED, "rot"], "both written as 'rot'"),
    (DependentDefault, "default of DependentDefault.double"),
    (Money | int, r"doesn't tell Money from int.*whole numbers"),
    (Money | Fee, "doesn't tell Money from Fee"),
    (OrderId | str, "doesn't tell OrderId from str.*texts"),
    (str | Decimal, "doesn't tell str from Decimal"),
    (str | datetime, "doesn't tell str from datetime"),
    (str | Colour, "doesn't tell str from Colour"),
    (list[int] | tuple[int, ...], "arrays"),
    (dict[str, int] | Card, "objects"),
    (dict[list[int], int], "not hashable by value"),
    (dict[Loose, int], "not hashable by value"),
    (dict[float, int] | list[int], "arrays"),
    (Card | Loose, "decorate Loose with @eb.value_object in place of @dataclass"),
    (Box[int] | Box[str], "derive a class from Box for each"),
    (list[Box[Money | int]], "doesn't tell Money from int"),
    (type, "counterpart of type"),
]


@pytest.mark.parametrize(("annotation", "reason"), UNREADABLE, ids=shown)
def test_a_class_that_could_not_be_read_back_is_refused(annotation, reason):
    with pytest.raises(eb.errors.InvalidEventType, match=reason) as refused:
        event_class(annotation)
    assert ".held" in str(refused.value)


def test_two_classes_with_one_tag_in_a_union_are_refused():
    @eb.value_object(tag="Card")
    class OtherCard: ...

    with pytest.raises(eb.errors.InvalidEventType, match=r"same tag 'Card'.*tag="):
        event_class(Card | OtherCard)


def test_a_field_whose_value_is_not_kept_is_refused():
    with pytest.raises(eb.errors.InvalidEventType, match=r"factor.*InitVar"):

        @eb.event("test_readable.init_var")
        class WithInitVar:
            amount: int
            factor: dataclasses.InitVar[int] = 2


def test_a_class_that_names_a_later_one_is_judged_before_it_is_written():
    # Not in the default registry, whose schema other tests write.
    registry = EventRegistry()
    names = types.SimpleNamespace(eb=eb, registry=registry, __name__=__name__)
    exec(
        "from __future__ import annotations\n"
        "@eb.event('test_readable.early', registry=registry)\n"
        "class Early:\n"
        "    held: TestLater | int\n",
        vars(names),
    )
    globals()["TestLater"] = Money
    try:
        event = names.Early(Money(5))
        with pytest.raises(
            eb.errors.InvalidEventType, match="doesn't tell Money from int"
        ):
            eb.encode_event(event, registry=registry)
    finally:
        del globals()["TestLater"]


grown = [Money(1)]
BERLIN = ZoneInfo("Europe/Berlin")
cyclic: list[object] = []
cyclic.append(cyclic)
WOULD_CHANGE = [
    (Card, GoldCard("1")),
    (Money, Fee(1)),
    (OrderId, RushId("rush-1")),
    (Short, Long("longer")),
    (Box[Money], Box(-5)),
    (list[Box[Money]], [Box(5)]),
    (date, datetime(2026, 1, 1, 5, tzinfo=UTC)),
    (datetime, datetime(1850, 1, 1, tzinfo=BERLIN)),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001 - without a zone
    (time, time(5, tzinfo=BERLIN)),
    (time, time(2, 30, fold=1)),
    (float, 2**53 + 1),
    (float, 10**400),
    (float, float("nan")),
    (Decimal, Decimal("NaN")),
    (Decimal, Decimal("Infinity")),
    (int, True),
    (int, 10**5000),
    (int, -(10**4299)),
    (Any, [-(10**4299)]),
    (dict[int, int], {-(10**4299): 1}),
    (bool, 1),
    (str, "\ud800"),
    (Any, float("nan")),
    (Any, (1, 2)),
    (Any, {1: 2}),
    (Any, Money(1)),
    (Any, OrderId("order-1")),
    (Any, Colour.RED),
    (Any, datetime(2026, 1, 1, tzinfo=UTC)),
    (Any, b"x"),
    (Any, {1}),
    (Any, CARD),
    (Any, cyclic),
    (Box, Box(Money(1))),
    (Sequence[Money], (Money(1),)),
    (Price, Price(5, "EUR")),
    (tuple[int, ...], Price(5, "EUR")),
    (Point, {"x": 1}),
    (Point, {"y": 1}),
    (By, {}),
    (Doubled, Doubled(2)),
    (Growing, Growing([1])),
    (Sparse, Sparse(1, msgspec.UNSET)),
    (Loose, Loose(5)),
    (Struct, Struct(Money(1), GoldCard("1"))),
    (Model, Model.model_construct(price=-5)),
    (msgspec.Raw, msgspec.Raw(b"}{")),
    (frozenset[str], {"a"}),
    (Literal["a", 1], True),
    (Literal["a", 1], []),
]


@pytest.mark.parametrize(("annotation", "value"), WOULD_CHANGE, ids=shown)
def test_a_value_that_would_come_back_as_something_else_is_refused(annotation, value):
    kind = event_class(annotation)
    with pytest.raises((eb.InvalidValue, eb.errors.InvalidArgument)):
        eb.encode_event(kind(value))


def test_a_field_that_post_init_makes_unfit_is_refused():
    with pytest.raises(eb.InvalidValue, match=r"NotANumber.amount"):
        NotANumber(1.0)


@pytest.mark.parametrize(
    ("annotation", "value", "changed"),
    [
        (list[Money], [Money(1)], lambda held: held.append(-5)),
        (dict[str, Money], {}, lambda held: held.update(a=-5)),
        (set[str], set(), lambda held: held.add(5)),
        (Loose, Loose(Money(1)), lambda held: setattr(held, "price", 5)),
        (
            list[Loose],
            [Loose(Money(1))],
            lambda held: setattr(held[0], "rate", 10**400),
        ),
        (Box[list[Money]], Box([Money(1)]), lambda held: held.inside.append("x")),
        (tuple[Any, ...], ([],), lambda held: held[0].append(object())),
        (Model, Model(price=Money(1)), lambda held: setattr(held, "price", "x")),
    ],
    ids=shown,
)
def test_what_was_changed_after_it_was_made_is_checked_again(
    annotation, value, changed
):
    event = event_class(annotation)(value)
    eb.encode_event(event)
    changed(value)
    with pytest.raises((eb.InvalidValue, eb.errors.InvalidArgument)):
        eb.encode_event(event)


NARROWED = [
    (str, OrderId("order-1"), "order-1"),
    (str, Word.YES, "yes"),
    (int, Level.LOW, 1),
    (float, 2, 2.0),
    (list[float], [1, 2], [1.0, 2.0]),
    (dict[str, float], collections.OrderedDict(a=1), {"a": 1.0}),
    (Mapping[str, int], types.MappingProxyType({"a": 1}), {"a": 1}),
    (tuple[Money, str], Price(Money(1), "EUR"), (Money(1), "EUR")),
    (float | None, 2, 2.0),
    (
        datetime,
        datetime(2026, 7, 1, 12, tzinfo=BERLIN),
        datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    ),
    (
        datetime,
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=1))),
    ),
]


@pytest.mark.parametrize(("annotation", "given", "held"), NARROWED, ids=shown)
def test_an_equal_value_of_another_type_becomes_the_declared_one(
    annotation, given, held
):
    event = event_class(annotation)(given)
    assert is_same(event.held, held)
    assert is_same(read_back(event), event)


@pytest.mark.parametrize(
    "given", [datetime(2026, 1, 1, fold=1, tzinfo=UTC), time(2, fold=1, tzinfo=UTC)]
)
def test_a_fold_without_a_meaning_is_dropped_when_the_event_is_made(given):
    event = event_class(type(given))(given)
    assert (event.held, event.held.fold) == (given, 0)
    assert read_back(event).held.fold == 0


def test_a_field_that_post_init_computes_comes_back():
    @eb.event("test_readable.square")
    class Square:
        side: int
        area: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "area", self.side**2)

    assert read_back(Square(3)).area == 9


def test_a_field_that_post_init_computes_of_something_else_is_refused():
    @eb.event("test_readable.numbered")
    class Numbered:
        name: str
        number: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "number", next(numbers))

    with pytest.raises(eb.errors.InvalidArgument, match="__post_init__ runs again"):
        eb.encode_event(Numbered("a"))


def test_a_field_that_post_init_forgets_is_refused():
    @eb.event("test_readable.forgotten")
    class Forgotten:
        area: int = dataclasses.field(init=False)

        def __post_init__(self) -> None: ...

    with pytest.raises(eb.InvalidValue, match=r"Forgotten.area.*__post_init__"):
        Forgotten()


def test_what_post_init_leaves_beside_the_fields_is_not_stored():
    event = event_class(Labelled)(Labelled("x"))
    assert eb.encode_event(event)[1] == b'{"held":{"text":"x"}}'


def test_the_error_names_the_place_and_the_remedy():
    kind = event_class(dict[str, list[Loose]])
    event = kind({"a": []})
    event.held["a"] = [Loose(Money(1)), Loose(5)]
    with pytest.raises(eb.InvalidValue) as refused:
        eb.encode_event(event)
    assert refused.value.type == f"{kind.__name__}.held"
    assert "['a'][1].price is an int; write Money(5)" in str(refused.value)


def test_a_tagged_value_is_written_with_its_tag():
    kind = event_class(Card | BankTransfer)
    assert eb.encode_event(kind(BankTransfer("a", CARD)))[1] == (
        b'{"held":{"$type":"bank-transfer","account":"a",'
        b'"then":{"$type":"Card","number":"4111"}}}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"held":{"number":"1"}}',
        b'{"held":{"$type":"Nothing","number":"1"}}',
        b'{"held":{"$type":5,"number":"1"}}',
        b'{"held":{"$type":"Card"}}',
        b'{"held":{"$type":"Card","number":5}}',
        b'{"held":[]}',
        b'{"held":1}',
        b"{}",
        b"[]",
    ],
)
def test_a_body_with_another_tag_is_an_error(body):
    kind = event_class(Card | BankTransfer)
    with eb.open("memory:") as store:
        store.append([("case-1", eb.event_type(kind), body)])
        [recorded] = store.read_stream("case-1")
    with pytest.raises(eb.errors.EventDecodeError):
        eb.decode_event(recorded)


def test_a_default_fills_in_for_a_field_beside_a_tagged_one():
    @eb.event("test_readable.defaults")
    class WithDefaults:
        by: Card | Cash
        note: str = "none"
        tags: tuple[str, ...] = dataclasses.field(default_factory=tuple)

    with eb.open("memory:") as store:
        body = b'{"by":{"$type":"Card","number":"1"}}'
        store.append([("case-1", eb.event_type(WithDefaults), body)])
        [recorded] = store.read_stream("case-1")
    assert eb.decode_event(recorded) == WithDefaults(Card("1"))


class Happenings(eb.Stream[Happened], category="happenings"): ...


class Pay(eb.StatefulCommand[None, Happened]):
    happenings: eb.Declared[Happenings]
    by: tuple[Card | Voucher, ...]

    def initial(self) -> None:
        return None

    def apply(self, state: None, recorded: eb.Recorded[Happened], /) -> None:
        del state, recorded

    def decide(self, state: None, /):
        del state
        yield self.happenings.write(Happened("x"))


def test_a_key_tells_values_of_a_union_with_the_same_fields_apart():
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        card = Pay(happenings="happenings-1", by=(Card("1"),))
        voucher = Pay(happenings="happenings-1", by=(Voucher("1"),))
        executor.execute(card, idempotency_key="a")
        assert executor.execute(card, idempotency_key="a").replayed
        with pytest.raises(eb.errors.IdempotencyMismatch):
            executor.execute(voucher, idempotency_key="a")
