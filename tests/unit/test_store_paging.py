"""Reading in pages, without a store: what is asked next, and when it ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.store._paging import LARGEST_PAGE, Paging, checked, log_filter


def page(count, following, *, more, at=100):
    return SimpleNamespace(events=[None] * count, next=following, more=more, at=at)


def paging(**changes):
    return Paging(
        **{"after": 0, "before": None, "limit": None, "backward": False, **changes}
    )


def test_the_first_page_pins_the_read():
    read = paging()
    assert read.at is None
    read.advance(page(64, 64, more=True, at=500))
    assert (read.after, read.at, read.done) == (64, 500, False)
    read.advance(page(0, 500, more=False, at=500))
    assert read.done


def test_pages_grow():
    read = paging()
    sizes = []
    for _ in range(4):
        sizes.append(read.limit())
        read.advance(page(read.limit(), 1, more=True))
    assert sizes == [64, 256, 1024, 1024]
    assert read.limit(256) == 256


def test_a_backward_read_goes_on_below():
    read = paging(backward=True)
    read.advance(page(64, 37, more=True))
    assert (read.after, read.before) == (0, 37)


@given(limit=st.integers(0, 5000))
def test_a_limited_read_gets_exactly_its_limit(limit):
    read = paging(limit=limit)
    got = 0
    while not read.done:
        size = read.limit()
        assert 0 < size <= LARGEST_PAGE
        got += size
        read.advance(page(size, got, more=True))
    assert got == limit


@pytest.mark.parametrize("number", [-1, 2**63, 2**64])
def test_numbers_out_of_range_are_refused_by_name(number):
    with pytest.raises(eb.InvalidArgument, match="after"):
        checked("after", number)


@pytest.mark.parametrize("number", [True, 1.0, "1", None])
def test_other_types_are_refused_by_name(number):
    with pytest.raises(TypeError, match="limit"):
        checked("limit", number)


def test_one_string_is_not_a_list_of_types():
    with pytest.raises(eb.InvalidArgument, match="list"):
        log_filter(types="opened")


def test_types_may_be_any_iterable_of_texts():
    with eb.open("memory:") as store:
        store.append([("a", name, b"") for name in ("x", "y", "z")])
        found = [one.type for one in store.read_all(types=iter(["x", "z"]))]
    assert found == ["x", "z"]
