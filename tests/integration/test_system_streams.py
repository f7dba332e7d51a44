"""System streams hold the library's own records; only the library writes to them, and
readers see them only if they ask.

The hazard: a projection or a person that reads the whole log finds lease records between
the business's events, and a user's event on such a stream takes the library's place.
"""

from __future__ import annotations

import asyncio
import json

import pytest

import eventbraid as eb
from eventbraid.store._system import system_event
from tests.command_line import ran

MARKED = [
    ("order-1", "placed", b"1"),
    system_event(eb.NewEvent("$lease-x", "lease.acquired", b"2")),
    ("order-10", "placed", b"3"),
    system_event(eb.NewEvent("$lease-y", "lease.acquired", b"4")),
]
ORDINARY = ["order-1", "order-10"]
ALL = ["order-1", "$lease-x", "order-10", "$lease-y"]
ASKED = [
    ({}, ORDINARY),
    ({"system": True}, ALL),
    ({"prefix": ""}, ORDINARY),
    ({"prefix": "$lease-"}, ["$lease-x", "$lease-y"]),
    ({"category": "$lease"}, ["$lease-x", "$lease-y"]),
    ({"stream": "$lease-x"}, ["$lease-x"]),
    ({"types": ["lease.acquired"]}, []),
    ({"types": ["lease.acquired"], "system": True}, ["$lease-x", "$lease-y"]),
]


@pytest.fixture
def store():
    with eb.open("memory:") as store:
        store.append(MARKED)
        yield store


@pytest.mark.parametrize(("wanted", "expected"), ASKED)
def test_system_streams_are_left_out_unless_they_are_asked_for(store, wanted, expected):
    assert [recorded.stream for recorded in store.read_all(**wanted)] == expected
    backward = store.read_all(backward=True, **wanted)
    assert [recorded.stream for recorded in backward] == expected[::-1]
    store.append([("order-1", "lease.acquired", b"end")])
    last = [] if expected and expected[0] == "$lease-x" else ["order-1"]
    with store.subscribe(**wanted) as subscription:
        seen = [next(subscription).stream for _ in [*expected, *last]]
    assert seen == [*expected, *last]


@pytest.mark.parametrize(("wanted", "expected"), ASKED)
def test_the_async_store_leaves_them_out_alike(store, wanted, expected):
    async def main():
        face = store.as_async()
        return [recorded.stream async for recorded in face.read_all(**wanted)]

    assert asyncio.run(main()) == expected


def test_listings_leave_out_system_streams_unless_they_are_asked_for(store):
    async def listed(**wanted):
        return [name async for name in store.as_async().streams(**wanted)]

    for wanted, expected in (
        ({}, ORDINARY),
        ({"system": True}, sorted(ALL)),
        ({"prefix": "$"}, ["$lease-x", "$lease-y"]),
        ({"prefix": "order-1"}, ORDINARY),
    ):
        assert list(store.streams(**wanted)) == expected
        assert asyncio.run(listed(**wanted)) == expected


def test_a_system_stream_that_is_named_can_be_read(store):
    assert [recorded.data for recorded in store.read_stream("$lease-x")] == [b"2"]
    assert store.version("$lease-x") == 1
    assert store.read_streams(["$lease-x", "order-1"]).versions == {
        "$lease-x": 1,
        "order-1": 1,
    }


def test_users_can_check_a_system_stream_but_not_write_to_it(store):
    with pytest.raises(eb.errors.InvalidStreamId, match="reserved") as refused:
        store.append([("order-1", "x", b""), ("$lease-x", "x", b"")])
    assert refused.value.value == "$lease-x"
    with pytest.raises(eb.errors.InvalidStreamId):
        store.append([eb.NewEvent("$mine", "x", b"")])
    with pytest.raises(eb.errors.InvalidStreamId):
        asyncio.run(store.as_async().append([("$mine", "x", b"")]))
    assert store.head() == len(MARKED)
    store.append([("order-1", "x", b"")], expect={"$lease-x": 1})


@pytest.mark.parametrize("system", [False, True])
def test_the_command_line_shows_system_streams_only_if_asked(tmp_path, system):
    path = str(tmp_path / "shop.braid")
    with eb.open(path) as store:
        store.append(MARKED)
    option = ["--system"] if system else []
    expected = ALL if system else ORDINARY
    for command in ("read", "tail"):
        done = ran(command, path, "--json", *option)
        shown = [json.loads(line)["stream"] for line in done.stdout.splitlines()]
        assert shown == expected
    done = ran("streams", path, "--json", *option)
    shown = [json.loads(line)["stream"] for line in done.stdout.splitlines()]
    assert shown == sorted(expected)


def test_what_leases_record_is_in_no_ordinary_read():
    with eb.open("memory:") as store:
        with eb.Lease(store, "importer") as lease:
            lease.append([("order-1", "imported", b"")])
        assert [recorded.stream for recorded in store.read_all()] == ["order-1"]
        assert len(list(store.read_all(system=True))) == 3
