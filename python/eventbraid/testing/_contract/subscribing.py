"""Rules 18 and 20: following the log.

The hazard: an event that falls between catching up and waiting, and a wait that
nothing ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

import eventbraid as eb
from eventbraid.testing._contract import asking
from eventbraid.testing._contract.asking import filled, first, listed, positions
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreBackend, StoreUnderTest

# Seconds after which a subscription that has caught up surely waits.
_UNTIL_IT_WAITS = 0.05


class SubscribingContract(ContractCase):
    """Rules 18 and 20."""

    async def test_rule_18_old_and_new_events_come_once_and_in_order(
        self, store: StoreUnderTest
    ) -> None:
        """Catch-up and live are one mechanism: every event once, in order."""
        await filled(store, "a", "b")
        async with (
            store.subscribe() as subscription,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(filled, store, *["c"] * 100)
            seen = await first(102, subscription)
            assert seen == await listed(store.read_all())

    async def test_rule_18_what_is_appended_during_a_wait_comes(
        self, store: StoreUnderTest
    ) -> None:
        """A subscription that has caught up and waits skips none of the next events."""
        async with (
            store.subscribe() as subscription,
            anyio.create_task_group() as tasks,
        ):

            async def append_late() -> None:
                await anyio.sleep(_UNTIL_IT_WAITS)
                await filled(store, "a")

            for version in range(1, 6):
                tasks.start_soon(append_late)
                [recorded] = await first(1, subscription)
                assert recorded.version == version

    async def test_rule_18_a_subscription_to_one_stream_gets_no_other(
        self, store: StoreUnderTest
    ) -> None:
        """A subscription to one stream gets its events alone, old and new ones."""
        await filled(store, "a-10", "a-1", "a-10")
        async with (
            store.subscribe(stream="a-1") as subscription,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(filled, store, "a-11", "a-1", "a", "a-10", "a-1")
            seen = await first(3, subscription)
            assert seen == await listed(store.read_stream("a-1"))

    async def test_rule_18_a_slow_subscriber_loses_nothing(
        self, store: StoreUnderTest
    ) -> None:
        """However slow a subscriber is, it never loses its place."""
        async with store.subscribe() as subscription:
            await filled(store, "a")
            await first(1, subscription)
            for _ in range(4):
                await store.append([("a", "x", b"")] * 1000)
            seen = await first(4000, subscription)
        assert [recorded.version for recorded in seen] == list(range(2, 4002))

    async def test_rule_18_every_subscriber_gets_every_event(
        self, store: StoreUnderTest
    ) -> None:
        """Subscribers don't share events: each sees all that match, in order."""
        seen: dict[int, list[eb.RecordedEvent]] = {}

        async def follow(number: int) -> None:
            async with store.subscribe() as subscription:
                seen[number] = await first(60, subscription)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(follow, number)
            for number in range(3):
                tasks.start_soon(filled, store, *[f"s-{number}"] * 20)
        log = await listed(store.read_all())
        assert seen == dict.fromkeys(range(4), log)

    async def test_rule_18_a_subscription_begins_behind_a_position(
        self, store: StoreUnderTest
    ) -> None:
        """A subscription begins behind the position that it is given."""
        await filled(store, "a", "b", "c")
        place = await positions(store.read_all())
        async with store.subscribe(after=place[0]) as subscription:
            seen = await first(2, subscription)
        assert [recorded.stream for recorded in seen] == ["b", "c"]

    async def test_rule_18_after_the_head_only_new_events_come(
        self, store: StoreUnderTest
    ) -> None:
        """`after=` the head means: only new events."""
        await filled(store, "a", "b")
        async with store.subscribe(after=await store.head()) as subscription:
            await filled(store, "c")
            [recorded] = await first(1, subscription)
        assert recorded.stream == "c"

    async def test_rule_18_every_filter_of_the_log_filters_a_subscription(
        self, store: StoreUnderTest
    ) -> None:
        """A subscriber sees every matching event, and no other."""
        filters: list[dict[str, Any]]
        filters = [{"prefix": "b-"}, {"category": "b"}, {"types": ["y"]}]
        for wanted in filters:
            after = await store.head()
            async with store.subscribe(after=after, **wanted) as subscription:
                await store.append(
                    [("a-1", "x", b""), ("b-1", "y", b"1"), ("bb-1", "x", b"")]
                )
                await store.append([("a-1", "x", b""), ("b-2", "y", b"2")])
                seen = await first(2, subscription)
            assert [recorded.data for recorded in seen] == [b"1", b"2"]

    async def test_rule_18_a_filter_moves_the_place_in_the_log_too(
        self, store: StoreUnderTest
    ) -> None:
        """Events that don't match are passed over, not looked at again and again."""
        await store.append([("noise", "x", b"")] * 500)
        async with (
            store.subscribe(category="order") as subscription,
            anyio.create_task_group() as tasks,
        ):
            streams = [*["noise"] * 50, "order-1", "noise"]
            tasks.start_soon(filled, store, *streams)
            [recorded] = await first(1, subscription)
            assert recorded.stream == "order-1"
            assert subscription.position >= recorded.position

    async def test_rule_18_the_place_is_where_a_later_subscription_goes_on(
        self, store: StoreUnderTest
    ) -> None:
        """The place of a subscription, kept safe, is the `after=` of the next one."""
        await filled(store, *["a"] * 10)
        async with store.subscribe() as subscription:
            taken = await first(4, subscription)
            place = subscription.position
        assert place == taken[-1].position
        async with store.subscribe(after=place) as subscription:
            rest = await first(6, subscription)
            assert subscription.position == await store.head()
        assert taken + rest == await listed(store.read_all())

    async def test_rule_20_closing_ends_a_blocked_wait_at_once(
        self, store: StoreUnderTest
    ) -> None:
        """Closing a subscription ends a blocked wait at once."""
        subscription = store.subscribe()
        with anyio.fail_after(asking.PATIENCE):
            async with anyio.create_task_group() as tasks:
                arrived = anyio.Event()

                async def follow() -> None:
                    async for _ in subscription:
                        arrived.set()

                tasks.start_soon(follow)
                await filled(store, "a")
                await arrived.wait()
                subscription.close()
        assert await listed(subscription) == []

    async def test_rule_20_cancelling_its_task_ends_a_blocked_wait(
        self, store: StoreUnderTest
    ) -> None:
        """Cancelling the task that waits ends the wait, and loses no event."""
        async with store.subscribe() as subscription:
            with anyio.fail_after(asking.PATIENCE):
                async with anyio.create_task_group() as tasks:

                    async def follow() -> None:
                        await first(1, subscription)

                    tasks.start_soon(follow)
                    await anyio.wait_all_tasks_blocked()
                    tasks.cancel_scope.cancel()
            await filled(store, "a")
            place = subscription.position
        async with store.subscribe(after=place) as again:
            assert [r.stream for r in await first(1, again)] == ["a"]

    async def test_rule_20_closing_the_store_ends_a_blocked_wait(
        self, backend: StoreBackend
    ) -> None:
        """Closing the store ends a blocked wait, with `StoreClosed`."""
        errors: list[eb.errors.StoreClosed] = []
        async with backend.open() as store:
            subscription = store.subscribe()

            async def follow() -> None:
                try:
                    await listed(subscription)
                except eb.errors.StoreClosed as error:
                    errors.append(error)

            with anyio.fail_after(asking.PATIENCE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(follow)
                    await anyio.sleep(0.02)
                    await store.close()
        assert len(errors) == 1
