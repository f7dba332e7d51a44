"""The contract of semantics.md, rules 13 to 17: reading.

The hazard: a read that skips an event, gives it twice, or mixes two states of the log.
"""

from __future__ import annotations

import pytest

import eventbraid as eb
from tests.contract.asking import filled, listed
from tests.contract.backends import NAMES, backends

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", NAMES)]


@pytest.fixture
async def store(backend, tmp_path, anyio_backend):
    async with backends(tmp_path)[backend].open() as opened:
        yield opened


async def versions(events):
    return [recorded.version async for recorded in events]


async def positions(events):
    return [recorded.position async for recorded in events]


async def test_rule_13_a_stream_without_events_reads_as_empty(store):
    assert await listed(store.read_stream("nothing")) == []
    assert await store.version("nothing") == 0
    assert await listed(store.read_all()) == []
    snapshot = await store.read_streams(["nothing"])
    assert (snapshot.position, snapshot.versions, snapshot.events) == (
        0,
        {"nothing": 0},
        [],
    )


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"after": 2}, [3, 4, 5]),
        ({"after": 5}, []),
        ({"after": 99}, []),
        ({"before": 3}, [1, 2]),
        ({"before": 0}, []),
        ({"before": 1}, []),
        ({"before": 99}, [1, 2, 3, 4, 5]),
        ({"after": 1, "before": 4}, [2, 3]),
        ({"limit": 2}, [1, 2]),
        ({"limit": 0}, []),
        ({"after": 1, "limit": 2}, [2, 3]),
        ({"backward": True}, [5, 4, 3, 2, 1]),
        ({"backward": True, "before": 4}, [3, 2, 1]),
        ({"backward": True, "before": 4, "limit": 1}, [3]),
        ({"backward": True, "after": 2}, [5, 4, 3]),
        ({"backward": True, "after": 2, "before": 5}, [4, 3]),
        ({"backward": True, "before": 1}, []),
        ({"backward": True, "limit": 3}, [5, 4, 3]),
    ],
)
async def test_rule_14_streams_and_log_are_read_by_exclusive_cursors(
    store, bounds, expected
):
    await filled(store, "a", "a", "a", "a", "a")
    assert await versions(store.read_stream("a", **bounds)) == expected
    assert await positions(store.read_all(**bounds)) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"prefix": "order-"}, [1, 3]),
        ({"prefix": "order"}, [1, 3, 4, 5]),
        ({"prefix": ""}, [1, 2, 3, 4, 5, 6]),
        ({"category": "order"}, [1, 3, 4]),
        ({"category": "ord"}, []),
        ({"types": ["paid"]}, [2, 6]),
        ({"types": ["paid", "opened"]}, [1, 2, 3, 4, 5, 6]),
        ({"types": []}, []),
        ({"types": ["pai"]}, []),
        ({"category": "order", "types": ["paid"]}, []),
        ({"category": "account", "types": ["paid"]}, [2, 6]),
        ({"prefix": "orders", "category": "order"}, []),
    ],
)
async def test_rule_14_the_log_is_filtered_by_prefix_category_and_type(
    store, wanted, expected
):
    await store.append(
        [
            ("order-1", "opened", b""),
            ("account-1", "paid", b""),
            ("order-2", "opened", b""),
            ("order", "opened", b""),
            ("orders-1", "opened", b""),
            ("account-2", "paid", b""),
        ]
    )
    assert await positions(store.read_all(**wanted)) == expected
    backward = await positions(store.read_all(backward=True, **wanted))
    assert backward == expected[::-1]


async def test_rule_14_a_filter_applies_before_the_limit(store):
    await filled(store, *["noise"] * 300, "order-1", *["noise"] * 300, "order-2")
    found = await positions(store.read_all(category="order", limit=2))
    assert found == [301, 602]
    assert await positions(
        store.read_all(category="order", limit=1, backward=True)
    ) == [602]


async def test_rule_14_a_read_ends_at_the_head_of_its_first_page(store):
    await store.append([("a", "x", b"")] * 3000)
    for read in (store.read_all(), store.read_stream("a")):
        seen = 0
        head = await store.head()
        async for _ in read:
            seen += 1
            if seen % 500 == 1:
                await store.append([("a", "x", b"")])
        assert seen == head


async def test_rule_14_many_pages_give_every_event_once(store):
    for batch in range(5):
        await store.append([("a", "x", b"%d" % (batch * 700 + i)) for i in range(700)])
    expected = [b"%d" % number for number in range(3500)]
    assert [recorded.data async for recorded in store.read_all()] == expected
    assert [recorded.data async for recorded in store.read_stream("a")] == expected
    backward = [r.data async for r in store.read_stream("a", backward=True)]
    assert backward == expected[::-1]
    assert len(await listed(store.read_all(limit=1500, after=1000))) == 1500


async def test_rule_15_several_streams_are_read_as_of_one_position(store):
    await filled(store, "a", "b", "a", "c", "b")
    snapshot = await store.read_streams(["b", "a", "nothing"])
    assert snapshot.position == 5
    assert snapshot.versions == {"b": 2, "a": 2, "nothing": 0}
    assert [recorded.position for recorded in snapshot.events] == [1, 2, 3, 5]


async def test_rule_15_the_position_may_be_given(store):
    await filled(store, "a", "b", "a", "c", "b")
    snapshot = await store.read_streams(["a", "b"], at=2)
    assert (snapshot.position, snapshot.versions) == (2, {"a": 1, "b": 1})
    assert [recorded.position for recorded in snapshot.events] == [1, 2]


async def test_rule_15_events_that_the_caller_has_are_left_out(store):
    await filled(store, "a", "b", "a", "c", "a")
    snapshot = await store.read_streams(["a", "b"], after={"a": 1, "c": 1})
    assert snapshot.versions == {"a": 3, "b": 1}
    assert [recorded.position for recorded in snapshot.events] == [2, 3, 5]


async def test_rule_15_a_stream_named_twice_is_read_once(store):
    await filled(store, "a", "b")
    snapshot = await store.read_streams(["a", "b", "a"])
    assert [recorded.position for recorded in snapshot.events] == [1, 2]


async def test_rule_15_a_read_reports_where_it_was_even_if_asked_for_more(store):
    await filled(store, "a")
    assert (await store.read_streams(["a"], at=99)).position == 1


async def test_rule_16_no_character_of_a_prefix_is_a_wildcard(store):
    await filled(store, "a%c", "abc", "a_c", "A%c", "a*c", "é-1")
    assert await positions(store.read_all(prefix="a%")) == [1]
    assert await positions(store.read_all(prefix="a_")) == [3]
    assert await positions(store.read_all(prefix="a*")) == [5]
    assert await positions(store.read_all(prefix="é")) == [6]
    assert await listed(store.streams("a%")) == ["a%c"]


async def test_rule_16_streams_are_listed_by_their_bytes(store):
    await filled(store, "b", "a", "é", "Z", "a-2", "a-1")
    assert await listed(store.streams()) == ["Z", "a", "a-1", "a-2", "b", "é"]
    assert await listed(store.streams("a-")) == ["a-1", "a-2"]
    assert await listed(store.streams("nothing")) == []


async def test_rule_17_any_type_and_any_bytes_come_back_as_they_were(store):
    event_id = eb.uuid7()
    events = [
        eb.NewEvent("ä-1", "tÿpe", bytes(range(256)), metadata={"k": "v\n\u2028"}),
        eb.NewEvent("a", "x", b"", event_id=event_id),
        eb.NewEvent("a", "x", bytearray(b"mutable")),
        ("a", "x", memoryview(b"view")),
    ]
    await store.append(events)
    one, two, three, four = await listed(store.read_all())
    assert (one.stream, one.type, one.data) == ("ä-1", "tÿpe", bytes(range(256)))
    assert dict(one.metadata) == {"k": "v\n\u2028"}
    assert (two.event_id, two.data, dict(two.metadata)) == (event_id, b"", {})
    assert (three.data, four.data) == (b"mutable", b"view")
    assert one.event_id.version == 7
    assert one.recorded_at.utcoffset().total_seconds() == 0
