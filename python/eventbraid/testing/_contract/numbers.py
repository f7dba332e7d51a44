"""Rules 1 to 5: numbers, order and durability.

The hazard: a reader that was shown a position and later finds an event below it, or
a version that is used twice, has built its state on sand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

import eventbraid as eb
from eventbraid.testing._contract.asking import (
    filled,
    first,
    listed,
    positions,
    refusal,
    versions,
)
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreUnderTest


class NumbersContract(ContractCase):
    """Rules 1 to 5."""

    async def test_rule_01_versions_are_dense_and_count_from_1(
        self, store: StoreUnderTest
    ) -> None:
        """A stream's version is the number of its events; the first has version 1."""
        await filled(store, "a", "b", "a", "a")
        assert await store.version("nothing") == 0
        assert await versions(store.read_stream("a")) == [1, 2, 3]
        assert await store.version("a") == 3

    async def test_rule_01_a_refused_append_uses_up_no_version(
        self, store: StoreUnderTest
    ) -> None:
        """Versions are dense: an append that wrote nothing leaves no hole."""
        await filled(store, "a")
        await refusal(
            store.append([("a", "x", b"")] * 3, expect={"a": 9}), eb.VersionConflict
        )
        await filled(store, "a")
        assert await store.version("a") == 2
        assert await versions(store.read_stream("a")) == [1, 2]

    async def test_rule_02_positions_ascend_in_commit_order(
        self, store: StoreUnderTest
    ) -> None:
        """A position is a number in global commit order, ascending."""
        answers = [await store.append([("a", "x", b"")] * count) for count in (1, 3, 2)]
        found = await positions(store.read_all())
        assert found == sorted(set(found))
        assert found[0] >= 1
        assert [(done.first_position, done.last_position) for done in answers] == [
            (found[0], found[0]),
            (found[1], found[3]),
            (found[4], found[5]),
        ]
        assert await store.head() == found[-1]

    async def test_rule_03_nothing_appears_at_or_below_what_was_shown(
        self, store: StoreUnderTest
    ) -> None:
        """Once a reader saw position p, no event becomes visible at or below p."""
        seen: dict[int, eb.RecordedEvent] = {}
        ended = anyio.Event()

        async def write(number: int) -> None:
            for round_ in range(20):
                await store.append([(f"s-{number}", "x", str(round_).encode())] * 3)

        async def look() -> None:
            while not ended.is_set():
                highest = max(seen, default=0)
                for recorded in await listed(store.read_all()):
                    if recorded.position <= highest:
                        assert seen[recorded.position] == recorded
                    seen[recorded.position] = recorded
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as lookers:
            lookers.start_soon(look)
            async with anyio.create_task_group() as writers:
                for number in range(4):
                    writers.start_soon(write, number)
            ended.set()
        final = {r.position: r for r in await listed(store.read_all())}
        assert len(final) == 240
        assert seen.items() <= final.items()

    async def test_rule_03_a_cursor_that_follows_the_head_skips_nothing(
        self, store: StoreUnderTest
    ) -> None:
        """There is no gap to wait for and no event to skip."""
        followed: list[int] = []
        ended = anyio.Event()

        async def write(number: int) -> None:
            for _ in range(25):
                await store.append([(f"s-{number}", "x", b"")] * 2)

        async def follow() -> None:
            while not ended.is_set() or followed[-1:] != [await store.head()]:
                place = followed[-1] if followed else 0
                followed.extend(await positions(store.read_all(after=place)))
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as followers:
            followers.start_soon(follow)
            async with anyio.create_task_group() as writers:
                for number in range(4):
                    writers.start_soon(write, number)
            ended.set()
        assert followed == await positions(store.read_all())
        assert len(followed) == 200

    async def test_rule_04_what_was_acknowledged_is_readable_at_once(
        self, store: StoreUnderTest
    ) -> None:
        """An answer is given only when the state that it speaks of can be seen."""
        done = await store.append([("a", "x", b"1")])
        assert await store.head() == done.last_position
        assert [recorded.data async for recorded in store.read_all()] == [b"1"]

    async def test_rule_04_after_a_conflict_a_read_sees_the_version_it_reported(
        self, store: StoreUnderTest
    ) -> None:
        """After a conflict, a read on the same store sees the reported version."""
        wrong: list[tuple[int, int]] = []

        async def write() -> None:
            for _ in range(20):
                await store.append([("a", "x", b"")])

        async def provoke() -> None:
            for _ in range(20):
                check = store.append([], expect={"a": 10_000})
                conflict = await refusal(check, eb.VersionConflict)
                reported, seen = conflict.failures[0].actual, await store.version("a")
                if seen < reported:
                    wrong.append((reported, seen))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(provoke)
        assert wrong == []

    async def test_rule_05_the_events_of_a_commit_are_adjacent_and_in_order(
        self, store: StoreUnderTest
    ) -> None:
        """The events of one commit are adjacent, in the order that was given."""

        async def write(number: int) -> None:
            for _ in range(10):
                await store.append([(f"s-{number}-{i}", "x", b"") for i in range(5)])

        async with anyio.create_task_group() as writers:
            for number in range(4):
                writers.start_soon(write, number)
        streams = [recorded.stream async for recorded in store.read_all()]
        commits = [streams[start : start + 5] for start in range(0, len(streams), 5)]
        assert len(commits) == 40
        for commit in commits:
            writer = commit[0].split("-")[1]
            assert commit == [f"s-{writer}-{i}" for i in range(5)]

    async def test_rule_05_the_events_of_a_commit_become_visible_together(
        self, store: StoreUnderTest
    ) -> None:
        """Whoever sees one event of a commit can read the others."""

        async def write() -> None:
            for _ in range(10):
                await store.append([("a", "x", b""), ("b", "x", b"")])

        async with (
            anyio.create_task_group() as tasks,
            store.subscribe() as subscription,
        ):
            tasks.start_soon(write)
            for recorded in await first(20, subscription):
                snapshot = await store.read_streams(["a", "b"])
                assert snapshot.versions["a"] == snapshot.versions["b"]
                assert snapshot.versions[recorded.stream] >= recorded.version
