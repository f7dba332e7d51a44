"""`events_of` draws events that a store accepts and reads back, within their bounds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.testing import events_of


class Grams(eb.Int, ge=1, lt=500): ...


class ParcelId(eb.Id, prefix="parcel"): ...


class AnyId(eb.Id): ...


class Country(eb.Text, pattern="[A-Z]{2}"): ...


class Line(eb.Text, max_length=3): ...


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Place(NamedTuple):
    x: int
    y: float


class Extra(TypedDict):
    name: str
    note: NotRequired[str]


@eb.value_object
class Card:
    number: Line


@eb.value_object
class Transfer:
    country: Country


@eb.event("test.drawn.parcel")
class Parcel:
    grams: Grams
    parcel: ParcelId
    other: AnyId
    country: Country
    line: Line
    payment: Card | Transfer | None
    items: tuple[Grams, ...]
    pair: tuple[int, str]
    names: frozenset[str]
    prices: dict[str, Decimal]
    by_weight: dict[Grams, int]
    color: Color
    literal: Literal["a", "b", 3]
    anything: Any
    place: Place
    extra: Extra
    flag: bool
    ratio: float
    body: bytes
    at: datetime
    day: date
    hour: time
    lasts: timedelta
    id: UUID
    inside: Parcel | None
    count: Annotated[int, msgspec.Meta(gt=3, le=9)]
    short: Annotated[str, msgspec.Meta(min_length=2, max_length=4)]
    even: Annotated[int, msgspec.Meta(multiple_of=2, ge=0, le=10)]


@eb.register_event("test.drawn.struct")
class Struct(msgspec.Struct, frozen=True):
    grams: Grams
    names: list[str] = msgspec.field(default_factory=list)


@eb.register_event("test.drawn.model")
class Model(pydantic.BaseModel, frozen=True):
    grams: Grams
    line: Line


@eb.register_event("test.drawn.attrs")
@attrs.frozen
class Attributed:
    _grams: Grams


@eb.event("test.drawn.validated")
class Range:
    low: Grams
    high: Grams
    size: int = field(init=False)

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("upside down")
        object.__setattr__(self, "size", int(self.high) - int(self.low))


@pytest.mark.parametrize("kind", [Parcel, Struct, Model, Attributed, Range])
def test_each_event_is_read_back(kind):
    with eb.open("memory:") as store:

        @settings(max_examples=25)
        @given(events_of(kind))
        def check(event):
            assert type(event) is kind
            done = store.append([eb.new_event("a", event)])
            [recorded] = store.read_all(after=done.last_position - 1)
            assert eb.decode_event(recorded) == event

        check()


def test_bounds_are_reached_and_not_passed():
    weights = events_of(Struct).map(lambda event: int(event.grams))
    assert find(weights, lambda grams: grams == 1) == 1
    assert find(weights, lambda grams: grams == 499) == 499


@settings(max_examples=25)
@given(events_of(Parcel))
def test_values_respect_what_their_classes_say(event):
    assert 1 <= int(event.grams) < 500
    assert event.parcel.startswith("parcel-")
    assert len(event.line) <= 3
    assert 3 < event.count <= 9
    assert event.even % 2 == 0


@given(events_of(Struct, names=st.just(["mia"])))
def test_a_field_may_have_a_strategy_of_its_own(event):
    assert event.names == ["mia"]


def test_what_can_not_be_drawn_is_refused_with_the_remedy():
    class Unknown: ...

    refused = eb.errors.InvalidArgument
    with pytest.raises(refused, match="not registered"):
        events_of(Unknown)
    with pytest.raises(refused, match=r"field of Struct 'gram'.*grams, names"):
        events_of(Struct, gram=st.just(Grams(1)))


def test_without_hypothesis_the_kit_works_and_says_what_to_install():
    probe = """
import sys
sys.modules["hypothesis"] = None
import eventbraid.testing
try:
    eventbraid.testing.events_of
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert "pip install 'eventbraid[testing]'" in done.stdout
