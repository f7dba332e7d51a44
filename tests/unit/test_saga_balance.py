"""Coordinators share the shards fairly, whoever comes, goes and dies.

The hazards: a shard that nobody takes, two who give one to each other without end, and
a newcomer who gets nothing.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbraid.saga._balance import fair_share, planned
from eventbraid.saga._shards import SHARDS, shard_of


class World:
    """The roles as all see them, and who is alive."""

    def __init__(self) -> None:
        self.seats: dict[int, str | None] = dict.fromkeys(range(SHARDS))
        self.shards: dict[int, str | None] = dict.fromkeys(range(SHARDS))
        self.alive: set[str] = set()

    def seen(self, roles):
        return {
            role: owner if owner in self.alive else None
            for role, owner in roles.items()
        }

    def step(self, me: str) -> int:
        """One coordinator plans and does it; gives how much it changed."""
        plan = planned(self.seen(self.seats), self.seen(self.shards), me)
        if plan.seat is not None:
            assert self.seen(self.seats)[plan.seat] is None
            self.seats[plan.seat] = me
        for shard in plan.take:
            assert self.seen(self.shards)[shard] is None
            self.shards[shard] = me
        mine = [shard for shard, owner in self.shards.items() if owner == me]
        assert plan.give <= len(mine)
        for shard in mine[: plan.give]:
            self.shards[shard] = None
        return (plan.seat is not None) + len(plan.take) + plan.give

    def settle(self) -> None:
        for _ in range(10):
            if not sum([self.step(me) for me in sorted(self.alive)]):
                return
        raise AssertionError(f"they give and take without end: {self.shards}")


EVENTS = st.lists(
    st.tuples(st.sampled_from(["come", "die", "step"]), st.integers(0, 19)), max_size=40
)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_all_shards_are_shared_evenly_in_the_end(events):
    world = World()
    for what, who in events:
        name = f"c{who}"
        if what == "come":
            world.alive.add(name)
        elif what == "die":
            world.alive.discard(name)
        elif name in world.alive:
            world.step(name)
    world.settle()
    has = [list(world.shards.values()).count(me) for me in sorted(world.alive)]
    seated = [me for me in world.alive if me in world.seats.values()]
    assert sum(has) == (SHARDS if world.alive else 0)
    assert len(seated) == min(len(world.alive), SHARDS)
    if world.alive and len(world.alive) <= SHARDS:
        assert max(has) - min(has) <= 1


def test_who_is_alone_takes_all():
    nobody = dict.fromkeys(range(SHARDS))
    plan = planned(nobody, nobody, "me")
    assert (plan.seat, sorted(plan.take), plan.give) == (0, list(range(SHARDS)), 0)


def test_what_is_being_given_back_is_not_taken_again():
    shards = dict.fromkeys(range(SHARDS))
    plan = planned({0: "me"}, shards, "me", leaving={3, 4})
    assert set(plan.take) == set(range(SHARDS)) - {3, 4}


@pytest.mark.parametrize("coordinators", range(1, 17))
def test_the_shares_add_up(coordinators):
    shares = [fair_share(SHARDS, coordinators, rank) for rank in range(coordinators)]
    assert sum(shares) == SHARDS
    assert max(shares) - min(shares) <= 1


def test_sagas_are_spread_over_the_shards_for_good():
    """Another place for a saga would give it to two coordinators of two versions."""
    assert [shard_of(f"saga-{n}") for n in range(5)] == [15, 9, 3, 5, 6]
    counts = [0] * SHARDS
    for n in range(1600):
        counts[shard_of(f"saga-{n}")] += 1
    assert min(counts) > 50
