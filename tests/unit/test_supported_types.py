"""Each form of class and annotation that the table of supported types names.

An event of each is read back equal and of the same types. What isn't supported is
refused when the class is registered, or when it is first used if an annotation refers
to a class that is defined later.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    Self,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attr
import attrs
import msgspec
import pydantic
import pytest
import typing_extensions

import eventbraid as eb
from eventbraid.domain._same import is_same
from eventbraid.event import EventRegistry
from eventbraid.event._json_schema import SchemaWriter

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")
U = TypeVar("U")
Bound = TypeVar("Bound", bound="Item")
Constrained = TypeVar("Constrained", int, str)
UserId = NewType("UserId", int)
Pair = typing_extensions.TypeAliasType("Pair", tuple[T, T], type_params=(T,))
Whole = typing_extensions.TypeAliasType("Whole", int)
numbers = itertools.count()


def read_back(event: object) -> object:
    """Encode an event, decode it, and return the result."""
    new = eb.new_event("any-1", event)
    with eb.open("memory:") as store:
        store.append([new])
        [recorded] = store.read_stream("any-1")
    return eb.decode_event(recorded)


def check(event: object) -> None:
    assert is_same(read_back(event), event)


def holding(annotation: object) -> Any:
    """Define an event class with one field."""
    number = next(numbers)
    body = {"__annotations__": {"held": annotation}, "__module__": __name__}
    kind = type(f"Holding{number}", (), body)
    return eb.event(f"test_supported_types.holding{number}")(kind)


# --- scalars and containers


class Colour(enum.Enum):
    RED = (255, 0, 0)
    BLUE = (0, 0, 255)


class Size(enum.Enum):
    SMALL = 1.5
    LARGE = Decimal("2.5")


class Switch(enum.Enum):
    ON = True
    OFF = False


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Money(eb.Int, ge=0): ...


class OrderId(eb.Id, prefix="order"): ...


@eb.value_object
class Item:
    name: str
    number: int = 0


class Point(NamedTuple):
    x: int
    y: Decimal


NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
HELD = [
    (Colour, Colour.BLUE),
    (Size, Size.LARGE),
    (Switch, Switch.OFF),
    (Level, Level.HIGH),
    (Word, Word.NO),
    (Right, Right.READ | Right.WRITE),
    (Right, Right(0)),
    (Bits, Bits.ONE | Bits.TWO),
    (Bits, Bits(8)),
    (Literal[True], True),
    (Literal[Colour.RED, True, 3, "x"] | None, Colour.RED),
    (Literal[1, True], True),
    (Literal[1, True], 1),
    (Literal[Level.LOW, "low"], Level.LOW),
    (LiteralString, "text"),
    (UserId, UserId(3)),
    (Whole, 3),
    (Whole | None, None),
    (Pair[Decimal], (Decimal("1.0"), Decimal(2))),
    (dict[str, Pair[int]], {"a": (1, 2)}),
    (Annotated[int, "a note"], 3),
    (Annotated[int, msgspec.Meta(ge=0)], 3),
    (frozenset[Colour], frozenset(Colour)),
    (frozenset[Item | None], frozenset([Item("a"), None])),
    (set[frozenset[Decimal]], {frozenset([Decimal("1.0")]), frozenset()}),
    (T, [1, None]),
    (Bound, Item("a")),
    (Constrained, "text"),
    ("Item", Item("a")),
    (list["Item"], [Item("a")]),
]
KEYS = [
    (Decimal, Decimal("1.50")),
    (time, time(1, 2, tzinfo=UTC)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (bytes, b"\x00\xff"),
    (date, date(2026, 1, 2)),
    (datetime, NOW),
    (UUID, UUID(int=7)),
    (float, 1.5),
    (bool, True),
    (int, -(2**70)),
    (Money, Money(3)),
    (OrderId, OrderId("order-1")),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Right, Right.READ | Right.WRITE),
    (Literal[1, 2], 1),
    (Literal[Colour.RED, "x"], Colour.RED),
    (str | None, None),
    (int | str, "1"),
    (Annotated[str, msgspec.Meta(max_length=3)], "abc"),
    (tuple[int, str], (1, "a")),
    (tuple[Colour, ...], (Colour.RED, Colour.BLUE)),
    (frozenset[int], frozenset([1, 2])),
    (Item, Item("a")),
    (Point, Point(1, Decimal("1.0"))),
]


@pytest.mark.parametrize(("annotation", "value"), HELD, ids=repr)
def test_a_field_of_the_type_is_read_back(annotation, value):
    check(holding(annotation)(value))


@pytest.mark.parametrize(("annotation", "key"), KEYS, ids=repr)
@pytest.mark.parametrize("mapping", [dict, Mapping])
def test_a_mapping_with_keys_of_the_type_is_read_back(mapping, annotation, key):
    kind = holding(mapping[annotation, Decimal])
    check(kind({key: Decimal("1.0")}))
    check(kind({}))


def test_members_with_other_values_are_written_by_name():
    kind = holding(dict[Colour, Size])
    new = eb.new_event("any-1", kind({Colour.RED: Size.SMALL}))
    assert new.data == b'{"held":{"RED":"SMALL"}}'


def test_keys_that_are_no_texts_are_written_as_pairs():
    kind = holding(dict[tuple[int, str], bool])
    new = eb.new_event("any-1", kind({(1, "a"): True}))
    assert new.data == b'{"held":[[[1,"a"],true]]}'


@pytest.mark.parametrize(
    ("annotation", "body", "reason"),
    [
        (Colour, b'"GREEN"', "'GREEN' is not a member of Colour: RED, BLUE"),
        (Colour, b"1", "not a member"),
        (Literal[True], b"1", r"expected Literal\[True\], and it is 1"),
        (Literal[True], b"[]", "expected"),
        (dict[Decimal, int], b'{"x":1}', "decimal"),
        (dict[float, int], b"[[1]]", "length"),
    ],
)
def test_a_body_with_another_value_is_a_decode_error(annotation, body, reason):
    kind = holding(annotation)
    with eb.open("memory:") as store:
        store.append([("any-1", eb.event_type(kind), b'{"held":%s}' % body)])
        [recorded] = store.read_stream("any-1")
    with pytest.raises(eb.errors.EventDecodeError, match=reason):
        eb.decode_event(recorded)


# --- classes of other libraries, with all their settings


class Renamed(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    some_name: Item | Point | None = None
    other_name: int = 3


class InArray(msgspec.Struct, frozen=True, array_like=True):
    by: Literal[Colour.RED]
    number: int = 3


class First(msgspec.Struct, frozen=True, tag="first"):
    by: Literal[Colour.RED]


class Second(msgspec.Struct, frozen=True, tag="second"):
    number: int


class Third(msgspec.Struct, frozen=True, tag=3):
    number: int


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    price: Decimal
    tags: frozenset[str] = frozenset()
    when: datetime | None = None


@attr.s(frozen=True)
class OldAttributes:
    number = attr.ib(type=Decimal)
    anything = attr.ib(default=None)


@attrs.frozen(kw_only=True)
class Attributes:
    price: Decimal
    _secret: int = 3
    named: int = attrs.field(default=4, alias="other")


class Payload(TypedDict):
    """Under the future import, Python itself overlooks the qualifiers."""

    number: Required[int]
    note: NotRequired[Decimal]


class Further(Payload, total=False):
    more: Required[int]
    less: int


OTHERS = [
    (Renamed, Renamed(some_name=Item("a"))),
    (InArray, InArray(Colour.RED)),
    (InArray | int, InArray(Colour.RED)),
    (First | Second, First(Colour.RED)),
    (First | Second, Second(1)),
    (First | Item, First(Colour.RED)),
    (Third | Item, Third(1)),
    (Model, Model(price=Decimal("1.10"), tags=frozenset("abc"), when=NOW)),
    (OldAttributes, OldAttributes(Decimal("1.0"), {"a": 1})),
    (Attributes, Attributes(price=Decimal("1.0"), secret=5, other=6)),
    (Payload, {"number": 1}),
    (Payload, {"number": 1, "note": Decimal("1.0")}),
    (Further, {"number": 1, "more": 2}),
]


@pytest.mark.parametrize(("annotation", "value"), OTHERS, ids=repr)
def test_a_class_of_another_library_is_read_back(annotation, value):
    check(holding(annotation)(value))


@pytest.mark.parametrize("kind", [Renamed, InArray, Model, OldAttributes, Attributes])
def test_a_class_of_another_library_is_an_event(kind):
    [value] = [held for annotation, held in OTHERS if annotation is kind]
    eb.register_event(f"test_supported_types.{kind.__name__}")(kind)
    check(value)


@pytest.mark.parametrize("value", [{}, {"number": 1, "other": 2}, {"note": Decimal(1)}])
def test_a_typed_dict_without_its_keys_is_refused(value):
    with pytest.raises(eb.InvalidValue):
        holding(Payload)(value)


def test_a_typed_dict_is_no_event_class():
    with pytest.raises(eb.errors.InvalidEventType, match="doesn't name its class"):
        eb.register_event("test_supported_types.payload")(Payload)
    with pytest.raises(eb.errors.InvalidEventType, match="type of a field"):
        eb.register_event("test_supported_types.point")(Point)


# --- unions of classes that a Literal distinguishes


@dataclasses.dataclass(frozen=True)
class Leaf:
    kind: Literal["leaf"]
    value: Decimal


@dataclasses.dataclass(frozen=True)
class Fork:
    kind: Literal["fork", "old fork"]
    left: Leaf | Fork
    right: Leaf | Fork


class CardModel(pydantic.BaseModel):
    kind: Literal["card"] = "card"
    number: str


class CashModel(pydantic.BaseModel):
    kind: Literal["cash"] = "cash"
    amount: Decimal


class CardDict(TypedDict):
    kind: Literal["card"]
    number: str


class CashDict(TypedDict):
    kind: Literal["cash"]
    amount: Decimal


class CardStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: Literal["card"] = "card"
    number: str = ""


class CashStruct(msgspec.Struct, frozen=True, rename={"kind": "how"}):
    kind: Literal["cash"] = "cash"
    amount: Decimal = Decimal(0)


TREE = Fork(
    "fork",
    Leaf("leaf", Decimal("1.0")),
    Fork("old fork", *[Leaf("leaf", Decimal(2))] * 2),
)
CHOICES = [
    (Leaf | Fork, TREE),
    (list[Leaf | Fork | None], [TREE, None, TREE.left]),
    (CardModel | CashModel, CashModel(amount=Decimal("1.0"))),
    (CardDict | CashDict, {"kind": "cash", "amount": Decimal("1.0")}),
    (CardStruct | CashStruct, CardStruct()),
    (CardStruct | CashStruct, CashStruct()),
    (CardModel | CashStruct | int, CashStruct()),
    (CardModel | CashStruct | int, 3),
]


@pytest.mark.parametrize(("annotation", "value"), CHOICES, ids=repr)
def test_a_union_that_a_literal_distinguishes_is_read_back(annotation, value):
    check(holding(annotation)(value))


def test_an_unknown_text_of_a_distinguishing_field_is_a_decode_error():
    kind = holding(Leaf | Fork)
    with eb.open("memory:") as store:
        body = b'{"held":{"kind":"bush"}}'
        store.append([("any-1", eb.event_type(kind), body)])
        [recorded] = store.read_stream("any-1")
    with pytest.raises(eb.errors.EventDecodeError, match="'kind' must be one of"):
        eb.decode_event(recorded)


# --- classes that refer to each other and to themselves


@eb.event("test_supported_types.early")
class Early:
    later: Later
    other: LaterStruct | None = None


@eb.value_object
class Later:
    number: Decimal


class LaterStruct(msgspec.Struct, frozen=True):
    number: Decimal


@eb.value_object
class Left:
    right: Right_ | None = None
    by_name: Mapping[str, Left] = dataclasses.field(default_factory=dict)


@eb.value_object
class Right_:  # noqa: N801 - `Right` is the flag
    left: Left
    both: frozenset[Right_] = frozenset()


@eb.event("test_supported_types.mutual")
class Mutual:
    left: Left


@eb.event("test_supported_types.own")
class Own:
    kids: tuple[Self, ...] = ()
    by_name: dict[str, Self] = dataclasses.field(default_factory=dict)
    next: Self | None = None


@eb.event("test_supported_types.own_child")
class OwnChild(Own):
    number: Decimal = Decimal(0)


class OwnStruct(msgspec.Struct, frozen=True):
    kids: tuple[Self, ...] = ()


class OwnDict(TypedDict):
    number: int
    next: OwnDict | None


class OwnTuple(NamedTuple):
    number: int
    next: OwnTuple | None = None


RECURSIVE = [
    Early(Later(Decimal("1.0")), LaterStruct(Decimal(2))),
    Mutual(Left(Right_(Left(by_name={"a": Left()})))),
    Own((Own(),), {"a": Own((Own(),))}, Own()),
    OwnChild((OwnChild(number=Decimal("1.0")),)),
    holding(OwnStruct)(OwnStruct((OwnStruct(),))),
    holding(OwnDict)({"number": 1, "next": {"number": 2, "next": None}}),
    holding(OwnTuple)(OwnTuple(1, OwnTuple(2))),
]


@pytest.mark.parametrize("event", RECURSIVE, ids=lambda event: type(event).__name__)
def test_a_class_that_refers_to_itself_or_to_a_later_one_is_read_back(event):
    check(event)


def test_self_is_the_class_itself_and_not_its_base():
    with pytest.raises(eb.InvalidValue, match="OwnChild"):
        OwnChild((Own(),))


def test_an_alias_that_refers_to_itself_is_refused():
    json = typing_extensions.TypeAliasType("json", "dict[str, json] | int")
    with pytest.raises(eb.errors.InvalidEventType, match="refers to itself"):
        holding(json)
    cyclic: Any = typing_extensions.TypeAliasType("cyclic", list["cyclic"])
    with pytest.raises(eb.errors.EventbraidError):
        holding(cyclic)([])


# --- generic classes


@eb.value_object
class Page(Generic[T]):
    items: tuple[T, ...]
    next: Page[T] | None = None


@dataclasses.dataclass(frozen=True)
class DataPage(Generic[T]):
    items: tuple[T, ...]


class StructPage(msgspec.Struct, Generic[T], frozen=True):
    items: tuple[T, ...]


@attrs.frozen
class AttrsPage(Generic[T]):
    items: tuple[T, ...]


class ModelPage(pydantic.BaseModel, Generic[T]):
    items: tuple[T, ...]


class DictPage(TypedDict, Generic[T]):
    items: list[T]


class TuplePage(NamedTuple, Generic[T]):
    items: tuple[T, ...]


@eb.value_object
class Two(Generic[T, U]):
    first: T
    second: U
    rest: Mapping[str, T] = dataclasses.field(default_factory=dict)


@eb.value_object
class DecimalPage(Page[Decimal]):
    number: int = 0


D = Decimal("1.0")
GENERIC = [
    (Page[Decimal], Page((D,), Page((D,)))),
    (Page[Page[Item]], Page((Page((Item("a"),)),))),
    (DataPage[Item], DataPage((Item("a"),))),
    (StructPage[Decimal], StructPage((D,))),
    (AttrsPage[Item | None], AttrsPage((Item("a"), None))),
    (ModelPage[Decimal], ModelPage[Decimal](items=(D,))),
    (DictPage[Decimal], {"items": [D]}),
    (TuplePage[Colour], TuplePage((Colour.RED,))),
    (Two[int, Decimal], Two(1, D, {"a": 2})),
    (DecimalPage, DecimalPage((D,), None, 3)),
    (Page[int] | Item, Page((1,))),
]


@pytest.mark.parametrize(("annotation", "value"), GENERIC, ids=repr)
def test_a_generic_class_with_type_arguments_is_read_back(annotation, value):
    check(holding(annotation)(value))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Page[Decimal], Page((1,))),
        (Page[int], Page((1,), Page((D,)))),
        (DictPage[Decimal], {"items": [1]}),
        (TuplePage[int], TuplePage((D,))),
    ],
)
def test_a_value_of_other_type_arguments_is_refused(annotation, value):
    with pytest.raises(eb.InvalidValue):
        holding(annotation)(value)


# --- what a class body may say


def test_class_variables_and_final_fields():
    @eb.event("test_supported_types.body")
    class Body:
        count: ClassVar[int] = 3
        limit: ClassVar = 4
        number: Final[Decimal]
        text: Annotated[Final[str], "a note"] = "x"

    check(Body(Decimal("1.0")))
    assert dataclasses.fields(Body)[0].name == "number"


def test_final_without_a_type_is_refused():
    with pytest.raises(eb.errors.InvalidEventType, match=r"write Final\[int\]"):

        @eb.event("test_supported_types.final")
        class Body:
            number: Final = 3


def test_keyword_only_slots_and_inheritance():
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        number: Decimal

    @eb.register_event("test_supported_types.slots")
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Child(Base):
        _: dataclasses.KW_ONLY
        text: str = "x"

    check(Child(number=Decimal("1.0")))


def test_a_field_that_a_descriptor_keeps_is_refused():
    class Halved:
        def __get__(self, instance: Any, owner: type | None = None) -> int:
            return 1 if instance is None else vars(instance).get("_number", 1)

        def __set__(self, instance: Any, value: int) -> None:
            vars(instance)["_number"] = value // 2

    with pytest.raises(eb.errors.InvalidEventType, match=r"number.*descriptor"):

        @eb.register_event("test_supported_types.halved")
        @dataclasses.dataclass
        class Happened:
            number: int = Halved()  # type: ignore[assignment]


# --- classes that a function defines


def test_classes_of_a_function_may_refer_to_each_other():
    @dataclasses.dataclass(frozen=True)
    class Inner:
        number: Decimal
        next: Inner | None = None

    class InnerStruct(msgspec.Struct, frozen=True):
        inner: Inner

    class InnerDict(TypedDict):
        inner: NotRequired[InnerStruct]

    @eb.event("test_supported_types.local")
    class Outer:
        inner: InnerStruct
        payload: InnerDict
        own: tuple[Outer, ...] = ()
        later: Afterwards | None = None

    @eb.value_object
    class Afterwards:
        outer: Outer

    inner = InnerStruct(Inner(Decimal("1.0"), Inner(Decimal(2))))
    first = Outer(inner, {"inner": inner})
    check(Outer(inner, {}, (first,), Afterwards(first)))


def defined_by_a_function() -> tuple[type, type]:
    @eb.value_object
    class Inner:
        number: Decimal

    @eb.event("test_supported_types.returned")
    class Outer:
        inner: Inner
        own: tuple[Outer, ...] = ()

    return Inner, Outer


def test_classes_that_a_function_has_returned_keep_their_names():
    inner, outer = defined_by_a_function()
    check(outer(inner(Decimal("1.0")), (outer(inner(Decimal(2))),)))


def test_the_class_of_a_function_hides_that_of_the_module():
    @eb.value_object
    class Item:
        other: Decimal

    @eb.event("test_supported_types.hidden")
    class Happened:
        item: Item

    check(Happened(Item(Decimal("1.0"))))


def test_a_name_that_is_imported_for_checkers_only_is_named():
    # Not in the default registry, whose schema other tests write.
    registry = EventRegistry()

    @eb.event("test_supported_types.checkers", registry=registry)
    class Happened:
        part: Fraction

    with pytest.raises(eb.errors.InvalidArgument, match=r"'Fraction'.*TYPE_CHECKING"):
        Happened(1)

    @eb.register_event("test_supported_types.checkers_too", registry=registry)
    @dataclasses.dataclass
    class Other:
        part: Fraction

    with pytest.raises(eb.errors.InvalidArgument, match=r"'Fraction'.*TYPE_CHECKING"):
        eb.new_event("any-1", Other(1), registry=registry)


# --- equal events have equal bodies


SETS = """
import enum, pydantic
import eventbraid as eb

class Kind(enum.Enum):
    A = (1,)
    B = (2,)

@eb.value_object
class Item:
    name: str

@eb.event("sets.plain")
class Plain:
    names: frozenset[str]

@eb.event("sets.nested")
class Nested:
    names: set[frozenset[str]]
    items: frozenset[Item | None]
    kinds: frozenset[Kind]
    order: dict[str, frozenset[str]]
    keys: dict[frozenset[str], int]

@eb.register_event("sets.model")
class Model(pydantic.BaseModel):
    names: frozenset[str]

names = frozenset(map(str, range(20)))
items = frozenset([Item(name) for name in names] + [None])
nested = Nested({names, frozenset("ab")}, items, frozenset(Kind), {"b": names, "a": names}, {names: 1})
for event in (Plain(names), nested, Model(names=names)):
    print(eb.encode_event(event)[1].decode())
"""


def test_sets_are_written_in_the_same_order_by_each_process():
    """The retry of a keyed append may come from another process."""
    written = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(written) == 1
    assert b'"order":{"b":' in written.pop()


# --- what the schema of an event says about them


def test_the_schema_of_an_event_describes_what_is_written():
    @eb.event("test_supported_types.described")
    class Described:
        colour: Colour
        choice: Literal[Colour.RED, True]
        pairs: dict[tuple[int, str], Decimal]
        prices: dict[Decimal, int]
        payload: Payload
        size: Size = Size.SMALL

    properties = SchemaWriter().of_class(Described)["properties"]
    assert properties["colour"]["enum"] == ["BLUE", "RED"]
    assert properties["choice"]["enum"] == ["RED", True]
    assert properties["pairs"]["items"]["prefixItems"][1]["format"] == "decimal"
    assert properties["prices"]["propertyNames"]["format"] == "decimal"
    assert properties["size"]["default"] == "SMALL"
    writer = SchemaWriter()
    writer.of_class(Described)
    assert writer.definitions["Payload"]["required"] == ["number"]


def test_a_number_of_too_many_digits_is_refused_with_a_remedy():
    with pytest.raises(eb.errors.InvalidArgument, match=r"4,300 digits; record it"):
        eb.new_event("a-1", holding(int)(10**5000))
