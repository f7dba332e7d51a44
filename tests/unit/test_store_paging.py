"""Reading in pages, without a store: what is asked next, and when it ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid._native import LogFilter
from eventbraid.store._paging import LARGEST_PAGE, Paging, checked


def page(count, following, *, more, at=100):
    return SimpleNamespace(events=[None] * count, next=following, more=more, at=at)


def paging(**changes):
    bounds = {"after": 0, "before": None, "limit": None, "backward": False}
    return Paging("a", **{**bounds, **changes})


def test_the_first_page_pins_the_read():
    read = paging()
    assert (read.cursor, read.at) == (None, None)
    read.advance(page(64, 64, more=True, at=500))
    assert (read.cursor, read.at, read.done) == (64, 500, False)
    read.advance(page(64, 128, more=True, at=500))
    assert (read.cursor, read.at, read.done) == (128, 500, False)
    read.advance(page(0, 500, more=False, at=500))
    assert read.done


def test_pages_grow():
    read = paging()
    sizes = []
    for _ in range(4):
        sizes.append(read.limit)
        read.advance(page(read.limit, 1, more=True))
    assert sizes == [64, 256, 1024, 1024]


@pytest.mark.parametrize("wanted", ["a", LogFilter(), LogFilter(stream="a")])
@pytest.mark.parametrize("backward", [False, True])
def test_the_pages_of_a_query_follow_each_other_within_its_bounds(wanted, backward):
    numbers = range(3, 198) if not backward else range(197, 2, -1)
    with eb.open("memory:") as store:
        store.append([("a", "x", b"")] * 200)
        read = Paging(wanted, after=2, before=198, limit=None, backward=backward)
        found = [recorded.version for recorded in store._events(read)]
    assert found == list(numbers)


@given(limit=st.integers(0, 5000))
def test_a_limited_read_gets_exactly_its_limit(limit):
    read = paging(limit=limit)
    got = 0
    while not read.done:
        size = read.limit
        assert 0 < size <= LARGEST_PAGE
        got += size
        read.advance(page(size, got, more=True))
    assert got == limit


@pytest.mark.parametrize("number", [-1, 2**63, 2**64])
def test_numbers_out_of_range_are_refused_by_name(number):
    with pytest.raises(eb.errors.InvalidArgument, match="after"):
        checked("after", number)


@pytest.mark.parametrize("number", [True, 1.0, "1", None])
def test_other_types_are_refused_by_name(number):
    with pytest.raises(TypeError, match="limit"):
        checked("limit", number)


def test_one_string_is_not_a_list_of_types():
    with pytest.raises(eb.errors.InvalidArgument, match="list"):
        LogFilter(types="opened")


@pytest.mark.parametrize("name", ["stream", "prefix", "category", "types"])
def test_a_condition_of_another_type_is_refused_by_name(name):
    with pytest.raises(TypeError, match="type" if name == "types" else name):
        LogFilter(**{name: [1] if name == "types" else 1})


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({"stream": "a\ud800"}, eb.errors.InvalidStreamId),
        ({"stream": ""}, eb.errors.InvalidStreamId),
        ({"prefix": "a\ud800"}, eb.errors.InvalidArgument),
        ({"category": "a\ud800"}, eb.errors.InvalidArgument),
        ({"types": ["a\ud800"]}, eb.errors.InvalidEventType),
    ],
)
def test_a_condition_that_nothing_can_meet_is_refused(conditions, error):
    with pytest.raises(error):
        LogFilter(**conditions)


def test_a_query_is_of_a_stream_or_of_the_log():
    with pytest.raises(TypeError, match="stream"):
        paging().query.__class__(1)


def test_types_may_be_any_iterable_of_texts():
    with eb.open("memory:") as store:
        store.append([("a", name, b"") for name in ("x", "y", "z")])
        found = [one.type for one in store.read_all(types=iter(["x", "z"]))]
    assert found == ["x", "z"]
