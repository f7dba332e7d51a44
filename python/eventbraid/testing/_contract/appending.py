"""Rules 6 to 11: appending.

The hazard: an append that is half done, done twice, or refused without a word about
which stream stood in its way.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from eventbraid.testing._contract.asking import (
    filled,
    is_untouched,
    listed,
    refusal,
    versions,
)
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventbraid.testing._contract.backend import StoreUnderTest

    Events = list[eb.NewEvent | tuple[str, str, bytes]]


class AppendingContract(ContractCase):
    """Rules 6 to 11."""

    async def test_rule_06_an_append_may_interleave_streams_as_it_likes(
        self, store: StoreUnderTest
    ) -> None:
        """One append names any number of events over any number of streams."""
        done = await store.append(
            [("a", "x", b"1"), ("b", "x", b"2"), eb.NewEvent("a", "x", b"3")]
        )
        assert dict(done.versions) == {"a": 2, "b": 1}
        streams = [(r.stream, r.version, r.data) async for r in store.read_all()]
        assert streams == [("a", 1, b"1"), ("b", 1, b"2"), ("a", 2, b"3")]

    async def test_rule_06_an_append_takes_any_iterable(
        self, store: StoreUnderTest
    ) -> None:
        """The events of an append may come from any iterable, which is read once."""

        def generated() -> Iterator[tuple[str, str, bytes]]:
            yield ("a", "x", b"1")
            yield ("a", "x", b"2")

        assert (await store.append(generated())).versions["a"] == 2

    async def test_rule_06_an_append_is_all_or_nothing(
        self, store: StoreUnderTest
    ) -> None:
        """Where one event or one check fails, nothing is written."""
        events: Events = [("a", "x", b""), ("b", "x", b"")]
        await refusal(store.append(events, expect={"b": 5}), eb.VersionConflict)
        await refusal(
            store.append([*events, ("", "x", b"")]), eb.errors.InvalidStreamId
        )
        assert await is_untouched(store)

    async def test_rule_06_an_error_of_the_events_iterable_comes_through(
        self, store: StoreUnderTest
    ) -> None:
        """What the caller's own iterable raises is raised, and nothing is written."""

        def broken() -> Iterator[tuple[str, str, bytes]]:
            yield ("a", "x", b"")
            message = "mine"
            raise LookupError(message)

        assert str(await refusal(store.append(broken()), LookupError)) == "mine"
        assert await is_untouched(store)

    @pytest.mark.parametrize(
        ("expected", "when_empty", "when_two"),
        [
            (eb.ANY, True, True),
            (eb.NO_STREAM, True, False),
            (eb.EXISTS, False, True),
            (0, True, False),
            (1, False, False),
            (2, False, True),
            (2**63 - 1, False, False),
        ],
    )
    async def test_rule_07_every_kind_of_expectation(
        self,
        store: StoreUnderTest,
        expected: eb.store.Expectation,
        when_empty: bool,  # noqa: FBT001 - a column of the table above
        when_two: bool,  # noqa: FBT001
    ) -> None:
        """An expectation is `ANY`, `NO_STREAM`, `EXISTS` or an exact version."""
        await filled(store, "two", "two")
        for stream, passes in (("empty", when_empty), ("two", when_two)):
            check = store.append([], expect={stream: expected})
            if passes:
                await check
            else:
                conflict = await refusal(check, eb.VersionConflict)
                assert conflict.failures[0].expected == expected

    async def test_rule_07_a_stream_may_be_checked_without_being_written(
        self, store: StoreUnderTest
    ) -> None:
        """A stream that is only checked decides, and stays as it is."""
        await filled(store, "limit")
        done = await store.append([("a", "x", b"")], expect={"limit": 1})
        assert dict(done.versions) == {"a": 1}
        assert await store.version("limit") == 1
        late = store.append([("a", "x", b"")], expect={"limit": 0})
        await refusal(late, eb.VersionConflict)
        assert await store.version("a") == 1

    async def test_rule_07_a_check_without_events_is_judged(
        self, store: StoreUnderTest
    ) -> None:
        """A check with no events at all is legal, and is judged."""
        done = await store.append([], expect={"a": eb.NO_STREAM})
        assert done == eb.Appended(None, None, {}, replayed=False)
        await refusal(store.append([], expect={"a": eb.EXISTS}), eb.VersionConflict)

    async def test_rule_07_a_written_stream_without_an_expectation_means_any(
        self, store: StoreUnderTest
    ) -> None:
        """A written stream with no expectation means `ANY`."""
        await filled(store, "a", "a")
        done = await store.append([("a", "x", b"")], expect={"b": 0})
        assert done.versions["a"] == 3

    async def test_rule_07_an_expectation_speaks_of_before_the_append(
        self, store: StoreUnderTest
    ) -> None:
        """A version that is expected is the one before the append's own events."""
        events: Events = [("a", "x", b"1"), ("a", "x", b"2")]
        await refusal(store.append(events, expect={"a": 2}), eb.VersionConflict)
        await refusal(store.append(events, expect={"a": eb.EXISTS}), eb.VersionConflict)
        assert (await store.append(events, expect={"a": 0})).versions["a"] == 2

    async def test_rule_08_a_conflict_lists_every_failing_stream(
        self, store: StoreUnderTest
    ) -> None:
        """`VersionConflict` lists every failing stream: what was expected, what is."""
        await filled(store, "a", "b", "b")
        expect: dict[str, eb.store.Expectation]
        expect = {"a": 1, "b": 1, "c": eb.EXISTS, "d": eb.NO_STREAM}
        conflict = await refusal(
            store.append([("d", "x", b"")], expect=expect), eb.VersionConflict
        )
        assert set(conflict.failures) == {
            eb.errors.ConflictedStream("b", expected=1, actual=2),
            eb.errors.ConflictedStream("c", expected=eb.EXISTS, actual=0),
        }
        assert len(conflict.failures) == 2
        assert await store.version("d") == 0

    async def test_rule_09_an_append_answers_positions_and_versions(
        self, store: StoreUnderTest
    ) -> None:
        """An append answers its first and last position and the new versions."""
        await filled(store, "a")
        done = await store.append([("a", "x", b""), ("b", "x", b""), ("a", "x", b"")])
        mine = [r.position async for r in store.read_all()][1:]
        assert done == eb.Appended(mine[0], mine[2], {"a": 3, "b": 1}, replayed=False)

    async def test_rule_09_an_append_of_nothing_is_an_error(
        self, store: StoreUnderTest
    ) -> None:
        """With no events, no expectations and no key, an append is an error."""
        await refusal(store.append([]), eb.errors.InvalidArgument)
        await refusal(store.append([], expect={}), eb.errors.InvalidArgument)
        assert await is_untouched(store)

    async def test_rule_10_the_same_key_answers_the_original_result(
        self, store: StoreUnderTest
    ) -> None:
        """The same key with the same content answers the original result."""
        events: Events = [
            ("a", "x", b"1"),
            eb.NewEvent("b", "x", b"2", metadata={"k": "v"}),
        ]
        done = await store.append(events, expect={"a": 0}, idempotency_key="k")
        await filled(store, "a", "b")
        again = await store.append(events, expect={"a": 0}, idempotency_key="k")
        assert not done.replayed
        assert again == eb.Appended(
            done.first_position, done.last_position, done.versions, replayed=True
        )
        assert await store.version("a") == await store.version("b") == 2
        assert await store.committed("k") == again
        assert await store.committed("unknown") is None

    async def test_rule_10_original_times_are_not_part_of_the_content(
        self, store: StoreUnderTest
    ) -> None:
        """The same key with another original time is the same request.

        A program that repeats a request may have read its clock anew.
        """
        first = datetime(1997, 8, 2, tzinfo=UTC)
        for number, time in enumerate([first, first + timedelta(days=1), None]):
            event = eb.NewEvent("a", "x", b"1", original_time=time)
            done = await store.append([event], idempotency_key="k")
            assert done.replayed is (number > 0)
        [recorded] = await listed(store.read_all())
        assert recorded.original_time == first

    @pytest.mark.parametrize(
        ("events", "expect"),
        [
            pytest.param([("a", "x", b"2")], {"a": 0}, id="data"),
            pytest.param([("a", "y", b"1")], {"a": 0}, id="type"),
            pytest.param([("b", "x", b"1")], {"a": 0}, id="stream"),
            pytest.param([("a", "x", b"1")], {"a": eb.NO_STREAM}, id="expectation"),
            pytest.param([("a", "x", b"1")], None, id="no expectation"),
            pytest.param([("a", "x", b"1")] * 2, {"a": 0}, id="count"),
            pytest.param([], {"a": 0}, id="nothing"),
            pytest.param(
                [eb.NewEvent("a", "x", b"1", metadata={"k": "v"})],
                {"a": 0},
                id="metadata",
            ),
        ],
    )
    async def test_rule_10_the_same_key_with_other_content_is_a_mismatch(
        self,
        store: StoreUnderTest,
        events: Events,
        expect: dict[str, eb.store.Expectation] | None,
    ) -> None:
        """The same key with other content is `IdempotencyMismatch`."""
        await store.append([("a", "x", b"1")], expect={"a": 0}, idempotency_key="k")
        late = store.append(events, expect=expect, idempotency_key="k")
        assert (await refusal(late, eb.errors.IdempotencyMismatch)).key == "k"
        assert len(await listed(store.read_all())) == 1

    async def test_rule_10_the_order_of_events_is_part_of_the_content(
        self, store: StoreUnderTest
    ) -> None:
        """Content is the ordered events; that of the expectations does not count."""
        one, two = ("a", "x", b"1"), ("b", "x", b"2")
        expect: dict[str, eb.store.Expectation] = {"a": 0, "b": eb.NO_STREAM}
        await store.append([one, two], expect=expect, idempotency_key="k")
        turned = dict(reversed(expect.items()))
        again = await store.append([one, two], expect=turned, idempotency_key="k")
        assert again.replayed
        late = store.append([two, one], expect=expect, idempotency_key="k")
        await refusal(late, eb.errors.IdempotencyMismatch)

    async def test_rule_10_event_ids_are_not_part_of_the_content(
        self, store: StoreUnderTest
    ) -> None:
        """The ids of the events don't count for a key."""
        for replayed in (False, True):
            event = eb.NewEvent("a", "x", b"1", event_id=eb.store.uuid7())
            done = await store.append([event], idempotency_key="k")
            assert done.replayed is replayed

    async def test_rule_10_the_content_of_an_event_replaces_its_data(
        self, store: StoreUnderTest
    ) -> None:
        """An encrypted body has other bytes each time; its plain body is compared."""

        def encrypted(data: bytes, plain: bytes) -> list[eb.NewEvent]:
            return [eb.NewEvent("a", "x", data, content=plain)]

        await store.append(encrypted(b"nonce 1", b"plain"), idempotency_key="k")
        again = await store.append(encrypted(b"nonce 2", b"plain"), idempotency_key="k")
        assert again.replayed
        late = store.append(encrypted(b"nonce 1", b"other"), idempotency_key="k")
        await refusal(late, eb.errors.IdempotencyMismatch)
        [recorded] = await listed(store.read_stream("a"))
        assert recorded.data == b"nonce 1"

    async def test_rule_10_content_may_be_what_the_caller_says(
        self, store: StoreUnderTest
    ) -> None:
        """A caller may say what a key stands for, instead of events and checks."""
        await store.append([("a", "x", b"1")], idempotency_key="k", content=b"transfer")
        again = await store.append(
            [("b", "y", b"")], idempotency_key="k", content=b"transfer"
        )
        assert (again.replayed, dict(again.versions)) == (True, {"a": 1})
        found = await store.committed("k", content=b"transfer")
        assert found is not None
        assert found.replayed
        await refusal(
            store.committed("k", content=b"other"), eb.errors.IdempotencyMismatch
        )

    async def test_rule_10_a_known_key_is_found_before_expectations_are_judged(
        self, store: StoreUnderTest
    ) -> None:
        """Keys are looked up before expectations are judged."""
        for replayed in (False, True):
            done = await store.append(
                [("a", "x", b"")], expect={"a": 0}, idempotency_key="k"
            )
            assert done.replayed is replayed

    async def test_rule_10_a_keyed_append_without_events_is_recorded(
        self, store: StoreUnderTest
    ) -> None:
        """A keyed append with no events is recorded too, and takes no position."""
        done = await store.append([], expect={"a": 0}, idempotency_key="k")
        only_a_key = await store.append([], idempotency_key="only a key")
        assert await store.head() == 0
        await filled(store, "a")
        again = await store.append([], expect={"a": 0}, idempotency_key="k")
        assert not done.replayed
        assert not only_a_key.replayed
        assert again == eb.Appended(None, None, {}, replayed=True)
        assert len(await listed(store.read_all())) == 1

    async def test_rule_10_a_refused_append_does_not_take_its_key(
        self, store: StoreUnderTest
    ) -> None:
        """A key stands for what was done; a refused append did nothing."""
        refused = store.append([("a", "x", b"")], expect={"a": 4}, idempotency_key="k")
        await refusal(refused, eb.VersionConflict)
        assert await store.committed("k") is None
        done = await store.append([("a", "x", b"")], idempotency_key="k")
        assert not done.replayed

    async def test_rule_11_a_cancelled_append_is_done_whole_or_not_at_all(
        self, store: StoreUnderTest
    ) -> None:
        """A cancelled append that says nothing of its outcome has written nothing.

        One that was under way runs on and carries ``outcome_unknown=True``; asked again
        with its key, it is done exactly once.
        """
        for number in range(30):
            caught: list[BaseException] = []
            ended: list[eb.Appended] = []
            stream, key = f"s-{number}", f"k-{number}"

            async def append(
                scope: anyio.CancelScope,
                stream: str = stream,
                key: str = key,
                caught: list[BaseException] = caught,
                ended: list[eb.Appended] = ended,
            ) -> None:
                with scope:
                    try:
                        done = await store.append(
                            [(stream, "x", b""), (stream, "y", b"")],
                            idempotency_key=key,
                        )
                        ended.append(done)
                    except BaseException as cancelled:
                        caught.append(cancelled)
                        raise

            async with anyio.create_task_group() as tasks:
                scope = anyio.CancelScope()
                tasks.start_soon(append, scope)
                for _ in range(number % 6):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
            if caught and not getattr(caught[0], "outcome_unknown", False):
                assert await store.committed(key) is None
                assert await store.version(stream) == 0
            again = await store.append(
                [(stream, "x", b""), (stream, "y", b"")], idempotency_key=key
            )
            if ended:
                assert again.replayed
            assert await versions(store.read_stream(stream)) == [1, 2]

    async def test_rule_11_every_refusal_is_an_error_of_one_root(
        self, store: StoreUnderTest
    ) -> None:
        """A refused append raises a typed error under `EventbraidError`."""
        await store.append([("a", "x", b"")], idempotency_key="k")
        refused = [
            store.append([("a", "x", b"")], expect={"a": 0}),
            store.append([("a", "y", b"")], idempotency_key="k"),
            store.append([("", "x", b"")]),
            store.append([("a", "", b"")]),
            store.append([]),
        ]
        kinds = [type(await refusal(each, eb.EventbraidError)) for each in refused]
        assert kinds == [
            eb.VersionConflict,
            eb.errors.IdempotencyMismatch,
            eb.errors.InvalidStreamId,
            eb.errors.InvalidEventType,
            eb.errors.InvalidArgument,
        ]
        assert len(await listed(store.read_all())) == 1
