"""Rules 7, 8, 10 and 14 for categories: their streams, and expectations on them.

The hazard: a command decides on all streams of a category, and commits although another
writer has created a stream of the category meanwhile (a phantom).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

import eventbraid as eb
from eventbraid.testing._contract.asking import (
    StartingLine,
    filled,
    is_untouched,
    race,
    refusal,
)
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreBackend, StoreUnderTest

_WRITERS = 6
_ROUNDS = 6


class CategoriesContract(ContractCase):
    """What a backend promises about the streams of a category."""

    async def test_rule_14_the_streams_of_a_category_are_in_the_order_of_creation(
        self, store: StoreUnderTest
    ) -> None:
        """A category lists its streams in the order of their first events."""
        await store.append([("b-2", "x", b""), ("a-1", "x", b""), ("b-1", "x", b"")])
        await filled(store, "b-1", "b", "ab-1", "b-0-1", "b-2")
        found = await store.category_streams("b")
        assert list(found.streams) == ["b-2", "b-1", "b", "b-0-1"]
        assert (found.version, found.position) == (4, 8)
        assert list((await store.category_streams("a")).streams) == ["a-1"]
        nothing = await store.category_streams("c")
        assert (nothing.version, list(nothing.streams)) == (0, [])

    async def test_rule_14_a_category_is_read_as_of_a_position_and_in_parts(
        self, store: StoreUnderTest
    ) -> None:
        """The position may be given, and streams that the caller has are left out."""
        await filled(store, "a-1", "a-2", "a-1", "a-3", "a-4")
        found = await store.category_streams("a", at=3)
        assert (found.position, found.version) == (3, 2)
        assert list(found.streams) == ["a-1", "a-2"]
        part = await store.category_streams("a", after=1, limit=2)
        assert (part.version, list(part.streams)) == (4, ["a-2", "a-3"])
        beyond = await store.category_streams("a", at=99, after=9)
        assert (beyond.position, beyond.version) == (5, 4)
        assert list(beyond.streams) == []
        assert list((await store.category_streams("a", limit=0)).streams) == []

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
    async def test_rule_07_every_kind_of_expectation_on_a_category(
        self,
        store: StoreUnderTest,
        expected: eb.store.Expectation,
        when_empty: bool,  # noqa: FBT001 - a column of the table above
        when_two: bool,  # noqa: FBT001
    ) -> None:
        """The version of a category is the number of its streams."""
        await filled(store, "two-1", "two-2", "two-1")
        for category, passes in (("empty", when_empty), ("two", when_two)):
            check = store.append([], expect_categories={category: expected})
            if passes:
                await check
            else:
                conflict = await refusal(check, eb.VersionConflict)
                assert conflict.categories[0].expected == expected

    async def test_rule_07_an_expectation_on_a_category_is_of_before_the_append(
        self, store: StoreUnderTest
    ) -> None:
        """The append's own streams don't count; events of known streams never do."""
        events = [("a-1", "x", b""), ("a-2", "x", b""), ("a-1", "x", b"")]
        late = store.append(events, expect_categories={"a": 2})
        await refusal(late, eb.VersionConflict)
        await store.append(events, expect_categories={"a": 0})
        await store.append([("a-1", "x", b"")], expect_categories={"a": 2})
        await store.append([], expect_categories={"a": 2})

    async def test_rule_08_a_conflict_lists_every_failing_category(
        self, store: StoreUnderTest
    ) -> None:
        """Streams and categories are judged together, and all that fail are listed."""
        await filled(store, "a-1", "b-1", "b-2")
        categories: dict[str, eb.store.Expectation]
        categories = {"a": 1, "b": 1, "c": eb.EXISTS, "d": eb.NO_STREAM}
        attempt = store.append(
            [("d-1", "x", b"")], expect={"a-1": 5}, expect_categories=categories
        )
        conflict = await refusal(attempt, eb.VersionConflict)
        assert set(conflict.categories) == {
            eb.errors.ConflictedCategory("b", expected=1, actual=2),
            eb.errors.ConflictedCategory("c", expected=eb.EXISTS, actual=0),
        }
        assert conflict.failures == (eb.errors.ConflictedStream("a-1", 5, 1),)
        assert await store.version("d-1") == 0

    async def test_rule_08_exactly_one_of_many_writers_creates_the_next_stream(
        self, store: StoreUnderTest
    ) -> None:
        """Writers that all expect one version of a category: one of them creates."""
        for round_ in range(_ROUNDS):
            line = StartingLine(_WRITERS)

            async def attempt(number: int, line: StartingLine = line) -> None:
                version = (await store.category_streams("a")).version
                await line.wait()
                stream = f"a-{version}-{number}"
                await store.append(
                    [(stream, "x", b"")], expect_categories={"a": version}
                )

            attempts = [partial(attempt, number) for number in range(_WRITERS)]
            assert (await race(*attempts)).count(True) == 1
            assert (await store.category_streams("a")).version == round_ + 1

    async def test_rule_10_expectations_on_categories_belong_to_the_content_of_a_key(
        self, store: StoreUnderTest
    ) -> None:
        """The same key with another expectation on a category is a mismatch."""
        for replayed in (False, True):
            done = await store.append(
                [("a-1", "x", b"")], expect_categories={"a": 0}, idempotency_key="k"
            )
            assert done.replayed is replayed
        for other in ({}, {"a": 1}, {"b": 0}):
            again = store.append(
                [("a-1", "x", b"")], expect_categories=other, idempotency_key="k"
            )
            await refusal(again, eb.errors.IdempotencyMismatch)

    @pytest.mark.parametrize("category", ["", "a-", "a-1", "a\n", "x" * 256])
    async def test_rule_12_categories_that_can_not_be_are_refused(
        self, store: StoreUnderTest, category: str
    ) -> None:
        """A category is 1 to 255 bytes, without a dash and control characters."""
        attempt = store.append(
            [("a-1", "x", b"")], expect_categories={category: eb.ANY}
        )
        await refusal(attempt, eb.errors.InvalidArgument)
        await refusal(store.category_streams(category), eb.errors.InvalidArgument)
        assert await is_untouched(store)

    async def test_rule_01_categories_go_on_after_a_restart(
        self, durable: StoreBackend
    ) -> None:
        """The version of a category, and the order of its streams, survive."""
        names: list[str] = []
        for number in range(3):
            names.append(f"a-{9 - number}")
            async with durable.open() as store:
                await store.append(
                    [(names[-1], "x", b"")], expect_categories={"a": number}
                )
                assert list((await store.category_streams("a")).streams) == names

    async def test_rule_08_of_two_sessions_one_creates_the_next_stream(
        self, shared: StoreBackend
    ) -> None:
        """Expectations on categories are judged against one state in all sessions."""
        async with shared.open() as one, shared.open() as two:
            for round_ in range(_ROUNDS):

                async def attempt(store: StoreUnderTest, version: int = round_) -> None:
                    stream = f"a-{version}-{'one' if store is one else 'two'}"
                    await store.append(
                        [(stream, "x", b"")], expect_categories={"a": version}
                    )

                created = await race(partial(attempt, one), partial(attempt, two))
                assert created.count(True) == 1
            found = await one.category_streams("a")
            assert found == await two.category_streams("a")
            assert found.version == _ROUNDS
