"""Rules 3, 8, 10 and 19 where one place is open several times at once.

The hazard: two openings that each believe that the log is theirs alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

import eventbraid as eb
from eventbraid.testing._contract.asking import filled, first, listed, race, refusal
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreBackend

_ROUNDS = 10


class SharingContract(ContractCase):
    """What a shared backend promises to all of its openings together."""

    async def test_rule_03_all_openings_see_one_log(self, shared: StoreBackend) -> None:
        """Every reader sees the same events at the same positions."""
        async with shared.open() as one, shared.open() as two:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(filled, one, *["a"] * 20)
                tasks.start_soon(filled, two, *["b"] * 20)
            log = await listed(one.read_all())
            assert log == await listed(two.read_all())
            assert len(log) == 40

    async def test_rule_08_of_two_openings_one_wins_a_version(
        self, shared: StoreBackend
    ) -> None:
        """Expectations are judged against one state, whoever asks."""
        async with shared.open() as one, shared.open() as two:
            for round_ in range(_ROUNDS):

                async def mine(round_: int = round_) -> None:
                    await one.append([("a", "x", b"")], expect={"a": round_})

                async def yours(round_: int = round_) -> None:
                    await two.append([("a", "x", b"")], expect={"a": round_})

                assert (await race(mine, yours)).count(True) == 1
            conflict = await refusal(
                two.append([], expect={"a": 0}), eb.VersionConflict
            )
            assert conflict.failures[0].actual == _ROUNDS

    async def test_rule_10_a_key_is_known_to_every_opening(
        self, shared: StoreBackend
    ) -> None:
        """A key answers the original result across processes."""
        async with shared.open() as one, shared.open() as two:
            done = await one.append([("a", "x", b"")], idempotency_key="k")
            again = await two.append([("a", "x", b"")], idempotency_key="k")
            assert again.replayed
            assert again.last_position == done.last_position

    async def test_rule_19_a_subscription_sees_the_commits_of_others(
        self, shared: StoreBackend
    ) -> None:
        """A subscription sees commits of other openings as soon as those of its own."""
        async with shared.open() as one, shared.open() as two:
            with anyio.fail_after(10):
                async with (
                    anyio.create_task_group() as tasks,
                    one.subscribe() as subscription,
                ):
                    tasks.start_soon(filled, one, *["mine"] * 10)
                    tasks.start_soon(filled, two, *["yours"] * 10)
                    seen = await first(20, subscription)
                    # All twenty have been seen, so the log is complete by now.
                    assert seen == await listed(two.read_all())
