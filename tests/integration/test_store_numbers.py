"""The contract of semantics.md, rules 1 to 5: numbers, order and durability.

The hazard: a reader that was shown a position and later finds an event below it, or
a version that is used twice, has built its state on sand.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from tests.contract.asking import filled, first, listed, refusal
from tests.contract.backends import NAMES, backends

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", NAMES)]


@pytest.fixture
async def store(backend, tmp_path, anyio_backend):
    async with backends(tmp_path)[backend].open() as opened:
        yield opened


async def test_rule_1_versions_are_dense_and_count_from_1(store):
    await filled(store, "a", "b", "a", "a")
    assert await store.version("nothing") == 0
    assert [recorded.version async for recorded in store.read_stream("a")] == [1, 2, 3]
    assert await store.version("a") == 3


async def test_rule_2_positions_ascend_from_1_in_commit_order(store):
    await filled(store, "a", "b", "c")
    done = await store.append([("a", "x", b""), ("b", "x", b"")])
    assert (done.first_position, done.last_position) == (4, 5)
    positions = [recorded.position async for recorded in store.read_all()]
    assert positions == sorted(positions) == [1, 2, 3, 4, 5]


async def test_rule_3_nothing_appears_at_or_below_a_position_that_was_shown(store):
    seen: dict[int, object] = {}
    ended = anyio.Event()

    async def write(number):
        for round_ in range(20):
            await store.append([(f"s-{number}", "x", str(round_).encode())] * 3)

    async def look():
        while not ended.is_set():
            highest = max(seen, default=0)
            for recorded in await listed(store.read_all()):
                assert (
                    recorded.position > highest or seen[recorded.position] == recorded
                )
                seen[recorded.position] = recorded
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as lookers:
        lookers.start_soon(look)
        async with anyio.create_task_group() as writers:
            for number in range(4):
                writers.start_soon(write, number)
        ended.set()
    assert [recorded.position async for recorded in store.read_all()] == list(
        range(1, 241)
    )


async def test_rule_4_after_a_conflict_a_read_sees_the_version_it_reported(store):
    await filled(store, "a", "a")
    conflict = await refusal(store.append([], expect={"a": 7}), eb.VersionConflict)
    assert conflict.failures[0].actual == await store.version("a") == 2


async def test_rule_4_what_was_acknowledged_is_readable_at_once(store):
    done = await store.append([("a", "x", b"1")])
    assert await store.head() == done.last_position
    assert [recorded.data async for recorded in store.read_all()] == [b"1"]


async def test_rule_5_the_events_of_a_commit_are_adjacent_and_in_order(store):
    async def write(number):
        for _ in range(10):
            await store.append([(f"s-{number}-{i}", "x", b"") for i in range(5)])

    async with anyio.create_task_group() as writers:
        for number in range(4):
            writers.start_soon(write, number)
    streams = [recorded.stream async for recorded in store.read_all()]
    commits = [streams[start : start + 5] for start in range(0, len(streams), 5)]
    assert len(commits) == 40
    for commit in commits:
        number = commit[0].split("-")[1]
        assert commit == [f"s-{number}-{i}" for i in range(5)]


async def test_rule_5_a_subscriber_never_sees_half_a_commit(store):
    async def write():
        for _ in range(10):
            await store.append([("a", "x", b""), ("b", "x", b"")])

    async with anyio.create_task_group() as tasks, store.subscribe() as subscription:
        tasks.start_soon(write)
        for recorded in await first(20, subscription):
            whole = recorded.position + recorded.position % 2
            assert await store.head() >= whole
