"""Which leases a coordinator takes and gives back: functions from values to values.

The order in which coordinators have joined determines which of them gets one shard more
where the shards don't divide evenly, so all plan alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from eventbraid.saga.definition._declaration import Declaration


@dataclass(frozen=True, slots=True)
class Plan:
    """What a coordinator does next.

    Attributes:
        take: The shards to be taken.
        give: How many shards are to be given back.
    """

    take: Sequence[int] = ()
    give: int = 0


def planned(
    members: Sequence[str],
    shards: Mapping[int, str | None],
    me: str,
    *,
    leaving: Collection[int] = (),
) -> Plan:
    """Return what a coordinator does next.

    Args:
        members: The live coordinators in the order in which they joined.
        shards: The live holder of each shard; None if there is none.
        me: The coordinator.
        leaving: Shards that it has, or had, and mustn't take now.
    """
    ranked = [*members] if me in members else [*members, me]
    rank = ranked.index(me)
    share = fair_share(len(shards), len(ranked), rank)
    has = sum(owner == me and shard not in leaving for shard, owner in shards.items())
    open_ = [s for s, owner in shards.items() if owner is None and s not in leaving]
    # Coordinators that plan at the same time shouldn't all want the same ones.
    start = rank * len(open_) // len(ranked)
    wanted = (open_[start:] + open_[:start])[: max(share - has, 0)]
    return Plan(wanted, max(has - share, 0))


def fair_share(shards: int, coordinators: int, rank: int) -> int:
    """Return how many shards the coordinator of a rank is to have."""
    return shards // coordinators + (rank < shards % coordinators)


@dataclass(frozen=True, slots=True)
class Delegation:
    """What becomes of the sagas of one declaration in one shard.

    Attributes:
        take: Whether the coordinator takes their lease.
        give: Whether it gives their lease back.
        evict: Whether it releases the lease of a holder that has ended.
    """

    take: bool = False
    give: bool = False
    evict: bool = False


_KEPT = Delegation()


def delegated(
    shard: int,
    needed: Declaration,
    *,
    runs: Mapping[str, Collection[Declaration]],
    shard_holder: str | None,
    holder: str | None,
    is_free: bool,
    me: str,
) -> Delegation:
    """Return what a coordinator does about sagas of a declaration that it can run.

    The holder of the shard drives those sagas, unless it can't run them. Then another
    live coordinator that can takes a lease for just these, until the shard has a
    holder that can run them.

    Args:
        shard: The shard.
        needed: The declaration.
        runs: What each live coordinator can run, in the order in which they joined.
        shard_holder: The live holder of the shard, if there is one.
        holder: The live holder of the lease for just these sagas, if there is one.
        is_free: Whether that lease was released, or never taken.
        me: The coordinator.
    """
    if shard_holder is None:
        return _KEPT
    # What isn't known of a holder is known soon; until then nothing is taken from it.
    if needed in runs.get(shard_holder, {needed}):
        is_left_over = shard_holder == me and holder is None and not is_free
        return Delegation(give=holder == me, evict=is_left_over)
    able = [owner for owner, one in runs.items() if needed in one]
    # Spread by the shard, so that one coordinator doesn't get all of them.
    is_mine = able[shard % len(able)] == me if able else False
    return Delegation(take=holder is None and is_mine)
