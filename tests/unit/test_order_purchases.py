"""The packed data set is the original, and its orders sum to it to the cent."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbraid.examples.order_fulfilment.catalogue import (
    MOST_LINES,
    PRODUCTS,
    opening_stock,
    order_id,
    placed_order,
)
from eventbraid.examples.order_fulfilment.purchases import (
    ORIGINAL_SHA256,
    Purchase,
    discrepancies,
    original_text,
    purchases,
)


def test_every_documented_fact_holds():
    assert discrepancies() == []


def test_the_original_file_comes_back_byte_for_byte():
    text = original_text()
    assert len(text) == 1_950_500
    assert hashlib.sha256(text).hexdigest() == ORIGINAL_SHA256


def test_purchases_of_one_day_keep_the_order_of_the_file():
    rows = purchases()
    assert [row.number for row in rows] == list(range(1, 69_660))
    # The file is sorted by customer, so a stable sort by day leaves customers ascending.
    assert all(
        a.day < b.day or (a.day == b.day and a.customer <= b.customer)
        for a, b in pairwise(rows)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_line_totals_sum_to_the_purchase(seed):
    for purchase in purchases()[::7]:
        placed = placed_order(purchase, seed)
        products = [item.product for item in placed.items]
        assert int(placed.total) == purchase.cents
        assert int(placed.pieces) == purchase.cds
        assert len(set(products)) == len(products) <= MOST_LINES


def test_all_orders_are_worth_what_was_paid():
    assert sum(int(placed_order(p, 1).total) for p in purchases()) == 250_031_563


@given(
    st.builds(
        Purchase,
        number=st.integers(1, 10**6),
        customer=st.integers(1, 99_999),
        day=st.dates(),
        cds=st.integers(1, 300),
        cents=st.integers(0, 10**7),
    ),
    st.integers(0, 2**32),
)
def test_any_purchase_becomes_an_order_of_its_value(purchase, seed):
    placed = placed_order(purchase, seed)
    assert (int(placed.total), int(placed.pieces)) == (purchase.cents, purchase.cds)
    assert placed == placed_order(purchase, seed)


def test_order_ids_derive_from_the_number_and_differ():
    ids = {order_id(purchase.number) for purchase in purchases()}
    assert len(ids) == 69_659
    assert placed_order(purchases()[6], 1).order == order_id(7)


def test_some_products_run_out_and_others_do_not():
    wanted = Counter()
    rows = purchases()[:5_000]
    for purchase in rows:
        for item in placed_order(purchase, 1).items:
            wanted[item.product] += int(item.quantity)
    stock = int(opening_stock(rows))
    short = sum(1 for pieces in wanted.values() if pieces > stock)
    assert 0 < short < PRODUCTS / 3
    assert wanted.most_common(1)[0][1] < 10 * stock
