"""Coordinators share the shards evenly while coordinators join, leave and are killed.

The hazards: a shard that no coordinator acquires, two coordinators that give a shard to
each other without end, and a new coordinator that gets no shard.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbraid.saga.coordination._shard_plan import (
    Delegation,
    fair_share,
    plan_delegation,
    plan_leases,
)
from eventbraid.saga.definition._declaration import Declaration
from eventbraid.saga.running._shard_mapping import SHARDS, shard_of


class World:
    """The leases as every coordinator reads them, and the live coordinators."""

    def __init__(self) -> None:
        self.members: list[str] = []
        self.shards: dict[int, str | None] = dict.fromkeys(range(SHARDS))
        self.alive: set[str] = set()

    def seen(self, leases):
        return {
            lease: owner if owner in self.alive else None
            for lease, owner in leases.items()
        }

    def step(self, me: str) -> int:
        """Carry out the plan of one coordinator; return the number of changes."""
        joins = me not in self.members
        if joins:
            self.members = [m for m in self.members if m in self.alive] + [me]
        live = [member for member in self.members if member in self.alive]
        plan = plan_leases(live, self.seen(self.shards), me)
        for shard in plan.take:
            assert self.seen(self.shards)[shard] is None
            self.shards[shard] = me
        mine = [shard for shard, owner in self.shards.items() if owner == me]
        assert plan.give <= len(mine)
        for shard in mine[: plan.give]:
            self.shards[shard] = None
        return joins + len(plan.take) + plan.give

    def settle(self) -> None:
        for _ in range(10):
            if not sum([self.step(me) for me in sorted(self.alive)]):
                return
        raise AssertionError(
            f"the coordinators exchange shards without end: {self.shards}"
        )


EVENTS = st.lists(
    st.tuples(st.sampled_from(["join", "end", "step"]), st.integers(0, 19)), max_size=40
)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_all_shards_are_shared_evenly_in_the_end(events):
    world = World()
    for what, number in events:
        name = f"c{number}"
        if what == "join":
            world.alive.add(name)
        elif what == "end":
            world.alive.discard(name)
        elif name in world.alive:
            world.step(name)
    world.settle()
    joined = [member for member in world.members if member in world.alive]
    assert sorted(joined) == sorted(world.alive)
    has = [list(world.shards.values()).count(me) for me in sorted(world.alive)]
    assert sum(has) == (SHARDS if world.alive else 0)
    if world.alive and len(world.alive) <= SHARDS:
        assert max(has) - min(has) <= 1


def test_the_only_coordinator_acquires_all_shards():
    free = dict.fromkeys(range(SHARDS))
    plan = plan_leases([], free, "me")
    assert (sorted(plan.take), plan.give) == (list(range(SHARDS)), 0)


def test_a_shard_that_is_being_given_back_is_not_acquired_again():
    shards = dict.fromkeys(range(SHARDS))
    plan = plan_leases(["me"], shards, "me", leaving={3, 4})
    assert set(plan.take) == set(range(SHARDS)) - {3, 4}


@pytest.mark.parametrize("coordinators", range(1, 17))
def test_the_shares_add_up(coordinators):
    shares = [fair_share(SHARDS, coordinators, rank) for rank in range(coordinators)]
    assert sum(shares) == SHARDS
    assert max(shares) - min(shares) <= 1


def test_the_shard_of_a_saga_never_changes():
    """Else two coordinators of different versions would drive the same saga."""
    assert [shard_of(f"saga-{n}") for n in range(5)] == [15, 9, 3, 5, 6]
    counts = [0] * SHARDS
    for n in range(1600):
        counts[shard_of(f"saga-{n}")] += 1
    assert min(counts) > 50


NEEDED = Declaration("trip", 2, "0123")
ABLE, UNABLE = {NEEDED}, {Declaration("trip", 1, "0123")}


@pytest.mark.parametrize(
    ("shard_holder", "holder", "is_free", "expected"),
    [
        # The holder of the shard can run the sagas, and no lease is delegated.
        ("able", None, True, Delegation()),
        # The holder can't, so exactly one coordinator that can acquires the lease.
        ("unable", None, True, Delegation(take=True)),
        ("unable", None, False, Delegation(take=True)),
        ("unable", "able", False, Delegation()),
        ("unable", "me", False, Delegation()),
        # The shard has a holder again that can run the sagas.
        ("able", "me", False, Delegation(give=True)),
        ("me", "me", False, Delegation(give=True)),
        ("me", "able", False, Delegation()),
        ("me", None, False, Delegation(evict=True)),
        # The declarations of the shard's holder aren't known yet.
        (None, "me", False, Delegation()),
        ("new", None, True, Delegation()),
    ],
)
def test_sagas_that_a_shards_holder_cannot_run_are_leased_to_another_coordinator(
    shard_holder, holder, is_free, expected
):
    runs = {"unable": UNABLE, "me": ABLE, "able": ABLE}
    found = plan_delegation(
        2,
        NEEDED,
        runs=runs,
        shard_holder=shard_holder,
        holder=holder,
        is_free=is_free,
        me="me",
    )
    assert found == expected


def test_one_coordinator_at_a_time_plans_to_acquire_a_delegated_lease():
    """Different plans would make coordinators race for the lease."""
    runs = {"unable": UNABLE, "a": ABLE, "b": ABLE}
    takers = [
        [
            me
            for me in runs
            if plan_delegation(
                shard,
                NEEDED,
                runs=runs,
                shard_holder="unable",
                holder=None,
                is_free=True,
                me=me,
            ).take
        ]
        for shard in range(SHARDS)
    ]
    assert takers == [["a"], ["b"]] * (SHARDS // 2)
