"""Acquires and gives back leases of shards, by appends to their streams.

`_shard_plan` makes the plans, and `_shards` explains how a shard is handed over.
Each append here expects the version of the lease that this coordinator has read. So if
several coordinators want a lease, exactly one of them gets it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from eventbraid.errors import VersionConflict
from eventbraid.lease._events import PREFIX
from eventbraid.lease._state import acquired, released
from eventbraid.saga.coordination._shard_plan import (
    Plan,
    plan_delegation,
    plan_leases,
)
from eventbraid.saga.running._shard_mapping import SHARDS, lease_of
from eventbraid.store import EXISTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from eventbraid.saga.coordination._lease_table import LeaseTable, Part
    from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
    from eventbraid.saga.coordination._shard_plan import Delegation
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.saga.running._shard_lease import ShardLease
    from eventbraid.store import AsyncStore, NewEvent


class ShardHandover:
    """Acquires and gives back the leases of one coordinator.

    Args:
        store: The store.
        table: The recorded state of all leases.
        shards: The leases of this coordinator.
        live: The live coordinators.
    """

    __slots__ = ("_live", "_shards", "_store", "_table")

    def __init__(
        self,
        store: AsyncStore,
        table: LeaseTable,
        shards: Shards,
        live: LiveCoordinators,
    ) -> None:
        """Begin without leases; `enter` reads their state."""
        self._store = store
        self._table = table
        self._shards = shards
        self._live = live

    async def enter(self) -> None:
        """Read the state of all leases, and add this coordinator to the list.

        A coordinator without declarations acquires no leases and isn't added.
        """
        await self._table.read()
        await self._live.read()
        if not self._live.own:
            return
        self._live.start_heartbeat()
        await self._check_heartbeats()
        await self._live.join()

    @property
    def has_other_coordinators(self) -> bool:
        """Whether another coordinator, live or stopped, is listed or holds a lease."""
        own_id = self._live.own_id
        return self._live.has_others or self._table.is_held_by_others(own_id)

    async def check_live(self) -> None:
        """Find out which coordinators are live."""
        await self._check_heartbeats()
        self._live.drop_stopped()

    async def plan(self) -> Plan:
        """Return the shards to acquire, and the number of shards to give back."""
        if not self._live.own:
            return Plan()
        await self.check_live()
        await self._live.keep_list()
        return plan_leases(
            [*self._live.capabilities],
            {shard: self._live_holder((shard, None)) for shard in range(SHARDS)},
            self._live.own_id,
            leaving=self._shards.unavailable(),
        )

    async def acquire(self, plan: Plan) -> None:
        """Acquire the shards of a plan, unless another coordinator acquired them.

        This coordinator holds a new lease only when it reads the record of the
        acquisition from the log.
        """
        wanted = [lease_of(shard) for shard in plan.take]
        versions = {lease: self._table.state(lease).version for lease in wanted}
        self._table.request(versions)
        await self._append_to(versions, acquired)

    def give_back(self, count: int) -> list[ShardLease]:
        """Begin to give back a number of shards, those with the least work.

        Returns:
            The leases of these shards. Their sagas may begin no further action here.
        """
        kept = [one for one in self._shards.held.values() if not one.is_leaving]
        given = sorted(kept, key=lambda one: one.working)[:count]
        for shard_lease in given:
            shard_lease.leave()
        return given

    async def delegate(self, unfinished: Iterable[Part]) -> list[ShardLease]:
        """Acquire and give back delegated leases.

        Args:
            unfinished: The shards and declarations of the unfinished sagas.

        Returns:
            The leases that are given back. Their sagas may begin no further action
            here.
        """
        wanted: list[Part] = []
        given: list[ShardLease] = []
        for shard, needed in self._parts_to_delegate(unfinished):
            part = shard, needed
            decision = self._delegation(shard, needed)
            shard_lease = self._shards.delegated.get(part)
            if decision.give and shard_lease is not None and not shard_lease.is_leaving:
                shard_lease.leave()
                given.append(shard_lease)
            if decision.evict:
                await self._release_for(part)
            if decision.take:
                wanted.append(part)
        await self._acquire_delegated(wanted)
        return given

    async def release_idle(self) -> None:
        """Release the leases that are given back and have no action in progress.

        An action in progress must still record its result. After the release, the store
        would refuse that record, and the next holder would have to make the call again.
        """
        idle = [one for one in self._shards.all() if one.is_leaving and not one.working]
        await self._append_to({one.lease: one.token for one in idle}, released)

    async def leave(self) -> None:
        """Release all leases, so that other coordinators needn't wait for them."""
        try:
            held = {one.lease: one.token for one in self._shards.all()}
            if self._table.has_requests:
                held = await self._read_held()
            await self._append_to(held, released)
            await self._live.leave()
        finally:
            self._shards.clear()
            self._live.end()

    # --- internal parts --------------------------------------------------------------

    async def _check_heartbeats(self) -> None:
        await self._live.check_heartbeats(is_alone=not self.has_other_coordinators)

    def _live_holder(self, part: Part) -> str | None:
        return self._live.live_holder(self._table.state_of(part))

    def _parts_to_delegate(
        self, unfinished: Iterable[Part]
    ) -> list[tuple[int, Declaration]]:
        """Return the parts for which this coordinator may hold a delegated lease."""
        # Usually all coordinators run the same program, so no lease is delegated.
        if not (self._table.delegated or self._live.are_different):
            return []
        parts = {*unfinished, *self._table.delegated}
        return [
            (shard, needed)
            for shard, needed in parts
            if needed is not None and needed in self._live.own
        ]

    def _delegation(self, shard: int, needed: Declaration) -> Delegation:
        part = shard, needed
        return plan_delegation(
            shard,
            needed,
            runs=self._live.capabilities,
            shard_holder=self._live_holder((shard, None)),
            holder=self._live_holder(part),
            is_free=not self._table.is_delegated(part),
            me=self._live.own_id,
        )

    async def _acquire_delegated(self, parts: Collection[Part]) -> None:
        """Acquire delegated leases, if the leases of their shards haven't changed.

        One append expects the versions of both leases. Otherwise a coordinator that can
        run the sagas could acquire the shard between the plan and this append. Then two
        coordinators would drive the sagas.
        """
        leases = [self._table.name(part) for part in parts]
        if not leases:
            return
        shards = {lease_of(shard) for shard, _ in parts}
        expect = {
            PREFIX + lease: self._table.state(lease).version
            for lease in (*leases, *shards)
        }
        events = [acquired(lease, self._live.own_id) for lease in leases]
        self._table.request(leases)
        try:
            await self._store.append(events, expect=expect)
        except VersionConflict:
            # Another coordinator has changed a lease. The next plan is made after the
            # record of this change has been read.
            self._table.withdraw(leases)

    async def _release_for(self, part: Part) -> None:
        """Release a delegated lease in place of its holder, which has ended."""
        lease = self._table.name(part)
        state = self._table.state(lease)
        if state.held is not None:
            event = released(lease, state.held.holder)
            expect = {PREFIX + lease: state.version}
            with suppress(VersionConflict):
                await self._store.append([event], expect=expect)

    async def _append_to(
        self, leases: dict[str, int], event: Callable[[str, str], NewEvent]
    ) -> None:
        """Append one event to each lease whose version hasn't changed.

        Args:
            leases: The leases with their expected versions. Leases with another version
                are removed from this dictionary.
            event: Builds the event for a lease and a holder.
        """
        while leases:
            events = [event(lease, self._live.own_id) for lease in leases]
            expect = {PREFIX + lease: version for lease, version in leases.items()}
            try:
                await self._store.append(events, expect=expect)
            except VersionConflict as conflict:
                for failure in conflict.failures:
                    lease = failure.stream.removeprefix(PREFIX)
                    self._table.withdraw([lease])
                    del leases[lease]
            else:
                return

    async def _read_held(self) -> dict[str, int]:
        """Read the leases that this coordinator holds, after its appends have ended.

        An acquisition whose answer was lost may still be in progress. The store commits
        the appends of a process in their order. So this method makes an empty append:
        its answer shows that the earlier appends have ended.
        """
        with suppress(VersionConflict):
            await self._store.append([], expect={PREFIX + lease_of(0): EXISTS})
        return await self._table.read_held_by(self._live.own_id)
