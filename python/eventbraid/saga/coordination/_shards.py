"""Which coordinator may drive which saga: by shards, each of which is a lease.

A saga's shard follows from its id alone. Each record of a saga that a coordinator
drives demands the shard's fence, so from the moment at which another coordinator has
taken the shard, the store refuses the late one.

Not every coordinator can run every saga. Where the holder of a shard lacks a
declaration, a coordinator that has it takes a lease for just the sagas of that
declaration in that shard. Such a lease is taken only at a version of the shard's own
lease at which the holder can't run them. So once a coordinator that can run them holds
the shard, the log says whether they are still leased to another one.
"""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from eventbraid.errors import VersionConflict
from eventbraid.lease._events import PREFIX
from eventbraid.lease._holder import register_holder, unregister_holder
from eventbraid.lease._state import LeaseState, Liveness, acquired, released
from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
from eventbraid.saga.coordination._shard_balance import Plan, delegated, planned
from eventbraid.saga.running._shard_lease import (
    SHARDS,
    ShardLease,
    lease_of,
    shard_of,
)
from eventbraid.store import EXISTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from eventbraid.saga.coordination._live_coordinators import Capabilities
    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.store import AsyncStore, NewEvent, RecordedEvent

_NOBODY: Mapping[str, float] = MappingProxyType({})
_FREE = LeaseState()


Part = tuple[int, "Declaration | None"]
"""A shard, or the sagas of one declaration in it."""


class Change(NamedTuple):
    """What a record of a lease changes for this coordinator.

    Attributes:
        ended: The lease that has ended by it.
        gained: What this coordinator is to drive from now on.
    """

    ended: ShardLease | None = None
    gained: Part | None = None


_NO_CHANGE = Change()


class Shards:
    """The shards of a store, and those among them that one coordinator has.

    Args:
        store: The store.
        stale_after: From which age of its heartbeat on a session counts as stopped.
        runs: The declarations that the coordinator can run. One that can run none
            takes no leases and isn't announced to the others.

    Attributes:
        mine: The shards that it has.
        lent: The sagas of single declarations that it has in the shards of others.
        able: What each live coordinator can run, as of the last look.
    """

    __slots__ = (
        "_ending",
        "_leased",
        "_leases",
        "_liveness",
        "_members",
        "_owner",
        "_parts",
        "_session",
        "_stale_after",
        "_states",
        "_store",
        "_unnoted",
        "able",
        "lent",
        "mine",
        "runs",
    )

    def __init__(
        self, store: AsyncStore, stale_after: float, runs: Capabilities
    ) -> None:
        """Begin without a shard."""
        self._store = store
        self._stale_after = stale_after
        self._session = ""
        self._owner = ""
        self._liveness = Liveness("", _NOBODY, stale_after)
        self._members = LiveCoordinators(store)
        # The leases that this coordinator may take, and those that were ever taken.
        self._parts: dict[str, Part] = {
            lease_of(shard, needed): (shard, needed)
            for needed in (None, *runs)
            for shard in range(SHARDS)
        }
        self._leases = {part: lease for lease, part in self._parts.items()}
        # Sagas of single declarations that are leased, to whichever coordinator.
        self._leased: set[Part] = set()
        self._states: dict[str, LeaseState] = {}
        self._ending: dict[int, ShardLease] = {}
        # Leases that were asked for, and whose records were not read yet.
        self._unnoted: set[str] = set()
        self.runs = runs
        self.able: Mapping[str, Collection[Declaration]] = {}
        self.mine: dict[int, ShardLease] = {}
        self.lent: dict[Part, ShardLease] = {}

    async def open(self) -> None:
        """Read the state of all leases, and announce this coordinator."""
        for lease, part in self._parts.items():
            if await self._store.version(PREFIX + lease):
                self._put_state(part, await self._state(lease))
        await self._members.read()
        if not self.runs:
            return
        coordination = self._store.coordination
        self._session = coordination.start_heartbeat()
        self._owner = register_holder(
            self._session, coordination.start_loop_heartbeat()
        )
        await self._look()
        await self._join()

    @property
    def has_company(self) -> bool:
        """Whether another coordinator may be a member or hold a lease, alive or not."""
        if any(owner != self._owner for owner in self._members.runs):
            return True
        return any(
            state.held is not None and state.held.holder != self._owner
            for state in self._states.values()
        )

    def lease_for(
        self, saga_id: str, needed: Declaration | None = None
    ) -> ShardLease | None:
        """Return the lease under which a saga is driven here; None if it isn't.

        Args:
            saga_id: The saga's id.
            needed: The declaration that it needs, if that is known.
        """
        part = shard_of(saga_id), needed
        # The log decides whether it is leased, not the heartbeat of the holder.
        is_leased = part in self._leased
        shard_lease = self.lent.get(part) if is_leased else self.mine.get(part[0])
        return None if shard_lease is None or shard_lease.is_leaving else shard_lease

    def holds(self, shard_lease: ShardLease) -> bool:
        """Return whether a lease is still held."""
        if shard_lease.needed is None:
            return self.mine.get(shard_lease.shard) is shard_lease
        return self.lent.get((shard_lease.shard, shard_lease.needed)) is shard_lease

    def can_be_run(self, needed: Declaration) -> bool:
        """Return whether a live coordinator can run sagas of a declaration."""
        if needed in self.runs:
            return True
        return any(needed in runs for runs in self.able.values())

    def leases_of(self, saga_id: str, needed: Declaration) -> tuple[str, ...]:
        """Return the streams of the leases on which it depends who drives a saga.

        The last of them is the one that is held by the coordinator that drives it.
        """
        part = shard_of(saga_id), needed
        own, lent = PREFIX + lease_of(part[0]), PREFIX + lease_of(*part)
        return (lent,) if part in self._leased else (lent, own)

    def note(self, recorded: RecordedEvent) -> Change:
        """Take over a record of a lease's stream."""
        lease = recorded.stream.removeprefix(PREFIX)
        part = self._parts.get(lease)
        if part is None or recorded.version <= self._state_of(lease).version:
            return _NO_CHANGE
        was_released = self._state_of(lease).held is None
        state = LeaseState.of(recorded)
        self._put_state(part, state)
        self._unnoted.discard(lease)
        shard, needed = part
        if needed is not None:
            return self._note_lent(part, state)
        if state.is_held_by(self._owner):
            self.mine[shard] = ShardLease(
                shard, state.version, was_released=was_released
            )
            return Change(gained=part)
        ended = self.mine.pop(shard, None)
        if ended is not None:
            ended.leave()
            self._ending[shard] = ended
        return Change(ended)

    def note_members(self, recorded: RecordedEvent) -> None:
        """Take over a record of the store's coordinators."""
        self._members.note(recorded)
        # LiveCoordinators that have just joined are alive until a look says otherwise.
        self.able = {**self._members.runs}

    async def look(self) -> None:
        """Look which coordinators are alive."""
        await self._look()
        self.able = {
            owner: runs
            for owner, runs in self._members.runs.items()
            if owner == self._owner or self._liveness.is_live(owner)
        }

    async def plan(self) -> Plan:
        """Look who is alive, and return which shards are to be taken and given."""
        if not self.runs:
            return Plan()
        await self.look()
        await self._tend_members()
        self._ending = {s: t for s, t in self._ending.items() if t.working}
        leaving = {
            shard for shard, shard_lease in self.mine.items() if shard_lease.is_leaving
        }
        return planned(
            [*self.able],
            {shard: self._holder((shard, None)) for shard in range(SHARDS)},
            self._owner,
            leaving=leaving.union(self._ending),
        )

    def give(self, number: int) -> list[ShardLease]:
        """Have no more moves made in so many shards, those with least work first."""
        kept = [
            shard_lease
            for shard_lease in self.mine.values()
            if not shard_lease.is_leaving
        ]
        given = sorted(kept, key=lambda shard_lease: shard_lease.working)[:number]
        for shard_lease in given:
            shard_lease.leave()
        return given

    async def take(self, plan: Plan) -> None:
        """Take what a plan says, but for what others take before.

        The shard_leases begin when the records of it are noted.
        """
        wanted = [lease_of(shard) for shard in plan.take]
        versions = {lease: self._state_of(lease).version for lease in wanted}
        self._unnoted.update(versions)
        await self._append_to(versions, acquired)

    async def delegate(self, unfinished: Iterable[Part]) -> list[ShardLease]:
        """Take over sagas that the holders of their shards can't run, and give back.

        Args:
            unfinished: The shards and declarations of the unfinished sagas.

        Returns:
            The shard_leases whose sagas are to make no more moves here.
        """
        take: list[Part] = []
        given: list[ShardLease] = []
        for part in {*unfinished, *self._leased} if self._is_shared else ():
            shard, needed = part
            if needed is None or needed not in self.runs:
                continue
            what = delegated(
                shard,
                needed,
                runs=self.able,
                shard_holder=self._holder((shard, None)),
                holder=self._holder(part),
                is_free=part not in self._leased,
                me=self._owner,
            )
            shard_lease = self.lent.get(part)
            if what.give and shard_lease is not None and not shard_lease.is_leaving:
                shard_lease.leave()
                given.append(shard_lease)
            if what.evict:
                await self._evict(part)
            if what.take:
                take.append(part)
        await self._take_lent(take)
        return given

    async def release_idle(self) -> None:
        """Release those leases under which no saga makes a move any more.

        The shard_leases end when the records of it are noted.
        """
        shard_leases = (*self.mine.values(), *self.lent.values())
        idle = [t for t in shard_leases if t.is_leaving and not t.working]
        await self._append_to({t.lease: t.token for t in idle}, released)

    async def close(self) -> None:
        """Release everything, so that others needn't wait."""
        try:
            shard_leases = (*self.mine.values(), *self.lent.values())
            held = {
                shard_lease.lease: shard_lease.token for shard_lease in shard_leases
            }
            if self._unnoted:
                held = await self._held()
            await self._append_to(held, released)
            await self._members.leave(self._owner)
        finally:
            self.mine.clear()
            self.lent.clear()
            unregister_holder(self._owner)

    # --- within ----------------------------------------------------------------------

    @property
    def _is_shared(self) -> bool:
        """Whether coordinators differ in what they can run, or have differed."""
        return bool(self._leased) or any(r != self.runs for r in self.able.values())

    def _put_state(self, part: Part, state: LeaseState) -> None:
        self._states[self._leases[part]] = state
        if part[1] is not None:
            change = self._leased.discard if state.held is None else self._leased.add
            change(part)

    def _note_lent(self, part: Part, state: LeaseState) -> Change:
        shard, needed = part
        ended = self.lent.pop(part, None)
        if ended is not None:
            ended.leave()
        if state.is_held_by(self._owner):
            self.lent[part] = ShardLease(shard, state.version, needed)
            return Change(ended, part)
        if state.held is None and shard in self.mine:
            return Change(ended, part)
        return Change(ended)

    async def _join(self) -> None:
        await self._members.join(self._owner, self.runs, is_gone=self._is_gone)
        self.able = {**self._members.runs}

    async def _tend_members(self) -> None:
        """Keep this coordinator among the members, and remove those that are gone."""
        if self._owner not in self._members.runs:
            await self._join()
        elif next(iter(self.able)) == self._owner:
            await self._members.remove(filter(self._is_gone, self._members.runs))

    def _is_gone(self, owner: str) -> bool:
        return self._liveness.age_of(owner) is None

    async def _take_lent(self, parts: Collection[Part]) -> None:
        """Take leases of single declarations, if the shards' own haven't moved."""
        leases = [self._leases[part] for part in parts]
        if not leases:
            return
        shards = {lease_of(shard) for shard, _ in parts}
        expect = {PREFIX + r: self._state_of(r).version for r in (*leases, *shards)}
        events = [acquired(lease, self._owner) for lease in leases]
        self._unnoted.update(leases)
        try:
            await self._store.append(events, expect=expect)
        except VersionConflict:
            # All is planned anew, from what the others have recorded.
            self._unnoted.difference_update(leases)

    async def _evict(self, part: Part) -> None:
        """Release the lease of a holder that has ended, or is stopped."""
        lease = self._leases[part]
        state = self._state_of(lease)
        if state.held is not None:
            event = released(lease, state.held.holder)
            expect = {PREFIX + lease: state.version}
            with suppress(VersionConflict):
                await self._store.append([event], expect=expect)

    async def _append_to(
        self,
        leases: dict[str, int],
        event: Callable[[str, str], NewEvent],
    ) -> None:
        """Append to those leases whose version is still the one that is known."""
        while leases:
            events = [event(lease, self._owner) for lease in leases]
            expect = {PREFIX + lease: version for lease, version in leases.items()}
            try:
                await self._store.append(events, expect=expect)
            except VersionConflict as conflict:
                for failure in conflict.failures:
                    lease = failure.stream.removeprefix(PREFIX)
                    self._unnoted.discard(lease)
                    del leases[lease]
            else:
                return

    async def _held(self) -> dict[str, int]:
        """Read what this coordinator has, once the appends under way are through."""
        with suppress(VersionConflict):
            await self._store.append([], expect={PREFIX + lease_of(0): EXISTS})
        leases = {*map(lease_of, range(SHARDS)), *self._states, *self._unnoted}
        found = {lease: await self._state(lease) for lease in leases}
        return {r: s.version for r, s in found.items() if s.is_held_by(self._owner)}

    def _holder(self, part: Part) -> str | None:
        """Return the live holder of a lease."""
        state = self._state_of(self._leases[part])
        taken = state.held
        is_free = taken is None or state.is_free(self._liveness)
        return None if is_free or taken is None else taken.holder

    def _state_of(self, lease: str) -> LeaseState:
        return self._states.get(lease, _FREE)

    async def _look(self) -> None:
        seen = _NOBODY
        if self.has_company:
            seen = await self._store.coordination.heartbeat_ages_async()
        self._liveness = Liveness(self._session, seen, self._stale_after)

    async def _state(self, lease: str) -> LeaseState:
        last = self._store.read_stream(PREFIX + lease, backward=True, limit=1)
        found = [recorded async for recorded in last]
        return LeaseState.of(found[0] if found else None)
