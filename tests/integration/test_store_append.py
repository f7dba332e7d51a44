"""The contract of semantics.md, rules 6 to 11: appending.

The hazard: an append that is half done, done twice, or refused without a word about
which stream stood in its way.
"""

from __future__ import annotations

import pytest

import eventbraid as eb
from tests.contract.asking import filled, is_untouched, listed, refusal
from tests.contract.backends import NAMES, backends

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", NAMES)]


@pytest.fixture
def kind(backend, tmp_path):
    return backends(tmp_path)[backend]


@pytest.fixture
async def store(kind, anyio_backend):
    async with kind.open() as opened:
        yield opened


async def test_rule_6_an_append_may_interleave_streams_as_it_likes(store):
    done = await store.append(
        [("a", "x", b"1"), ("b", "x", b"2"), eb.NewEvent("a", "x", b"3")]
    )
    assert dict(done.versions) == {"a": 2, "b": 1}
    streams = [(r.stream, r.version, r.data) async for r in store.read_all()]
    assert streams == [("a", 1, b"1"), ("b", 1, b"2"), ("a", 2, b"3")]


async def test_rule_6_an_append_is_all_or_nothing(store):
    events = [("a", "x", b""), ("b", "x", b"")]
    await refusal(store.append(events, expect={"b": 5}), eb.VersionConflict)
    await refusal(store.append([*events, ("", "x", b"")]), eb.InvalidStreamId)
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
        (2**63, False, False),
    ],
)
async def test_rule_7_every_kind_of_expectation(store, expected, when_empty, when_two):
    await filled(store, "two", "two")
    for stream, passes in (("empty", when_empty), ("two", when_two)):
        check = store.append([], expect={stream: expected})
        if passes:
            await check
        else:
            conflict = await refusal(check, eb.VersionConflict)
            assert conflict.failures[0].expected == expected


async def test_rule_7_a_stream_may_be_checked_without_being_written(store):
    await filled(store, "limit")
    done = await store.append([("a", "x", b"")], expect={"limit": 1})
    assert dict(done.versions) == {"a": 1}
    assert await store.version("limit") == 1
    late = store.append([("a", "x", b"")], expect={"limit": 0})
    await refusal(late, eb.VersionConflict)


async def test_rule_7_a_check_without_events_is_judged(store):
    done = await store.append([], expect={"a": eb.NO_STREAM})
    assert (done.first_position, done.last_position, dict(done.versions)) == (
        None,
        None,
        {},
    )
    await refusal(store.append([], expect={"a": eb.EXISTS}), eb.VersionConflict)


async def test_rule_7_a_written_stream_without_an_expectation_means_any(store):
    await filled(store, "a", "a")
    assert (await store.append([("a", "x", b"")])).versions["a"] == 3


async def test_rule_8_a_conflict_lists_every_failing_stream(store):
    await filled(store, "a", "b", "b")
    expect = {"a": 1, "b": 1, "c": eb.EXISTS, "d": eb.NO_STREAM}
    conflict = await refusal(
        store.append([("d", "x", b"")], expect=expect), eb.VersionConflict
    )
    assert set(conflict.failures) == {
        eb.ConflictedStream("b", expected=1, actual=2),
        eb.ConflictedStream("c", expected=eb.EXISTS, actual=0),
    }
    assert await is_untouched(store, head=3)


async def test_rule_9_an_append_answers_positions_and_versions(store):
    await filled(store, "a")
    done = await store.append([("a", "x", b""), ("b", "x", b""), ("a", "x", b"")])
    assert done == eb.Appended(2, 4, {"a": 3, "b": 1}, replayed=False)


async def test_rule_9_an_append_of_nothing_is_an_error(store):
    error = await refusal(store.append([]), eb.InvalidArgument)
    assert "key" in str(error)


async def test_rule_10_the_same_key_answers_the_original_result(store):
    events = [("a", "x", b"1"), eb.NewEvent("b", "x", b"2", metadata={"k": "v"})]
    done = await store.append(events, expect={"a": 0}, idempotency_key="k")
    await filled(store, "a", "b")
    again = await store.append(events, expect={"a": 0}, idempotency_key="k")
    assert again == eb.Appended(1, 2, done.versions, replayed=True)
    assert await store.head() == 4
    assert await store.committed("k") == again
    assert await store.committed("unknown") is None


async def test_rule_10_a_key_survives_a_restart(kind):
    if kind.location == "memory:":
        pytest.skip("a store in memory ends with its closing")
    async with kind.open() as store:
        await store.append([("a", "x", b"1")], idempotency_key="k")
    async with kind.open() as store:
        again = await store.append([("a", "x", b"1")], idempotency_key="k")
        assert again.replayed
        assert await store.head() == 1


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
            [eb.NewEvent("a", "x", b"1", metadata={"k": "v"})], {"a": 0}, id="metadata"
        ),
    ],
)
async def test_rule_10_the_same_key_with_other_content_is_a_mismatch(
    store, events, expect
):
    await store.append([("a", "x", b"1")], expect={"a": 0}, idempotency_key="k")
    late = store.append(events, expect=expect, idempotency_key="k")
    assert (await refusal(late, eb.IdempotencyMismatch)).key == "k"
    assert await is_untouched(store, head=1)


async def test_rule_10_event_ids_are_not_part_of_the_content(store):
    def event():
        return [eb.NewEvent("a", "x", b"1", event_id=eb.uuid7())]

    await store.append(event(), idempotency_key="k")
    assert (await store.append(event(), idempotency_key="k")).replayed


async def test_rule_10_content_may_be_what_the_caller_says(store):
    await store.append([("a", "x", b"1")], idempotency_key="k", content=b"transfer")
    again = await store.append(
        [("b", "y", b"")], idempotency_key="k", content=b"transfer"
    )
    assert (again.replayed, dict(again.versions)) == (True, {"a": 1})
    assert (await store.committed("k", content=b"transfer")).replayed
    await refusal(store.committed("k", content=b"other"), eb.IdempotencyMismatch)


async def test_rule_10_a_known_key_is_found_before_expectations_are_judged(store):
    await store.append([("a", "x", b"")], expect={"a": 0}, idempotency_key="k")
    again = await store.append([("a", "x", b"")], expect={"a": 0}, idempotency_key="k")
    assert again.replayed


async def test_rule_10_a_keyed_append_without_events_is_recorded(store):
    done = await store.append([], expect={"a": 0}, idempotency_key="k")
    await filled(store, "a")
    again = await store.append([], expect={"a": 0}, idempotency_key="k")
    assert (done.replayed, again.replayed) == (False, True)
    assert (again.first_position, dict(again.versions)) == (None, {})
    assert await store.head() == 1


async def test_rule_10_a_refused_append_does_not_take_its_key(store):
    await refusal(
        store.append([("a", "x", b"")], expect={"a": 4}, idempotency_key="k"),
        eb.VersionConflict,
    )
    assert await store.committed("k") is None
    assert not (await store.append([("a", "x", b"")], idempotency_key="k")).replayed


async def test_rule_11_a_refused_append_writes_nothing_now_or_later(kind):
    if kind.location == "memory:":
        pytest.skip("a store in memory ends with its closing")
    async with kind.open() as store:
        await filled(store, "a")
        await refusal(
            store.append([("a", "x", b"")], expect={"a": 0}), eb.VersionConflict
        )
        await refusal(store.append([("a", "x", bytes(9 << 20))]), eb.LimitExceeded)
    async with kind.open() as store:
        assert [recorded.data for recorded in await listed(store.read_all())] == [b"1"]
