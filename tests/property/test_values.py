"""Laws of numbers and texts with a meaning, for whatever values hypothesis finds."""

from __future__ import annotations

import operator
import pickle
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import eventbraid as eb


class Money(eb.Int, ge=0):
    """Cents."""


class Quantity(eb.Int, gt=0): ...


class Balance(eb.Int): ...


class OrderId(eb.Id, prefix="order"): ...


class Name(eb.Text, max_length=20): ...


@eb.value_object
class Line:
    product: str
    price: Money
    quantity: Quantity


@eb.event("test_values.ordered", version=3, oldest_version=3)
class Ordered:
    order: OrderId
    name: Name
    lines: tuple[Line, ...]
    balance: Balance
    weight: float
    note: str | None


@eb.register_event("test_values.ordered_struct")
class OrderedStruct(msgspec.Struct, frozen=True):
    order: OrderId
    lines: tuple[Line, ...]


bare = st.integers(-(2**70), 2**70)
text = st.text(st.characters(exclude_categories=["Cs"]))
money = st.integers(0, 2**63 - 1).map(Money)
small = st.integers(0, 2**40).map(Money)
quantity = st.integers(1, 2**63 - 1).map(Quantity)
balance = st.integers(-(2**63), 2**63 - 1).map(Balance)
order = st.one_of(
    st.uuids().map(lambda u: OrderId(f"order-{u}")),
    st.from_regex(r"\A[A-Za-zäöü0-9._:-]{1,60}\Z").map(lambda s: OrderId(f"order-{s}")),
)
name = text.filter(lambda s: 1 <= len(s) <= 20).map(Name)
line = st.builds(Line, text, money, quantity)
lines = st.lists(line, max_size=4).map(tuple)
real = st.floats(allow_nan=False, allow_infinity=False)
ordered = st.builds(Ordered, order, name, lines, balance, real, st.none() | text)
ordered_struct = st.builds(OrderedStruct, order, lines)


@given(bare)
def test_a_number_is_made_exactly_if_it_is_within_bounds(number):
    for kind in (Money, Quantity, Balance):
        if kind.lowest <= number <= kind.highest:
            assert int(kind(number)) == number
        else:
            with pytest.raises(eb.InvalidValue):
                kind(number)


@given(small, small, small)
def test_sums_don_t_depend_on_order(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Money(0) == a
    assert sum([a, b, c], Money(0)) == a + b + c


@given(small, small)
def test_what_is_added_can_be_taken_away(a, b):
    assert (a + b) - b == a
    if a < b:
        with pytest.raises(eb.InvalidValue):
            a - b
    else:
        assert (a - b) + b == a


@given(money, money)
def test_division_leaves_a_rest_and_loses_nothing(a, b):
    assume(int(b) > 0)
    assert int(a // b) * int(b) + int(a % b) == int(a)
    assert a % b < b


@given(balance, balance)
def test_arithmetic_is_that_of_numbers_or_an_error(a, b):
    for operation in (operator.add, operator.sub):
        expected = operation(int(a), int(b))
        if Balance.lowest <= expected <= Balance.highest:
            result = operation(a, b)
            assert (type(result), int(result)) == (Balance, expected)
        else:
            with pytest.raises(eb.InvalidValue):
                operation(a, b)


@given(money, money)
def test_order_is_that_of_numbers(a, b):
    assert (a < b, a <= b, a == b, a != b, a >= b, a > b) == (
        int(a) < int(b),
        int(a) <= int(b),
        int(a) == int(b),
        int(a) != int(b),
        int(a) >= int(b),
        int(a) > int(b),
    )
    assert (a != b) or (hash(a) == hash(b))


@given(small, st.integers(1, 2**20).map(Quantity))
def test_times_is_repeated_addition(price, pieces):
    assert int(price.times(pieces)) == int(price) * int(pieces)
    assert price.times(int(pieces)) == price.times(pieces)


@given(money, quantity, bare, real)
def test_kinds_never_mix(a, b, number, fraction):
    operations = [operator.add, operator.sub, operator.floordiv, operator.mod]
    operations += [operator.lt, operator.le, operator.eq, operator.ne, operator.gt]
    for operation in operations:
        for other in (b, number, fraction):
            with pytest.raises(TypeError):
                operation(a, other)
        for other in (b, number):
            with pytest.raises(TypeError):
                operation(other, a)


@given(st.one_of(money, quantity, balance, order, name))
def test_values_survive_pickling(value):
    again = pickle.loads(pickle.dumps(value))
    assert (type(again), again) == (type(value), value)


@given(text)
def test_an_id_is_made_exactly_of_a_text_that_can_name_a_stream(rest):
    candidate = f"order-{rest}"
    with eb.open("memory:") as store:
        try:
            order_id = OrderId(candidate)
        except eb.InvalidValue:
            return
        store.append([(order_id, "x", b"")])
        assert store.version(candidate) == 1


@given(st.lists(text.filter(lambda s: s and "\x1f" not in s), min_size=1, max_size=3))
def test_derived_ids_are_stable_and_legal(names):
    derived = OrderId.derived(*names)
    assert derived == OrderId.derived(*names)
    assert UUID(derived.removeprefix("order-")).version == 5


@given(st.one_of(ordered, ordered_struct))
def test_every_legal_event_comes_back_as_it_was(event):
    type_, data = eb.encode_event(event)
    recorded = eb.RecordedEvent(
        stream="order-1",
        version=1,
        position=1,
        type=type_,
        event_id=UUID(int=1),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
        metadata={"v": "3"} if isinstance(event, Ordered) else None,
    )
    again = eb.decode_event(recorded)
    assert again == event
    assert type(again.order) is OrderId
    for one in again.lines:
        assert (type(one.price), type(one.quantity)) == (Money, Quantity)


@given(ordered)
def test_both_encoders_write_the_same(event):
    from eventbraid.event._wire import to_json

    plain = msgspec.json.Encoder(enc_hook=to_json).encode(event)
    assert msgspec.json.decode(eb.encode_event(event)[1]) == msgspec.json.decode(plain)
