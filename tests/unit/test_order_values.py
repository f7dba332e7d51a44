"""The words of the order example cannot be made wrongly, and ids of one order agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.examples.order_fulfilment.values import (
    CardToken,
    Country,
    CustomerId,
    LastFour,
    Line,
    Money,
    OrderId,
    OrderItem,
    PaymentId,
    PaymentMethod,
    ProductId,
    Quantity,
    SagaId,
    ShipmentId,
    ShippingAddress,
    pieces_in,
    total_of,
)

cents = st.integers(0, 10**9).map(Money)
pieces = st.integers(1, 10**4).map(Quantity)
items = st.builds(
    OrderItem,
    product=st.integers(0, 499).map(lambda n: ProductId(f"product-{n}")),
    quantity=pieces,
    unit_price=cents,
)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Money, -1),
        (Money, 1.5),
        (Money, True),
        (Quantity, 0),
        (Quantity, -3),
        (OrderId, "payment-1"),
        (OrderId, "order-"),
        (OrderId, "order-a b"),
        (CustomerId, "7"),
        (ProductId, ""),
        (PaymentId, "order-1"),
        (ShipmentId, "ship-1"),
        (SagaId, "order-1"),
        (Line, ""),
        (Line, "   "),
        (Line, "two\nlines"),
        (Country, "Germany"),
        (Country, "us"),
        (LastFour, "42"),
        (CardToken, ""),
        (CardToken, "4242424242424242"),
        (CardToken, "tok_4242-4242-4242-4242"),
    ],
)
def test_a_wrong_value_cannot_be_made(kind, wrong):
    with pytest.raises(eb.InvalidValue):
        kind(wrong)


def test_a_refused_card_number_is_not_repeated_in_the_error():
    with pytest.raises(eb.InvalidValue) as refused:
        CardToken("4242424242424242")
    assert "4242" not in str(refused.value)


def test_fields_of_the_wrong_type_are_refused():
    with pytest.raises(eb.InvalidValue):
        OrderItem(ProductId("product-1"), 2, Money(5))
    with pytest.raises(eb.InvalidValue):
        PaymentMethod("tok_1", "Visa", "4242")
    with pytest.raises(eb.InvalidValue):
        ShippingAddress("Mia", "1 Street", "Town", "12345", "US")


def test_ids_of_one_order_are_found_from_each_other():
    order = OrderId("order-cdnow-00042")
    for kind in (PaymentId, ShipmentId, SagaId):
        assert kind.of(order) == f"{kind.prefix}-cdnow-00042"
        assert kind.of(order).order == order


def test_money_is_shown_as_people_write_it():
    assert Money(250_031_563).dollars == "2,500,315.63"
    assert Money(5).dollars == "0.05"


@given(st.lists(items, min_size=1, max_size=6).map(tuple))
def test_totals_are_the_sums_of_the_lines(lines):
    assert int(total_of(lines)) == sum(
        int(line.quantity) * int(line.unit_price) for line in lines
    )
    assert total_of(lines) == sum((line.total for line in lines), Money(0))
    assert int(pieces_in(lines)) == sum(int(line.quantity) for line in lines)


@given(cents, cents)
def test_money_stays_money_and_never_goes_below_zero(a, b):
    assert type(a + b) is Money
    if int(a) >= int(b):
        assert int(a - b) == int(a) - int(b)
    else:
        with pytest.raises(eb.InvalidValue):
            a - b


def test_an_order_without_items_has_no_pieces():
    with pytest.raises(eb.InvalidValue):
        pieces_in(())
