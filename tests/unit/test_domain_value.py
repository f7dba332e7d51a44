"""A value made of fields holds what its annotations say, whatever the checker missed."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NewType, Protocol

import msgspec
import pytest

import eventbraid as eb


class Money(eb.Int, ge=0): ...


class OrderId(eb.Id, prefix="order"): ...


class Colour(enum.Enum):
    RED = "red"


@eb.value_object
class Line:
    product: str
    price: Money


@dataclasses.dataclass(frozen=True)
class Unchecked:
    price: Money
    next: Unchecked | None = None


class Struct(msgspec.Struct, frozen=True):
    price: Money


class Quacks(Protocol):
    def quack(self) -> None: ...


Alias = NewType("Alias", int)


@eb.value_object
class Everything:
    number: int = 0
    real: float = 0.0
    flag: bool = False
    text: str = ""
    data: bytes = b""
    money: Money = Money(0)
    order: OrderId = OrderId("order-1")
    maybe: Money | None = None
    either: int | str = 0
    lines: tuple[Line, ...] = ()
    pair: tuple[int, str] = (0, "")
    many: Sequence[Money] = ()
    names: frozenset[str] = frozenset()
    prices: Mapping[str, Money] = dataclasses.field(default_factory=dict)
    colour: Colour = Colour.RED
    word: Literal["a", 1] = "a"
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    alias: Alias = Alias(1)
    small: Annotated[int, msgspec.Meta(le=9)] = 1
    unchecked: Unchecked = Unchecked(Money(1))
    struct: Struct = Struct(Money(1))
    anything: Any = None
    duck: Quacks | None = None


FITTING = [
    ("number", -5),
    ("real", 1.5),
    ("real", 2),
    ("flag", True),
    ("text", OrderId("order-1")),
    ("money", Money(3)),
    ("maybe", None),
    ("maybe", Money(3)),
    ("either", "x"),
    ("lines", (Line("a", Money(1)),)),
    ("pair", (1, "x")),
    ("many", [Money(1)]),
    ("many", (Money(1),)),
    ("names", frozenset({"a"})),
    ("prices", {"a": Money(1)}),
    ("word", 1),
    ("unchecked", Unchecked(Money(1), Unchecked(Money(2)))),
    ("anything", ...),
    ("small", 9),
]
UNFIT = [
    ("number", 1.0),
    ("number", True),
    ("number", Money(1)),
    ("real", float("nan")),
    ("real", float("inf")),
    ("real", "1"),
    ("real", Money(1)),
    ("flag", 1),
    ("text", 1),
    ("data", "x"),
    ("money", 3),
    ("order", "order-1"),
    ("maybe", 3),
    ("either", None),
    ("lines", [Line("a", Money(1))]),
    ("lines", (1,)),
    ("pair", (1,)),
    ("pair", ("x", 1)),
    ("pair", [1, "x"]),
    ("many", [1]),
    ("many", "abc"),
    ("names", {"a"}),
    ("prices", {"a": 1}),
    ("prices", {1: Money(1)}),
    ("prices", ()),
    ("colour", "red"),
    ("word", "b"),
    ("word", True),
    ("at", "2026-01-01"),
    ("alias", "x"),
    ("unchecked", Unchecked(1)),
    ("unchecked", Unchecked(Money(1), Unchecked(2))),
    ("struct", Struct(1)),
    ("small", 10),
]


@pytest.mark.parametrize(("field", "value"), FITTING, ids=repr)
def test_a_fitting_field_is_accepted(field, value):
    assert getattr(Everything(**{field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), UNFIT, ids=repr)
def test_an_unfit_field_is_refused(field, value):
    with pytest.raises(eb.InvalidValue) as refused:
        Everything(**{field: value})
    assert refused.value.type == f"Everything.{field}"


def test_the_refusal_says_what_to_write():
    with pytest.raises(
        eb.InvalidValue, match=r"Line.price.*Money.*int; write Money\(5\)"
    ):
        Line("a", 5)
    with pytest.raises(eb.InvalidValue, match=r"write OrderId\('order-2'\)"):
        Everything(order="order-2")
    with pytest.raises(eb.InvalidValue, match="write int"):
        Everything(number=Money(3))


def test_a_value_is_frozen_and_compares_by_fields():
    assert Line("a", Money(1)) == Line("a", Money(1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Line("a", Money(1)).price = Money(2)


def test_a_rule_of_its_own_comes_after_the_checks():
    @eb.value_object
    class Span:
        first: int
        last: int

        def __post_init__(self) -> None:
            if self.first > self.last:
                raise ValueError("backwards")

    assert Span(1, 2).last == 2
    with pytest.raises(ValueError, match="backwards"):
        Span(2, 1)
    with pytest.raises(eb.InvalidValue):
        Span("a", 1)


def test_an_heir_checks_its_own_and_its_inherited_fields():
    @eb.value_object
    class Discounted(Line):
        discount: Money = Money(0)

    assert Discounted("a", Money(1)).discount == Money(0)
    for wrong in [{"price": 1}, {"discount": 1}]:
        with pytest.raises(eb.InvalidValue):
            Discounted(**{"product": "a", "price": Money(1), **wrong})


def test_a_name_that_means_nothing_at_run_time_is_explained():
    @eb.value_object
    class Lost:
        field: Nowhere  # noqa: F821 - that is the point

    with pytest.raises(TypeError, match=r"Lost.*Nowhere.*TYPE_CHECKING"):
        Lost(1)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_dataclass_is_refused_with_the_remedy(frozen):
    made = dataclasses.make_dataclass("Made", [("x", int)], frozen=frozen)
    with pytest.raises(eb.errors.InvalidArgument, match="leave out @dataclass"):
        eb.value_object(made)


def test_a_deep_value_is_refused_when_it_is_made():
    @eb.value_object
    class Holder:
        inside: Unchecked

    deep = Unchecked(Money(1))
    for _ in range(5_000):
        deep = Unchecked(Money(1), deep)
    with pytest.raises(eb.InvalidValue, match="nested too deeply"):
        Holder(deep)
