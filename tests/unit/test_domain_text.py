"""Ids and texts are what their class says, or they are not made."""

from __future__ import annotations

import math
import pickle

import pytest

import eventbraid as eb


class OrderId(eb.Id, prefix="order"): ...


class PaymentId(eb.Id, prefix="payment"): ...


class Sku(eb.Id): ...


class CountryCode(eb.Text, pattern="[A-Z]{2}"): ...


class Name(eb.Text, max_length=5): ...


class Note(eb.Text, min_length=0): ...


def test_a_new_id_has_its_prefix_and_sorts_after_earlier_ones():
    ids = [OrderId.new() for _ in range(100)]
    assert all(one.startswith("order-") for one in ids)
    assert ids == sorted(ids)
    assert len(set(ids)) == 100
    assert {type(one) for one in ids} == {OrderId}


def test_a_derived_id_is_always_the_same():
    assert OrderId.derived("cdnow", 7) == "order-713df83a-20bd-5012-ad51-b97975f10658"
    assert OrderId.derived("cdnow", 7) == OrderId.derived("cdnow", "7")


def test_ids_derived_from_other_names_or_for_other_kinds_differ():
    derived = [
        OrderId.derived("cdnow", 1),
        OrderId.derived("cdnow", 11),
        OrderId.derived("cdnow1", 1),
        OrderId.derived("cdnow", 1, 1),
        OrderId.derived("cdnow"),
    ]
    assert len(set(derived)) == len(derived)
    order, payment = OrderId.derived("cdnow", 1), PaymentId.derived("cdnow", 1)
    assert order.removeprefix("order-") != payment.removeprefix("payment-")


@pytest.mark.parametrize("names", [(), ("",), ("a", ""), ("a\x1fb",)])
def test_an_id_is_not_derived_from_nothing(names):
    with pytest.raises(eb.InvalidValue, match="names to derive from"):
        OrderId.derived(*names)


@pytest.mark.parametrize(
    "text", ["order-1", "order-é", "order-" + "x" * 249, "order-a-b"]
)
def test_a_fitting_text_is_an_id(text):
    assert OrderId(text) == text
    assert hash(OrderId(text)) == hash(text)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "order",
        "order-",
        "orders-1",
        "payment-1",
        "order-a b",
        "order-a\n",
        "order-\x00",
        "order-\ud800",
        "order-" + "x" * 250,
        "order-" + "é" * 130,
        7,
        None,
        b"order-1",
    ],
)
def test_an_unfit_text_is_no_id(bad):
    with pytest.raises(eb.InvalidValue) as refused:
        OrderId(bad)
    assert refused.value.type == "OrderId"
    assert "OrderId.new()" in refused.value.remedy


def test_an_id_without_prefix_is_any_text_without_white_space():
    assert Sku("CD-77") == "CD-77"
    with pytest.raises(eb.InvalidValue):
        Sku("CD 77")


@pytest.mark.parametrize("prefix", ["", "a-b", "a b"])
def test_a_prefix_that_is_no_category_is_refused(prefix):
    with pytest.raises(TypeError, match="prefix"):
        type("BadId", (eb.Id,), {}, prefix=prefix)


def test_an_id_names_a_stream():
    with eb.open("memory:") as store:
        order = OrderId.new()
        store.append([(order, "order.submitted", b"{}")])
        assert store.version(order) == 1
        assert list(store.streams(prefix="order-")) == [order]


@pytest.mark.parametrize(
    ("kind", "text"), [(CountryCode, "DE"), (Name, "Alice"), (Note, ""), (eb.Text, "x")]
)
def test_a_fitting_text_is_a_value(kind, text):
    assert kind(text) == text
    assert type(kind(text)) is kind


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (CountryCode, "de"),
        (CountryCode, "DEU"),
        (Name, "Robert"),
        (Name, ""),
        (Name, 3),
    ],
)
def test_an_unfit_text_is_no_value(kind, bad):
    with pytest.raises(eb.InvalidValue, match=f"is not a valid {kind.__name__}"):
        kind(bad)


@pytest.mark.parametrize("value", [OrderId("order-1"), CountryCode("DE")])
def test_values_survive_pickling(value):
    again = pickle.loads(pickle.dumps(value))
    assert (again, type(again)) == (value, type(value))


def test_values_print_as_texts_and_show_as_their_kind():
    assert f"{OrderId('order-1')}" == "order-1"
    assert repr(OrderId("order-1")) == "OrderId('order-1')"
    assert repr(CountryCode("DE")) == "CountryCode('DE')"


@pytest.mark.parametrize("rule", ["min_length", "max_length"])
@pytest.mark.parametrize(
    "length",
    [math.nan, math.inf, -1, True, 1.5, "1", 10**5000],
    ids=["nan", "inf", "negative", "bool", "float", "str", "huge"],
)
def test_a_length_that_is_no_count_is_refused(rule: str, length: object) -> None:
    with pytest.raises(
        eb.errors.InvalidArgument, match=f"invalid {rule} of X .*leave it out"
    ):
        type("X", (eb.Text,), {}, **{rule: length})


def test_lengths_that_no_text_can_have_are_refused() -> None:
    with pytest.raises(eb.errors.InvalidArgument, match="change max_length"):
        type("X", (eb.Text,), {}, min_length=3, max_length=2)


@pytest.mark.parametrize("pattern", ["(", b"a", 1, "a{99999999999999999999}"])
def test_a_pattern_that_can_not_be_compiled_is_refused(pattern: object) -> None:
    with pytest.raises(eb.errors.InvalidArgument, match="invalid pattern of X"):
        type("X", (eb.Text,), {}, pattern=pattern)


@pytest.mark.parametrize("prefix", [b"a", 1, ["a"]])
def test_a_prefix_and_a_category_must_be_text(prefix: object) -> None:
    with pytest.raises(TypeError, match="prefix"):
        type("X", (eb.Id,), {}, prefix=prefix)
    with pytest.raises(TypeError, match="category of X"):
        type("X", (eb.Stream,), {}, category=prefix)
