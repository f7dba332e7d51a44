"""Where a store lives and how it is opened: refused before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventbraid as eb
from eventbraid.store._location import Location
from eventbraid.store._open_options import KIB, MIB, OpenOptions


def test_a_location_is_memory_or_a_directory():
    assert Location.parse("memory:").path is None
    here = Location("shop.braid", "shop.braid", str(Path.cwd()))
    assert Location.parse(Path("shop.braid")) == here
    assert Location.parse("/shop.braid") == Location("/shop.braid", "/shop.braid")
    assert Location.parse(b"shop.braid").path == "shop.braid"


@pytest.mark.parametrize(
    "location", ["", "a\0b", "postgresql://host/shop", "sqlite://x"]
)
def test_other_locations_are_refused(location):
    with pytest.raises(eb.errors.InvalidArgument, match="memory:"):
        eb.open(location)
    with pytest.raises(eb.errors.InvalidArgument, match="memory:"):
        eb.open_async(location)


def test_other_types_are_refused():
    with pytest.raises(TypeError):
        eb.open(None)


@pytest.mark.parametrize(
    "options",
    [
        {"segment_size": 0},
        {"segment_size": 64 * KIB - 1},
        {"max_segment_size": MIB - 1},
        {"max_segment_size": 2048 * MIB},
        {"cache_size": -1},
    ],
)
def test_sizes_out_of_range_are_refused_by_name(options):
    with pytest.raises(eb.errors.InvalidArgument, match=next(iter(options))):
        eb.open("memory:", **options)


@pytest.mark.parametrize("size", [True, 1e6, "1"])
def test_sizes_are_whole_numbers(size):
    with pytest.raises(TypeError, match="cache_size"):
        eb.open("memory:", cache_size=size)


def test_options_have_names_only():
    with pytest.raises(TypeError):
        eb.open("memory:", True)
    with pytest.raises(TypeError):
        OpenOptions(True, MIB, MIB, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "joint"},
        {"lock_timeout": -1},
        {"lock_timeout": float("nan")},
        {"lock_timeout": float("inf")},
    ],
)
def test_who_may_share_and_how_long_to_wait_are_checked_by_name(options):
    with pytest.raises(eb.errors.InvalidArgument, match=next(iter(options))):
        eb.open("memory:", **options)
    with pytest.raises(eb.errors.InvalidArgument, match=next(iter(options))):
        eb.open_async("memory:", **options)


@pytest.mark.parametrize("timeout", [True, "10", None])
def test_a_time_to_wait_is_a_number(timeout):
    with pytest.raises(TypeError, match="lock_timeout"):
        eb.open("memory:", lock_timeout=timeout)
