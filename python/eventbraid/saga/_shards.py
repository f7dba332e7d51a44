"""Which coordinator may drive which saga: by shards, each of which is a role.

A saga's shard follows from its id alone. Each record of a saga that a coordinator
drives demands the shard's fence, so from the moment at which somebody else has taken
the shard, the store refuses the late coordinator.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from eventbraid.errors import VersionConflict
from eventbraid.role._event import PREFIX
from eventbraid.role._owner import leave, owner_of
from eventbraid.role._standing import Standing, Witness, releasing, taking
from eventbraid.saga._balance import Plan, planned
from eventbraid.store import EXISTS
from eventbraid.store._heartbeat import LoopHeartbeat
from eventbraid.store._presence import appear, sightings_async

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eventbraid.store import AsyncEventStore, RecordedEvent

SHARDS = 16
"""For good: another number would give the sagas of a store to other shards."""

_SHARD = "saga-shard-"
_SEAT = "saga-coordinator-"
_SEATS = SHARDS  # More coordinators than shards have nothing to do but to stand by.
_NOBODY: Mapping[str, float] = MappingProxyType({})


def shard_of(saga_id: str) -> int:
    """Give the shard of a saga."""
    return zlib.crc32(saga_id.encode()) % SHARDS


def role_of(shard: int) -> str:
    """Give the role of a shard."""
    return f"{_SHARD}{shard:02}"


def shard_in(stream: str) -> int | None:
    """Give the shard whose role has a stream; None if the stream is no shard's."""
    number = stream.removeprefix(PREFIX + _SHARD)
    return None if number == stream else int(number)


class Tenure:
    """A shard that this coordinator has, from its taking to its loss.

    Attributes:
        shard: The shard.
        token: The fencing token.
        fence: What each record of the shard's sagas demands.
        leaving: Whether no saga of it makes another move here.
        told: Its sagas that the log says are parked here, each with its version.
    """

    __slots__ = ("_working", "fence", "leaving", "shard", "token", "told")

    def __init__(self, shard: int, token: int) -> None:
        """Begin with no saga at work."""
        self.shard = shard
        self.token = token
        self.fence: Mapping[str, int] = {PREFIX + role_of(shard): token}
        self.leaving = False
        self.told: dict[str, int] = {}
        self._working = 0

    @property
    def role(self) -> str:
        """The shard's role."""
        return role_of(self.shard)

    @property
    def working(self) -> int:
        """How many of its sagas are in the middle of something."""
        return self._working

    def begin_work(self) -> None:
        """Count a saga that is put to work."""
        self._working += 1

    def end_work(self) -> None:
        """Count a saga whose task has ended."""
        self._working -= 1


class Shards:
    """The shards of a store, and those among them that one coordinator has.

    Args:
        store: The store.
        stale_after: From how many seconds of silence on one counts as stopped.
    """

    __slots__ = (
        "_ending",
        "_opening",
        "_owner",
        "_seat",
        "_stale_after",
        "_standings",
        "_store",
        "_unnoted",
        "mine",
    )

    def __init__(self, store: AsyncEventStore, stale_after: float) -> None:
        """Know of nothing yet."""
        self._store = store
        self._stale_after = stale_after
        self._opening = ""
        self._owner = ""
        self._seat: tuple[str, int] | None = None
        self._standings: dict[str, Standing] = {}
        self._ending: dict[int, Tenure] = {}
        # Roles that were asked for, and whose records were not read yet.
        self._unnoted: set[str] = set()
        self.mine: dict[int, Tenure] = {}

    async def open(self) -> None:
        """Look where all roles stand, and show that this coordinator is alive."""
        self._opening = appear(self._store)
        self._owner = owner_of(self._opening, LoopHeartbeat(self._store))
        for role in (*map(_seat, range(_SEATS)), *map(role_of, range(SHARDS))):
            self._standings[role] = await self._standing(role)

    @property
    def has_company(self) -> bool:
        """Whether somebody else may have a shard or a seat, alive or not."""
        return any(
            standing.taken is not None and standing.taken.owner != self._owner
            for standing in self._standings.values()
        )

    def tenure_of(self, saga_id: str) -> Tenure | None:
        """Give the tenure under which a saga is to be driven here, if it is."""
        tenure = self.mine.get(shard_of(saga_id))
        return None if tenure is None or tenure.leaving else tenure

    def note(self, recorded: RecordedEvent) -> Tenure | None:
        """Take in a record of a role's stream.

        Returns:
            The tenure that has begun by it, or has ended.
        """
        role = recorded.stream.removeprefix(PREFIX)
        known = self._standings.get(role)
        if known is None or recorded.version <= known.version:
            return None
        self._standings[role] = standing = Standing.of(recorded)
        self._unnoted.discard(role)
        is_ours = standing.is_of(self._owner)
        if role.startswith(_SEAT):
            if is_ours:
                self._seat = role, standing.version
            elif self._seat is not None and self._seat[0] == role:
                self._seat = None
            return None
        shard = int(role.removeprefix(_SHARD))
        if is_ours:
            self.mine[shard] = begun = Tenure(shard, standing.version)
            return begun
        ended = self.mine.pop(shard, None)
        if ended is not None:
            ended.leaving = True
            self._ending[shard] = ended
        return ended

    async def plan(self) -> Plan:
        """Look who is alive, and say what is to be taken and given back."""
        seen = await sightings_async(self._store) if self.has_company else _NOBODY
        witness = Witness(self._opening, seen, self._stale_after)
        self._ending = {s: t for s, t in self._ending.items() if t.working}
        leaving = {shard for shard, tenure in self.mine.items() if tenure.leaving}
        return planned(
            {seat: self._alive(_seat(seat), witness) for seat in range(_SEATS)},
            {shard: self._alive(role_of(shard), witness) for shard in range(SHARDS)},
            self._owner,
            leaving=leaving.union(self._ending),
        )

    def give(self, number: int) -> list[Tenure]:
        """Have no more moves made in so many shards, those with least work first."""
        kept = [tenure for tenure in self.mine.values() if not tenure.leaving]
        given = sorted(kept, key=lambda tenure: tenure.working)[:number]
        for tenure in given:
            tenure.leaving = True
        return given

    async def take(self, plan: Plan) -> None:
        """Take what a plan says, but for what somebody else takes before.

        The tenures begin when the records of it are noted.
        """
        wanted = [role_of(shard) for shard in plan.take]
        if plan.seat is not None:
            wanted.append(_seat(plan.seat))
        versions = {role: self._standings[role].version for role in wanted}
        self._unnoted.update(versions)
        await self._append_to(versions, taking)

    async def release_idle(self) -> None:
        """Let those shards go in which no saga makes a move any more.

        The tenures end when the records of it are noted.
        """
        idle = [t for t in self.mine.values() if t.leaving and not t.working]
        await self._append_to({t.role: t.token for t in idle}, releasing)

    async def close(self) -> None:
        """Let everything go, so that others needn't wait."""
        try:
            held = {tenure.role: tenure.token for tenure in self.mine.values()}
            if self._seat is not None:
                held[self._seat[0]] = self._seat[1]
            if self._unnoted:
                held = await self._held()
            await self._append_to(held, releasing)
        finally:
            self.mine.clear()
            leave(self._owner)

    async def _append_to(
        self,
        roles: dict[str, int],
        event: Callable[[str, str], tuple[str, str, bytes]],
    ) -> None:
        """Append to those roles whose version is still the one that is known."""
        while roles:
            events = [event(role, self._owner) for role in roles]
            expect = {PREFIX + role: version for role, version in roles.items()}
            try:
                await self._store.append(events, expect=expect)
            except VersionConflict as conflict:
                for failure in conflict.failures:
                    role = failure.stream.removeprefix(PREFIX)
                    self._unnoted.discard(role)
                    del roles[role]
            else:
                return

    async def _held(self) -> dict[str, int]:
        """Ask the log what this coordinator has, once what is under way is through."""
        with suppress(VersionConflict):
            await self._store.append([], expect={PREFIX + _seat(0): EXISTS})
        found = {role: await self._standing(role) for role in self._standings}
        return {r: s.version for r, s in found.items() if s.is_of(self._owner)}

    def _alive(self, role: str, witness: Witness) -> str | None:
        standing = self._standings[role]
        taken = standing.taken
        return None if taken is None or standing.is_free(witness) else taken.owner

    async def _standing(self, role: str) -> Standing:
        last = self._store.read_stream(PREFIX + role, backward=True, limit=1)
        found = [recorded async for recorded in last]
        return Standing.of(found[0] if found else None)


def _seat(number: int) -> str:
    return f"{_SEAT}{number:02}"
