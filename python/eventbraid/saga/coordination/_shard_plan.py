"""Plans which leases a coordinator acquires and gives back, by pure functions.

All coordinators plan from the same list of coordinators, in the order in which they
joined. So their plans agree. If the shards can't be shared evenly, the plans also agree
on the coordinators that get one shard more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from eventbraid.saga.definition._declaration import Declaration


@dataclass(frozen=True, slots=True)
class Plan:
    """The next changes of the leases of one coordinator.

    Attributes:
        take: The shards to be acquired.
        give: The number of shards to be given back.
    """

    take: Sequence[int] = ()
    give: int = 0


def plan_leases(
    members: Sequence[str],
    shards: Mapping[int, str | None],
    me: str,
    *,
    leaving: Collection[int] = (),
) -> Plan:
    """Plan the next changes of the leases of one coordinator.

    Args:
        members: The live coordinators, in the order in which they joined.
        shards: The live holder of each shard; None if the shard has none.
        me: The coordinator.
        leaving: The shards that it gives back, or must not acquire now.
    """
    ranked = [*members] if me in members else [*members, me]
    rank = ranked.index(me)
    share = fair_share(len(shards), len(ranked), rank)
    has = sum(owner == me and shard not in leaving for shard, owner in shards.items())
    open_ = [s for s, owner in shards.items() if owner is None and s not in leaving]
    # Each coordinator begins at a different shard. Otherwise coordinators that plan at
    # the same time would want the same shards, and all but one of their appends would
    # fail.
    start = rank * len(open_) // len(ranked)
    wanted = (open_[start:] + open_[:start])[: max(share - has, 0)]
    return Plan(wanted, max(has - share, 0))


def fair_share(shards: int, coordinators: int, rank: int) -> int:
    """Return the number of shards that the coordinator with a rank should have."""
    return shards // coordinators + (rank < shards % coordinators)


@dataclass(frozen=True, slots=True)
class Delegation:
    """The action of a coordinator on the delegated lease of one part.

    Attributes:
        take: Whether it acquires the lease.
        give: Whether it gives the lease back.
        evict: Whether it releases the lease in place of a holder that has ended.
    """

    take: bool = False
    give: bool = False
    evict: bool = False


_KEPT = Delegation()


def plan_delegation(
    shard: int,
    needed: Declaration,
    *,
    runs: Mapping[str, Collection[Declaration]],
    shard_holder: str | None,
    holder: str | None,
    is_free: bool,
    me: str,
) -> Delegation:
    """Return the action of a coordinator on a delegated lease.

    The holder of the shard drives the sagas if it can run them. If it can't, another
    live coordinator that can run them acquires the delegated lease, which is for these
    sagas alone. That coordinator keeps the lease until the shard has a holder that can
    run the sagas.

    Args:
        shard: The shard.
        needed: The declaration of the sagas; the coordinator has it.
        runs: The declarations of each live coordinator, in the order in which the
            coordinators joined.
        shard_holder: The live holder of the shard, if there is one.
        holder: The live holder of the delegated lease, if there is one.
        is_free: Whether the delegated lease was released, or never held.
        me: The coordinator.
    """
    if shard_holder is None:
        return _KEPT
    # A holder that isn't in the list yet is about to be added. Until then it counts as
    # able to run the sagas, so that no lease is delegated too early.
    if needed in runs.get(shard_holder, {needed}):
        is_left_over = shard_holder == me and holder is None and not is_free
        return Delegation(give=holder == me, evict=is_left_over)
    able = [owner for owner, one in runs.items() if needed in one]
    # The number of the shard selects the coordinator, so that the delegated leases are
    # spread evenly.
    is_mine = able[shard % len(able)] == me if able else False
    return Delegation(take=holder is None and is_mine)
