"""A saga's state is compared with a recorded one by what would be recorded of it."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

import eventbraid as eb
from eventbraid.saga._codec import Codec


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


def test_a_record_of_another_type_does_not_match():
    assert not Codec(int, what="the state").matches(1, msgspec.Raw(b'"1"'))
