"""Which shards a coordinator takes and gives back: a function from values to values.

Each coordinator has a seat, by which the others know of it. The order of the seats
says who gets one shard more where they don't divide evenly, so all plan alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Plan:
    """What a coordinator does next.

    Attributes:
        seat: The seat to be taken; None if it has one, or none is free.
        take: The shards to be taken.
        give: How many shards are to be given back.
    """

    seat: int | None = None
    take: Sequence[int] = ()
    give: int = 0


def planned(
    seats: Mapping[int, str | None],
    shards: Mapping[int, str | None],
    me: str,
    *,
    leaving: Collection[int] = (),
) -> Plan:
    """Say what a coordinator does next.

    Args:
        seats: Who of those alive has each seat; None if nobody has.
        shards: Who of those alive has each shard; None if nobody has.
        me: The coordinator.
        leaving: Shards that it has, or had, and mustn't take now.
    """
    free = [seat for seat, owner in seats.items() if owner is None]
    has_seat = me in seats.values()
    if not has_seat and not free:
        mine = [shard for shard, owner in shards.items() if owner == me]
        return Plan(give=len(set(mine).difference(leaving)))
    seat = None if has_seat else min(free)
    ranked = sorted(
        (number, owner) for number, owner in seats.items() if owner is not None
    )
    if seat is not None:
        ranked = sorted([*ranked, (seat, me)])
    rank = [owner for _, owner in ranked].index(me)
    share = fair_share(len(shards), len(ranked), rank)
    has = sum(owner == me and shard not in leaving for shard, owner in shards.items())
    open_ = [s for s, owner in shards.items() if owner is None and s not in leaving]
    # Those who look at the same time shouldn't all want the same ones.
    start = rank * len(open_) // len(ranked)
    wanted = (open_[start:] + open_[:start])[: max(share - has, 0)]
    return Plan(seat, wanted, max(has - share, 0))


def fair_share(shards: int, coordinators: int, rank: int) -> int:
    """Give how many shards the coordinator of a rank is to have."""
    return shards // coordinators + (rank < shards % coordinators)
