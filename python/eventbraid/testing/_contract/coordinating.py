"""Rules 19, 24 and 30, as far as the sessions of a store coordinate.

The hazard: a lease whose holder counts as dead while it works, or as alive long after
its end, because a backend reports sessions in another way than the layers above expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import eventbraid as eb
from eventbraid.store import StreamReservations
from eventbraid.testing._contract import asking
from eventbraid.testing._contract.asking import filled
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreBackend, StoreUnderTest

_SECOND = 1.0
_LONG = 5.0
_POLL = 0.01


async def _become_live(store: StoreUnderTest, sessions: set[str]) -> None:
    """Wait until these are the live sessions of a store; fail after a while."""
    ages = store.coordination.heartbeat_ages
    with anyio.fail_after(asking.PATIENCE):
        while {*ages()} != sessions:  # noqa: ASYNC110 - other sessions change it
            await anyio.sleep(_POLL)


class CoordinatingContract(ContractCase):
    """What `Coordination` promises to leases, coordinators and executors."""

    async def test_rule_30_a_session_has_one_id(self, store: StoreUnderTest) -> None:
        """The heartbeat of a session is started once, under one id."""
        coordination = store.coordination
        session = coordination.start_heartbeat()
        assert session
        assert coordination.start_heartbeat() == session
        assert list(coordination.heartbeat_ages()) == [session]

    async def test_rule_30_a_session_without_a_heartbeat_is_not_live(
        self, store: StoreUnderTest
    ) -> None:
        """A session that never started its heartbeat can't be taken for a holder."""
        assert dict(store.coordination.heartbeat_ages()) == {}
        assert dict(await store.coordination.heartbeat_ages_async()) == {}

    async def test_rule_30_the_heartbeat_of_a_live_session_goes_on(
        self, store: StoreUnderTest
    ) -> None:
        """A session counts as alive for as long as it is open, without any calls."""
        coordination = store.coordination
        session = coordination.start_heartbeat()
        await anyio.sleep(2 * _SECOND)
        assert 0 <= coordination.heartbeat_ages()[session] < 2 * _SECOND
        assert 0 <= (await coordination.heartbeat_ages_async())[session] < 2 * _SECOND

    async def test_rule_30_the_heartbeat_of_a_loop_is_recent_within_the_loop(
        self, store: StoreUnderTest
    ) -> None:
        """Code that runs in an event loop shows that the loop runs."""
        session = store.coordination.start_heartbeat()
        heartbeat = store.coordination.start_loop_heartbeat()
        try:
            await anyio.sleep(_POLL)
            assert heartbeat.age() == 0
            assert session in store.coordination.heartbeat_ages()
        finally:
            heartbeat.stop()
        assert session in store.coordination.heartbeat_ages()

    async def test_rule_30_sessions_see_each_other_until_they_close(
        self, shared: StoreBackend
    ) -> None:
        """A session is live in the view of all others, and gone once it is closed."""
        async with shared.open() as one:
            mine = one.coordination.start_heartbeat()
            async with shared.open() as two:
                yours = two.coordination.start_heartbeat()
                assert mine != yours
                both = {mine, yours}
                await _become_live(one, both)
                await _become_live(two, both)
                assert {*await two.coordination.heartbeat_ages_async()} == both
            await _become_live(one, {mine})

    async def test_rule_19_a_wait_for_more_ends_with_the_next_commit(
        self, store: StoreUnderTest
    ) -> None:
        """A wait ends once the head is beyond the position, and not before."""
        await filled(store, "a")
        with anyio.fail_after(asking.PATIENCE):
            await store.coordination.wait_beyond(0)
        with anyio.move_on_after(0.1) as scope:
            await store.coordination.wait_beyond(1)
        assert scope.cancelled_caught
        with anyio.fail_after(asking.PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.coordination.wait_beyond, 1)
                await anyio.sleep(_POLL)
                await filled(store, "a")

    async def test_rule_19_a_wait_for_more_sees_the_commits_of_others(
        self, shared: StoreBackend
    ) -> None:
        """A wait ends with a commit of another session."""
        async with shared.open() as one, shared.open() as two:
            with anyio.fail_after(asking.PATIENCE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.coordination.wait_beyond, 0)
                    await anyio.sleep(_POLL)
                    await filled(two, "a")

    async def test_rule_24_a_reservation_delays_the_appends_of_others_alone(
        self, store: StoreUnderTest
    ) -> None:
        """While streams are reserved, the appends of others to them wait."""
        reservations = _reservations(store)
        reservation = reservations.reserve(["a"], _LONG)
        assert reservation is not None
        assert 0 < reservation.seconds <= _LONG
        assert reservations.reserve(["a"], _LONG) is None
        with anyio.fail_after(asking.PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(filled, store, "a")
                await anyio.sleep(0.1)
                with reservation.use():
                    await store.append([("a", "x", b"")], expect={"a": eb.NO_STREAM})
                await filled(store, "b")
                assert await store.version("a") == 1
                reservation.release()
        assert await store.version("a") == 2
        reservation.release()

    async def test_rule_24_a_reservation_ends_by_itself(
        self, store: StoreUnderTest
    ) -> None:
        """No append waits for longer than the reservation lasts."""
        reservation = _reservations(store).reserve(["a"], 0.1)
        assert reservation is not None
        with anyio.fail_after(asking.PATIENCE):
            await filled(store, "a")
        assert await store.version("a") == 1


def _reservations(store: StoreUnderTest) -> StreamReservations:
    """Return the reservations of a store; skip the test if it has none."""
    coordination = store.coordination
    if not isinstance(coordination, StreamReservations):
        pytest.skip("the backend has no reservations: its commands race")
    return coordination
