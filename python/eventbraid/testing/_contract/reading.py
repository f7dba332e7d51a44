"""Rules 13 to 17: reading.

The hazard: a read that skips an event, gives it twice, or mixes two states of the log.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from eventbraid.testing._contract.asking import (
    filled,
    listed,
    positions,
    refusal,
    refused_read,
    versions,
)
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreUnderTest


class ReadingContract(ContractCase):
    """Rules 13 to 17."""

    async def test_rule_13_a_stream_without_events_reads_as_empty(
        self, store: StoreUnderTest
    ) -> None:
        """A stream that has no events reads as empty with version 0, no error."""
        assert await listed(store.read_stream("nothing")) == []
        assert await listed(store.read_stream("nothing", backward=True)) == []
        assert await store.version("nothing") == 0
        assert await listed(store.read_all()) == []
        assert await store.head() == 0
        snapshot = await store.read_streams(["nothing"])
        assert snapshot.position == 0
        assert dict(snapshot.versions) == {"nothing": 0}
        assert list(snapshot.events) == []

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
            ({"after": 4, "before": 2}, []),
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
        self, store: StoreUnderTest, bounds: dict[str, Any], expected: list[int]
    ) -> None:
        """Cursors are exclusive: `after=` the last one seen, backward `before=`."""
        await filled(store, "a", "a", "a", "a", "a")
        assert await versions(store.read_stream("a", **bounds)) == expected
        place = dict(enumerate([0, *await positions(store.read_all())]))
        moved = dict(bounds)
        for cursor in {"after", "before"} & bounds.keys():
            moved[cursor] = place.get(bounds[cursor], place[5] + bounds[cursor])
        found = store.read_all(**moved)
        assert await positions(found) == [place[number] for number in expected]

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
            ({"stream": "order-1"}, [1]),
            ({"stream": "order"}, [4]),
            ({"stream": "order-1", "types": ["opened", "paid"]}, [1]),
            ({"stream": "order-1", "types": ["paid"]}, []),
            ({"stream": "order-1", "prefix": "account"}, []),
            ({"stream": "order-1", "category": "order"}, [1]),
            ({"stream": "orde"}, []),
            ({"system": True}, [1, 2, 3, 4, 5, 6]),
        ],
    )
    async def test_rule_14_the_log_is_filtered_by_prefix_category_and_type(
        self, store: StoreUnderTest, wanted: dict[str, Any], expected: list[int]
    ) -> None:
        """The log is filtered by stream, prefix, category and event type."""
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
        place = dict(enumerate(await positions(store.read_all()), start=1))
        passed = [place[number] for number in expected]
        assert await positions(store.read_all(**wanted)) == passed
        backward = await positions(store.read_all(backward=True, **wanted))
        assert backward == passed[::-1]

    async def test_rule_14_one_stream_is_read_from_the_log_by_position(
        self, store: StoreUnderTest
    ) -> None:
        """The events of one stream are read by position, within bounds and a limit."""
        for number in range(300):
            await store.append([("a-1", "x", b""), ("a-10", f"t{number % 3}", b"")])
        place = await positions(store.read_all(stream="a-10"))
        assert len(place) == 300
        for backward in (False, True):
            order = place[::-1] if backward else place
            found = store.read_all(stream="a-10", backward=backward)
            assert await positions(found) == order
            found = store.read_all(stream="a-10", backward=backward, limit=100)
            assert await positions(found) == order[:100]
            within = store.read_all(
                stream="a-10", backward=backward, after=place[9], before=place[200]
            )
            inner = place[10:200]
            assert await positions(within) == (inner[::-1] if backward else inner)
            typed = store.read_all(
                stream="a-10", types=["t1"], backward=backward, limit=7
            )
            matching = place[1::3]
            assert await positions(typed) == (
                matching[:-8:-1] if backward else matching[:7]
            )

    async def test_rule_14_a_filter_applies_before_the_limit(
        self, store: StoreUnderTest
    ) -> None:
        """A filter applies before the limit."""
        noise = [("noise", "x", b"")] * 300
        await store.append([*noise, ("order-1", "x", b"")])
        await store.append([*noise, ("order-2", "x", b"")])
        found = await listed(store.read_all(category="order", limit=2))
        assert [recorded.stream for recorded in found] == ["order-1", "order-2"]
        last = await listed(store.read_all(category="order", limit=1, backward=True))
        assert [recorded.stream for recorded in last] == ["order-2"]

    async def test_rule_14_a_read_ends_at_the_head_of_its_first_page(
        self, store: StoreUnderTest
    ) -> None:
        """A read without limit is pinned to the durable head at its first page."""
        await store.append([("a", "x", b"")] * 3000)
        for read in (store.read_all(), store.read_stream("a")):
            seen = 0
            before = await store.version("a")
            async for _ in read:
                seen += 1
                if seen % 500 == 1:
                    await store.append([("a", "x", b"")])
            assert seen == before

    async def test_rule_14_many_pages_give_every_event_once(
        self, store: StoreUnderTest
    ) -> None:
        """However many pages a read takes, it gives every event once, in order."""
        for batch in range(5):
            numbers = range(batch * 700, (batch + 1) * 700)
            await store.append([("a", "x", b"%d" % number) for number in numbers])
        expected = [b"%d" % number for number in range(3500)]
        assert [recorded.data async for recorded in store.read_all()] == expected
        assert [recorded.data async for recorded in store.read_stream("a")] == expected
        backward = [r.data async for r in store.read_stream("a", backward=True)]
        assert backward == expected[::-1]
        part = await listed(store.read_stream("a", limit=1500, after=1000))
        assert [recorded.data for recorded in part] == expected[1000:2500]

    @pytest.mark.parametrize(
        "bounds", [{"after": -1}, {"before": -1}, {"limit": -1}], ids=str
    )
    async def test_rule_14_bounds_that_make_no_sense_are_refused(
        self, store: StoreUnderTest, bounds: dict[str, Any]
    ) -> None:
        """A cursor or a limit below 0 is an error, not an empty answer."""
        await filled(store, "a")
        await refused_read(
            lambda: store.read_stream("a", **bounds), eb.errors.InvalidArgument
        )
        await refused_read(lambda: store.read_all(**bounds), eb.errors.InvalidArgument)

    async def test_rule_15_several_streams_are_read_as_of_one_position(
        self, store: StoreUnderTest
    ) -> None:
        """A read over several streams reports its position and their versions."""
        await filled(store, "a", "b", "a", "c", "b")
        place = [0, *await positions(store.read_all())]
        snapshot = await store.read_streams(["b", "a", "nothing"])
        assert snapshot.position == await store.head()
        assert dict(snapshot.versions) == {"b": 2, "a": 2, "nothing": 0}
        found = [recorded.position for recorded in snapshot.events]
        assert found == [place[number] for number in (1, 2, 3, 5)]

    async def test_rule_15_the_position_may_be_given(
        self, store: StoreUnderTest
    ) -> None:
        """The position of a snapshot may be given."""
        await filled(store, "a", "b", "a", "c", "b")
        place = [0, *await positions(store.read_all())]
        for number, versions_then in enumerate(
            [(0, 0), (1, 0), (1, 1), (2, 1), (2, 1), (2, 2)]
        ):
            snapshot = await store.read_streams(["a", "b"], at=place[number])
            assert snapshot.position == place[number]
            assert tuple(snapshot.versions.values()) == versions_then
            assert len(snapshot.events) == sum(versions_then)

    async def test_rule_15_a_snapshot_mixes_no_two_states(
        self, store: StoreUnderTest
    ) -> None:
        """Streams that always change together are never seen apart."""
        ended = anyio.Event()

        async def write() -> None:
            for _ in range(40):
                await store.append([("a", "x", b""), ("b", "x", b"")])
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            while not ended.is_set():
                snapshot = await store.read_streams(["a", "b"])
                assert snapshot.versions["a"] == snapshot.versions["b"]
                assert len(snapshot.events) == 2 * snapshot.versions["a"]
                await anyio.lowlevel.checkpoint()

    async def test_rule_15_events_that_the_caller_has_are_left_out(
        self, store: StoreUnderTest
    ) -> None:
        """What the caller has read before need not be read again."""
        await filled(store, "a", "b", "a", "c", "a")
        snapshot = await store.read_streams(["a", "b"], after={"a": 1, "c": 1})
        assert dict(snapshot.versions) == {"a": 3, "b": 1}
        found = [(recorded.stream, recorded.version) for recorded in snapshot.events]
        assert found == [("b", 1), ("a", 2), ("a", 3)]

    async def test_rule_15_a_stream_named_twice_is_read_once(
        self, store: StoreUnderTest
    ) -> None:
        """A stream that is named twice is read once."""
        await filled(store, "a", "b")
        snapshot = await store.read_streams(["a", "b", "a"])
        assert [recorded.stream for recorded in snapshot.events] == ["a", "b"]

    async def test_rule_15_a_read_beyond_the_head_reports_where_it_was(
        self, store: StoreUnderTest
    ) -> None:
        """A snapshot that is asked for beyond the head says which position it is of."""
        await filled(store, "a")
        head = await store.head()
        assert (await store.read_streams(["a"], at=head + 99)).position == head

    async def test_rule_16_no_character_of_a_prefix_is_a_wildcard(
        self, store: StoreUnderTest
    ) -> None:
        """Prefix means exact, case-sensitive, byte-wise prefix."""
        names = ["a%c", "abc", "a_c", "A%c", "a*c", "é-1", "a[c", "a?c", "a\\c"]
        await filled(store, *names)
        for prefix, expected in {
            "a%": ["a%c"],
            "a_": ["a_c"],
            "a*": ["a*c"],
            "a[": ["a[c"],
            "a?": ["a?c"],
            "a\\": ["a\\c"],
            "A": ["A%c"],
            "é": ["é-1"],
            "e": [],
        }.items():
            found = [r.stream async for r in store.read_all(prefix=prefix)]
            assert found == expected
            assert await listed(store.streams(prefix)) == expected

    async def test_rule_16_a_category_and_a_type_are_whole_names(
        self, store: StoreUnderTest
    ) -> None:
        """The category is what stands before the first dash, or the whole name."""
        await filled(store, "a-1-2", "a", "-x", "A-1", "a%-1")
        found = {
            category: [r.stream async for r in store.read_all(category=category)]
            for category in ("a", "", "A", "a%", "a-1")
        }
        assert found == {
            "a": ["a-1-2", "a"],
            "": ["-x"],
            "A": ["A-1"],
            "a%": ["a%-1"],
            "a-1": [],
        }
        assert await listed(store.read_all(types=["happen%", "HAPPENED"])) == []

    async def test_rule_16_streams_are_listed_by_their_bytes(
        self, store: StoreUnderTest
    ) -> None:
        """Streams are listed in ascending order of their ids' bytes."""
        await filled(store, "b", "a", "é", "Z", "a-2", "a-1", "\U0001f600", "\ufb01")
        assert await listed(store.streams()) == [
            *("Z", "a", "a-1", "a-2", "b", "é", "\ufb01", "\U0001f600")
        ]
        assert await listed(store.streams("a-")) == ["a-1", "a-2"]
        assert await listed(store.streams("nothing")) == []

    async def test_rule_17_any_type_and_any_bytes_come_back_as_they_were(
        self, store: StoreUnderTest
    ) -> None:
        """What was appended is never skipped and never comes back as something else."""
        event_id = eb.store.uuid7()
        await store.append(
            [
                eb.NewEvent(
                    "ä-1",
                    "tÿpe",
                    bytes(range(256)),
                    metadata={"k": "v\n\u2028", '"': "\\", "": "", "zero": "\0"},
                ),
                eb.NewEvent("a", "x", b"", event_id=event_id),
                eb.NewEvent("a", "x", bytearray(b"mutable")),
                ("a", "\n\t", memoryview(b"view")),
            ]
        )
        one, two, three, four = await listed(store.read_all())
        assert (one.stream, one.type, one.data) == ("ä-1", "tÿpe", bytes(range(256)))
        assert dict(one.metadata) == {
            "k": "v\n\u2028",
            '"': "\\",
            "": "",
            "zero": "\0",
        }
        assert (two.event_id, two.data, dict(two.metadata)) == (event_id, b"", {})
        assert (three.data, four.data, four.type) == (b"mutable", b"view", "\n\t")
        assert one.event_id.version == 7
        offset = one.recorded_at.utcoffset()
        assert offset is not None
        assert offset.total_seconds() == 0

    async def test_rule_17_every_way_of_reading_gives_the_same_event(
        self, store: StoreUnderTest
    ) -> None:
        """A stream, a snapshot, the log and a subscription give the same event."""
        event = eb.NewEvent(
            "a",
            "unheard.of",
            b"\xff",
            metadata={"k": "v"},
            original_time=datetime(1997, 8, 2, tzinfo=UTC),
        )
        await store.append([event])
        [one] = await listed(store.read_all())
        [two] = await listed(store.read_stream("a"))
        [three] = (await store.read_streams(["a"])).events
        async with store.subscribe() as subscription:
            four = await anext(aiter(subscription))
        assert one == two == three == four
        assert (one.type, one.data) == ("unheard.of", b"\xff")

    async def test_rule_17_an_original_time_comes_back_in_utc(
        self, store: StoreUnderTest
    ) -> None:
        """The time at which an event happened is read beside that of its recording."""
        berlin = timezone(timedelta(hours=2))
        times = [
            datetime(1997, 8, 2, 12, 30, 0, 123456, berlin),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
            None,
        ]
        await store.append(
            [eb.NewEvent("a", "x", b"", original_time=time) for time in times]
        )
        found = await listed(store.read_all())
        assert [one.original_time for one in found] == times
        zones = [one.original_time.tzinfo for one in found if one.original_time]
        assert zones == [UTC] * 3
        assert all(one.metadata == {} for one in found)
        assert all(one.recorded_at.year > 1997 for one in found)

    @pytest.mark.parametrize("stream", ["", "s" * 256, "a\n", "a\ud800"], ids=ascii)
    async def test_rule_12_streams_that_can_not_be_are_not_read_either(
        self, store: StoreUnderTest, stream: str
    ) -> None:
        """An id that no stream could have is refused by every read of streams."""
        for read in (store.version(stream), store.read_streams([stream])):
            await refusal(read, eb.errors.InvalidStreamId)
        await refused_read(lambda: store.read_stream(stream), eb.errors.InvalidStreamId)
