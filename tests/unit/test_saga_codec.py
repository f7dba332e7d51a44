"""A saga's state is compared with a recorded one by what would be recorded of it."""

from __future__ import annotations

import dataclasses
import datetime as dt

import msgspec
import pytest

import eventbraid as eb
from eventbraid.saga.definition._codec import Codec


class Money(eb.Int, ge=0): ...


class Identity(msgspec.Struct, eq=False):
    number: int


@dataclasses.dataclass(eq=False)
class Order:
    total: Money
    tags: set[str]
    by_name: dict[str, int]


@pytest.mark.parametrize(
    ("annotation", "one", "same", "other"),
    [
        (Identity, Identity(1), Identity(1), Identity(2)),
        (set[str], set("abcdefgh"), set("hgfedcba"), set("ab")),
        (dict[str, int], {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 1}),
        (Money | None, Money(1), Money(1), None),
        (
            Order,
            Order(Money(1), set("abc"), {"a": 1, "b": 2}),
            Order(Money(1), set("cba"), {"b": 2, "a": 1}),
            Order(Money(2), set("cba"), {"b": 2, "a": 1}),
        ),
    ],
    ids=repr,
)
def test_states_match_by_what_would_be_recorded(annotation, one, same, other):
    codec = Codec(annotation, what="the state")
    assert codec.matches(same, codec.encode(one))
    assert not codec.matches(other, codec.encode(one))


@pytest.mark.parametrize(("one", "other"), [(True, 1), (1, 1.0), (0, False)])
def test_equal_values_that_are_recorded_differently_do_not_match(one, other):
    codec = Codec(dict, what="the state")
    assert not codec.matches({"a": other}, codec.encode({"a": one}))


def test_a_record_of_another_type_does_not_match():
    assert not Codec(int, what="the state").matches(1, msgspec.Raw(b'"1"'))


class Tags(msgspec.Struct, frozen=True):
    names: tuple[str, ...]


class Basket(msgspec.Struct):
    names: list[str]


@dataclasses.dataclass(frozen=True)
class Rounded:
    cents: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "cents", self.cents // 10 * 10)


@pytest.mark.parametrize("value", [Tags(("a", "b")), Money(5), None, "text"], ids=repr)
def test_a_recorded_value_that_cannot_differ_is_used_without_reading_it_back(value):
    recorded = Codec(type(value), what="the result").record(value)
    assert recorded.read() is value
    assert Codec(type(value), what="the result").decode(recorded.json) == value


@pytest.mark.parametrize(
    "value",
    [
        Basket(["a"]),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
    ],
    ids=repr,
)
def test_a_recorded_value_that_may_differ_is_used_as_it_is_read_back(value):
    codec = Codec(type(value), what="the result")
    recorded = codec.record(value)
    used = recorded.read()
    assert used is not value
    assert repr(used) == repr(codec.decode(recorded.json))


def test_a_recorded_value_of_a_class_with_code_of_its_own_is_read_back():
    codec = Codec(Rounded, what="the result")
    value = Rounded(17)
    assert codec.record(value).read() is not value


def test_a_recorded_value_with_a_field_of_a_derived_type_is_read_back():
    class Shout(str):
        __slots__ = ()

    codec = Codec(Tags, what="the result")
    assert type(codec.record(Tags((Shout("a"),))).read().names[0]) is str
