"""A change of an event that would break reading old events is found before it ships."""

from __future__ import annotations

import dataclasses
import enum
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from msgspec import Meta

import eventbraid as eb
from eventbraid.event import (
    EventRegistry,
    event_schema,
    schema_changes,
    schema_of_text,
    schema_text,
    upcaster,
)

T = TypeVar("T")


class Money(eb.Int, ge=0): ...


class MoreMoney(eb.Int, ge=-5): ...


class OrderId(eb.Id, prefix="order"): ...


class ItemId(eb.Id, prefix="item"): ...


class Name(eb.Text, max_length=10): ...


class LongName(eb.Text, max_length=20): ...


class Code(eb.Text, pattern="[A-Z]"): ...


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Weekday(enum.Enum):
    """Its members are written as their names, because JSON has no tuples."""

    MONDAY = (1, "work")
    SUNDAY = (7, "rest")


class MoreColours(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


@eb.value_object
class Line:
    price: int


@eb.value_object
class LineWithNote:
    price: int
    note: str = ""


@eb.value_object
class LineWithTax:
    price: int
    tax: int


@eb.value_object
class LineOfMoney:
    price: Money


@eb.value_object(tag="Line")
class LineAgain:
    price: int


@eb.value_object
class Card:
    number: str


class Node(msgspec.Struct, frozen=True):
    value: int
    children: tuple[Node, ...] = ()


class NodeAgain(msgspec.Struct, frozen=True):
    value: int
    children: tuple[NodeAgain, ...] = ()


class TextNode(msgspec.Struct, frozen=True):
    value: str
    children: tuple[TextNode, ...] = ()


class Pair(NamedTuple):
    left: int
    right: int = 0


class Triple(NamedTuple):
    left: int
    right: int = 0
    more: str = ""


class Swapped(NamedTuple):
    right: int
    left: int = 0


class Keys(TypedDict):
    a: int
    b: NotRequired[str]


class FewerKeys(TypedDict):
    a: int


class RequiredKeys(TypedDict):
    a: int
    b: str


class Model(pydantic.BaseModel):
    a: int
    b: str = ""


class ModelAgain(pydantic.BaseModel):
    b: str = ""
    a: int


class ModelOfText(pydantic.BaseModel):
    a: str
    b: str = ""


@dataclasses.dataclass(frozen=True)
class Page(Generic[T]):
    items: tuple[T, ...]


NOTHING: list[tuple[str, bool]] = []
BREAKS = [("type_changed", True)]
WIDENED = [("type_widened", False)]


def registry_of(**fields: object) -> EventRegistry:
    registry = EventRegistry()
    kind = type(
        "Made", (), {"__annotations__": fields, "__qualname__": "<locals>.Made"}
    )
    eb.event("made", registry=registry)(kind)
    return registry


def compared(before: EventRegistry, after: EventRegistry):
    schemas = [
        schema_of_text(schema_text(event_schema(registry=one)))
        for one in (before, after)
    ]
    return schema_changes(*schemas)


def kinds(before: EventRegistry, after: EventRegistry) -> list[tuple[str, bool]]:
    return [(one.kind, one.is_breaking) for one in compared(before, after)]


TYPES = [
    (int, int, NOTHING),
    (int, str, BREAKS),
    (int, float, WIDENED),
    (float, int, BREAKS),
    (int, bool, BREAKS),
    (str, bytes, BREAKS),
    (str, UUID, BREAKS),
    (UUID, str, WIDENED),
    (datetime, date, BREAKS),
    (timedelta, Decimal, BREAKS),
    (Decimal, Decimal, NOTHING),
    (int, Any, WIDENED),
    (Any, int, BREAKS),
    # Kinds of Int, Id and Text.
    (Money, Money, NOTHING),
    (int, Money, BREAKS),
    (Money, int, WIDENED),
    (Money, MoreMoney, WIDENED),
    (MoreMoney, Money, BREAKS),
    (OrderId, ItemId, BREAKS),
    (OrderId, str, WIDENED),
    (str, OrderId, BREAKS),
    (Name, LongName, WIDENED),
    (LongName, Name, BREAKS),
    (Name, Code, BREAKS),
    # Bounds of msgspec.
    (Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=1)], BREAKS),
    (Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=0)], WIDENED),
    (Annotated[str, Meta(max_length=3)], Annotated[str, Meta(max_length=4)], WIDENED),
    (list[int], Annotated[list[int], Meta(max_length=4)], BREAKS),
    # Enums and literals.
    (Colour, MoreColours, WIDENED),
    (MoreColours, Colour, BREAKS),
    (Colour, Literal["red", "blue"], NOTHING),
    (Literal["red"], Colour, WIDENED),
    (Colour, str, WIDENED),
    (str, Colour, BREAKS),
    (Literal[1, 2], Literal[2, 1], NOTHING),
    (Weekday, Literal["MONDAY", "SUNDAY"], NOTHING),
    (Literal[Colour.RED], Literal["red"], NOTHING),
    (Literal[True], Literal[1], BREAKS),
    (Literal[1], Literal["1"], BREAKS),
    # Unions.
    (int, int | None, WIDENED),
    (int | None, int, BREAKS),
    (int | str, str | int, NOTHING),
    (int | None, str | None, BREAKS),
    (int | None, float | None, WIDENED),
    (Line, Line | Card, BREAKS),
    (Line | Card, Card | Line, NOTHING),
    (Line | Card, LineAgain | Card, NOTHING),
    (Line | Card, LineWithNote | Card, BREAKS),
    (Line | Card, Line, BREAKS),
    # Containers.
    (list[int], tuple[int, ...], NOTHING),
    (list[int], list[str], BREAKS),
    (list[int], list[int | None], WIDENED),
    (list[int], set[int], BREAKS),
    (set[int], list[int], NOTHING),
    (tuple[int, int], tuple[int, ...], BREAKS),
    (tuple[int, int], tuple[int, int, int], BREAKS),
    (tuple[int, int], tuple[int, float], WIDENED),
    (dict[str, int], dict[str, str], BREAKS),
    (dict[str, int], dict[OrderId, int], BREAKS),
    (dict[str, int], Line, BREAKS),
    # Values with fields.
    (Line, LineAgain, NOTHING),
    (Line, LineWithNote, [("field_added", False)]),
    (LineWithNote, Line, [("field_removed", True)]),
    (Line, LineWithTax, [("field_required", True)]),
    (Line, LineOfMoney, BREAKS),
    (list[Line], list[LineOfMoney], BREAKS),
    (Line, int, BREAKS),
    (Node, NodeAgain, NOTHING),
    (Node, TextNode, BREAKS),
    (Pair, Triple, NOTHING),
    (Triple, Pair, BREAKS),
    (Pair, Swapped, BREAKS),
    (Keys, FewerKeys, [("field_removed", True)]),
    (FewerKeys, Keys, [("field_added", False)]),
    (Keys, RequiredKeys, [("field_required", True)]),
    (Model, ModelAgain, NOTHING),
    (Model, ModelOfText, BREAKS),
    (Page[int], Page[int], NOTHING),
    (Page[int], Page[str], BREAKS),
]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    TYPES,
    ids=[f"{number}: {one[0]} to {one[1]}" for number, one in enumerate(TYPES)],
)
def test_a_change_of_a_type_breaks_or_not(before, after, expected):
    found = kinds(registry_of(x=before), registry_of(x=after))
    assert found == expected


SAMPLES: list[tuple[object, list[object]]] = [
    (int, [0, -7, 3]),
    (str, ["", "order-1", "A", "x" * 15]),
    (bool, [True]),
    (float, [1.5, -2.0]),
    (bytes, [b"abc"]),
    (UUID, [UUID(int=1)]),
    (datetime, [datetime(2026, 1, 1)]),  # noqa: DTZ001 - without a zone on purpose
    (date, [date(2026, 1, 1)]),
    (timedelta, [timedelta(seconds=1)]),
    (Decimal, [Decimal("1.50")]),
    (Any, [None, "text", [1]]),
    (Money, [Money(0), Money(3)]),
    (MoreMoney, [MoreMoney(-5), MoreMoney(3)]),
    (OrderId, [OrderId("order-1")]),
    (ItemId, [ItemId("item-1")]),
    (Name, [Name("a"), Name("x" * 10)]),
    (LongName, [LongName("x" * 20)]),
    (Code, [Code("A")]),
    (Annotated[int, Meta(ge=0)], [0]),
    (Annotated[int, Meta(ge=1)], [1]),
    (Annotated[str, Meta(max_length=3)], ["abc"]),
    (Annotated[list[int], Meta(max_length=4)], [[1, 2, 3, 4]]),
    (Colour, [*Colour]),
    (MoreColours, [*MoreColours]),
    (Weekday, [*Weekday]),
    (Literal["MONDAY", "SUNDAY"], ["MONDAY"]),
    (Literal["red", "blue"], ["red", "blue"]),
    (Literal["red"], ["red"]),
    (Literal[1, 2], [1, 2]),
    (Literal["1"], ["1"]),
    (int | None, [1, None]),
    (float | None, [1.5, None]),
    (str | None, ["a", None]),
    (int | str, [1, "a"]),
    (Line | Card, [Line(1), Card("5")]),
    (LineWithNote | Card, [LineWithNote(1, "a"), Card("5")]),
    (list[int], [[], [1, 1]]),
    (list[str], [["a"]]),
    (list[int | None], [[None, 1]]),
    (tuple[int, ...], [(), (1, 2, 3)]),
    (set[int], [{1, 2}]),
    (tuple[int, int], [(1, 2)]),
    (tuple[int, int, int], [(1, 2, 3)]),
    (tuple[int, float], [(1, 2.5)]),
    (dict[str, int], [{}, {"a": 1}]),
    (dict[str, str], [{"a": "b"}]),
    (dict[OrderId, int], [{OrderId("order-1"): 1}]),
    (Line, [Line(-1)]),
    (LineWithNote, [LineWithNote(1, "a")]),
    (LineWithTax, [LineWithTax(1, 2)]),
    (LineOfMoney, [LineOfMoney(Money(1))]),
    (list[Line], [[Line(-1)]]),
    (Card, [Card("5")]),
    (Node, [Node(1, (Node(2),))]),
    (TextNode, [TextNode("a", (TextNode("b"),))]),
    (Pair, [Pair(1, 2)]),
    (Triple, [Triple(1, 2, "a")]),
    (Keys, [{"a": 1}, {"a": 1, "b": "c"}]),
    (FewerKeys, [{"a": 1}]),
    (RequiredKeys, [{"a": 1, "b": "c"}]),
    (Model, [Model(a=1, b="c")]),
    (ModelOfText, [ModelOfText(a="1")]),
    (Page[int], [Page((1,))]),
    (Page[str], [Page(("a",))]),
]


@pytest.mark.parametrize(
    ("before", "samples"),
    SAMPLES,
    ids=[f"{number}: {before}" for number, (before, _) in enumerate(SAMPLES)],
)
def test_what_the_comparison_lets_pass_is_decoded(before, samples):
    """Each type is compared with all others; where nothing breaks, old events read."""
    old = registry_of(x=before)
    [found] = old.types()
    schema = event_schema(registry=old)
    with eb.open("memory:") as store:
        for sample in samples:
            event = eb.new_event("s-1", found.kind(sample), registry=old)
            store.append([event])
        recorded = list(store.read_stream("s-1"))
    for after, _ in SAMPLES:
        new = registry_of(x=after)
        changes = schema_changes(schema, event_schema(registry=new))
        if any(one.is_breaking for one in changes):
            continue
        for raw in recorded:
            eb.decode_event(raw, registry=new)
    assert schema_changes(schema, schema) == ()


# --- fields


def event_of(**options):
    def register(kind):
        registry = EventRegistry()
        eb.event("made", registry=registry, **options)(kind)
        return registry

    return register


@event_of()
class WithDefault:
    a: int
    b: int = 1


@event_of()
class WithOtherDefault:
    a: int
    b: int = 2


@event_of()
class WithoutDefault:
    a: int
    b: int


@event_of()
class WithFactory:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


@event_of()
class Fewer:
    a: int


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Fewer, WithDefault, [("field_added", "b", False)]),
        (Fewer, WithFactory, [("field_added", "b", False)]),
        (Fewer, WithoutDefault, [("field_required", "b", True)]),
        (WithDefault, Fewer, [("field_removed", "b", True)]),
        (WithDefault, WithoutDefault, [("field_required", "b", True)]),
        (WithoutDefault, WithDefault, [("default_changed", "b", False)]),
        (WithDefault, WithOtherDefault, [("default_changed", "b", False)]),
    ],
    ids=range(7),
)
def test_a_change_of_a_field_is_named(before, after, expected):
    found = compared(before, after)
    assert [(one.kind, one.field, one.is_breaking) for one in found] == expected
    assert all((one.event, one.version) == ("made", 1) for one in found)
    assert (
        all("@upcaster('made', from_version=1)" in one.message for one in found)
        == (expected[0][2])
    )


@pytest.mark.parametrize("kind", ["struct", "attrs", "pydantic", "dataclass"])
def test_defaults_of_all_kinds_of_classes_count(kind):
    registries = []
    for default in (False, True):
        registry = EventRegistry()
        if kind == "struct":
            fields = [("a", int), ("b", int, 1) if default else ("b", int)]
            made = msgspec.defstruct("Made", fields)
        elif kind == "pydantic":
            made = pydantic.create_model("Made", a=int, b=(int, 1 if default else ...))
        else:
            own = {"b": 1} if default else {}
            own["__annotations__"] = {"a": int, "b": int}
            define = attrs.define if kind == "attrs" else dataclasses.dataclass
            made = define(type("Made", (), own))
        eb.register_event("made", registry=registry)(made)
        registries.append(registry)
    without, with_default = registries
    assert kinds(with_default, without) == [("field_required", True)]
    assert kinds(without, with_default) == [("default_changed", False)]
    assert kinds(with_default, with_default) == []


def test_a_renamed_field_names_the_new_one():
    removed, added = compared(registry_of(total=Money), registry_of(sum=Money))
    assert (removed.kind, removed.field) == ("field_removed", "total")
    assert "the new field 'sum' has the same type" in removed.message
    assert (added.kind, added.field) == ("field_required", "sum")


def test_a_nested_change_names_its_path():
    [change] = compared(
        registry_of(pages=list[Page[Line]]), registry_of(pages=list[Page[LineWithTax]])
    )
    assert (change.kind, change.field) == ("field_required", "pages[].items[].tax")


# --- event types and versions


def define(registry, name="made", version=1, fields=None, **options):
    kind = type(
        "Made",
        (),
        {"__annotations__": fields or {"x": int}, "__qualname__": "<locals>.Made"},
    )
    eb.event(name, version=version, registry=registry, **options)(kind)
    return registry


def test_a_removed_event_breaks():
    [change] = compared(define(EventRegistry()), EventRegistry())
    assert (change.kind, change.event, change.is_breaking) == (
        "event_removed",
        "made",
        True,
    )


def test_an_event_that_is_dropped_on_purpose_breaks_nothing():
    after = EventRegistry()
    upcaster("made", from_version=1, into=(), registry=after)(lambda body: ())
    assert kinds(define(EventRegistry()), after) == []


def test_a_new_event_breaks_nothing():
    assert kinds(EventRegistry(), define(EventRegistry())) == [("event_added", False)]


def test_a_rename_without_its_former_name_breaks():
    before = define(EventRegistry())
    change, added = compared(before, define(EventRegistry(), "renamed"))
    assert (change.kind, change.is_breaking) == ("event_renamed", True)
    assert "formerly='made'" in change.message
    assert added.kind == "event_added"


def test_a_rename_with_its_former_name_breaks_nothing():
    before = define(EventRegistry())
    after = define(EventRegistry(), "renamed", formerly="made")
    assert kinds(before, after) == [("event_renamed", False)]
    assert kinds(after, after) == []


def test_a_former_name_that_is_forgotten_breaks():
    before = define(EventRegistry(), "renamed", formerly="made")
    [change] = compared(before, define(EventRegistry(), "renamed"))
    assert (change.kind, change.event) == ("former_name_removed", "made")


def test_a_new_version_needs_an_upcaster():
    before = define(EventRegistry())
    after = define(EventRegistry(), version=2, fields={"y": str})
    unreadable, added = compared(before, after)
    assert (unreadable.kind, unreadable.version) == ("version_unreadable", 1)
    assert "@upcaster('made', from_version=1)" in unreadable.message
    assert (added.kind, added.version, added.is_breaking) == ("version_added", 2, False)
    upcaster("made", from_version=1, registry=after)(lambda body: {"y": ""})
    assert kinds(before, after) == [("version_added", False)]


def test_an_upcaster_that_is_removed_breaks():
    before = define(EventRegistry(), version=2)
    upcaster("made", from_version=1, registry=before)(lambda body: body)
    assert kinds(before, define(EventRegistry(), version=2)) == [
        ("version_unreadable", True)
    ]


def test_a_lower_version_breaks():
    before = define(EventRegistry(), version=2, oldest_version=2)
    assert ("version_unreadable", True) in kinds(before, define(EventRegistry()))


# --- the file


def test_a_schema_is_the_same_text_whatever_the_order_of_registration():
    texts = []
    for names in (["a", "b", "c"], ["c", "a", "b"]):
        registry = EventRegistry()
        for name in names:
            define(registry, name, fields={"x": list[Line], "y": Node | None})
        texts.append(schema_text(event_schema(registry=registry)))
    assert texts[0] == texts[1]
    assert schema_of_text(texts[0]) == event_schema(registry=registry)
    assert all(len(line) <= 88 for line in texts[0].splitlines())


def test_a_field_is_a_line_of_the_file():
    text = schema_text(event_schema(registry=registry_of(total=Money, note=str)))
    assert (
        '            "total": {"title": "Money", "type": "integer", "minimum": 0},'
        in text
    )
    assert text.endswith("}\n")


def test_classes_with_the_same_name_have_definitions_of_their_own():
    other = dataclasses.make_dataclass("Line", [("text", str)], frozen=True)
    registry = registry_of(a=Line, b=other)
    definitions = event_schema(registry=registry)["$defs"]
    assert len(definitions) == 2
    assert sorted(str(one["properties"]) for one in definitions.values()) == [
        "{'price': {'type': 'integer'}}",
        "{'text': {'type': 'string'}}",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"events": {}}',
        '{"eventbraid-schema": 2, "events": {}, "$defs": {}}',
        '{"eventbraid-schema": 1}',
        '{"eventbraid-schema": 1, "events": [], "$defs": {}}',
        '{"eventbraid-schema": 1, "events": {"a": 5}, "$defs": {}}',
        '{"eventbraid-schema": 1, "events": {"a": {}}, "$defs": {}}',
        '{"eventbraid-schema": 1, "events": {"a": {"versions": {"x": {}}}}, "$defs": {}}',
        b"\xff",
        "[" * 100_000,
    ],
    ids=range(13),
)
def test_a_file_that_is_no_schema_is_refused(text):
    with pytest.raises(eb.errors.InvalidArgument, match="schema file"):
        schema_of_text(text)
