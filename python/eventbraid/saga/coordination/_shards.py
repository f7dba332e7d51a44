"""The shards of a store, and the leases under which this coordinator drives sagas.

A saga's shard follows from its id alone. The holder of the shard's lease drives the
saga. This is safe because each append to the saga's stream expects the lease's fencing
token. As soon as another coordinator has acquired the lease, the store refuses the
records of the former holder, even if that holder hasn't noticed the loss yet. So it
does no harm if a lease is lost in the middle of an action. The action's call may have
been made, but the store refuses the record of its result (`LeaseLost`), and the saga's
task ends. In the saga's stream, the next holder finds an attempt without an outcome.

A coordinator learns of its leases from the log, never from the answers to its appends.
It holds a lease as soon as it *reads* the record of the acquisition. It has lost the
lease as soon as it reads the next record of the lease. The two coordinators of a
handover read the same records in the same order. So at each position of the log they
agree on which of them drives a saga.

A shard whose holder is live is handed over in three steps:

1. The holder marks its lease as leaving: the sagas of the lease begin no further action
   (`ShardHandover.give_back`). Sagas that wait for a timer are no longer driven.
2. When no saga of the lease is in the middle of an action, the holder appends
   ``lease.released`` (`ShardHandover.release_idle`).
3. Another coordinator reads that record and appends ``lease.acquired`` at the version
   that it has read. When it reads its own record, it begins to drive the sagas.

If the holder has ended or is stopped, steps 1 and 2 are omitted. The lease then counts
as free, and its acquisition makes the old fencing token invalid.

If a shard has a delegated lease, two coordinators must not drive the same saga. The
fencing tokens alone don't prevent this, because each record expects the token of one
lease only. Two rules prevent it. First, a delegated lease is acquired only while the
holder of the shard can't run the sagas. The append expects the versions of both leases,
so the shard can't get another holder in between. Second, while the log shows a
delegated lease as held, the holder of the delegated lease drives the sagas, not the
holder of the shard. If a new holder of the shard can run the sagas, it waits until the
delegated lease is released. If the holder of the delegated lease has ended, the holder
of the shard releases that lease itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eventbraid.lease._events import PREFIX
from eventbraid.saga.running._shard_lease import ShardLease
from eventbraid.saga.running._shard_mapping import lease_of, shard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from eventbraid.lease._state import LeaseState
    from eventbraid.saga.coordination._lease_table import LeaseTable, Part
    from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.store import RecordedEvent


class Change(NamedTuple):
    """The effect of a lease record on this coordinator.

    Attributes:
        ended: The lease that this coordinator has lost.
        gained: The part whose sagas this coordinator drives from now on.
    """

    ended: ShardLease | None = None
    gained: Part | None = None


_NO_CHANGE = Change()


class Shards:
    """The leases of one coordinator.

    Args:
        table: The recorded state of all leases.
        live: The live coordinators.
    """

    __slots__ = ("_delegated", "_ending", "_held", "_live", "_table")

    def __init__(self, table: LeaseTable, live: LiveCoordinators) -> None:
        """Begin without a lease."""
        self._table = table
        self._live = live
        self._held: dict[int, ShardLease] = {}
        self._delegated: dict[Part, ShardLease] = {}
        # Leases of whole shards that were lost while a saga was in the middle of an
        # action. Such a shard isn't acquired again before the action has ended.
        # Otherwise a second task of this coordinator would work on the saga, and the
        # store would refuse the record of the first task because of its old fencing
        # token.
        self._ending: dict[int, ShardLease] = {}

    @property
    def held(self) -> Mapping[int, ShardLease]:
        """The leases of whole shards that this coordinator holds."""
        return self._held

    @property
    def delegated(self) -> Mapping[Part, ShardLease]:
        """The delegated leases that this coordinator holds."""
        return self._delegated

    def all(self) -> list[ShardLease]:
        """Return all leases that this coordinator holds."""
        return [*self._held.values(), *self._delegated.values()]

    # --- lookups ---------------------------------------------------------------------

    def lease_for(
        self, saga_id: str, needed: Declaration | None = None
    ) -> ShardLease | None:
        """Return the lease under which a saga is driven here; None if there is none.

        Args:
            saga_id: The saga's id.
            needed: The declaration that the saga needs; None if it can't be read.
        """
        part = shard_of(saga_id), needed
        # The log decides here, not the heartbeat of a holder, because at the same
        # position of the log all coordinators must get the same result.
        if self._table.is_delegated(part):
            shard_lease = self._delegated.get(part)
        else:
            shard_lease = self._held.get(part[0])
        return None if shard_lease is None or shard_lease.is_leaving else shard_lease

    def holds(self, shard_lease: ShardLease) -> bool:
        """Return whether a lease is still held."""
        if shard_lease.needed is None:
            return self._held.get(shard_lease.shard) is shard_lease
        part = shard_lease.shard, shard_lease.needed
        return self._delegated.get(part) is shard_lease

    def streams_of_leases(self, saga_id: str, needed: Declaration) -> tuple[str, ...]:
        """Return the streams of the leases that decide where a saga is driven."""
        part = shard_of(saga_id), needed
        shard, delegated = PREFIX + lease_of(part[0]), PREFIX + lease_of(*part)
        if self._table.is_delegated(part):
            return (delegated,)
        return (delegated, shard)

    def unavailable(self) -> Collection[int]:
        """Return the shards that this coordinator gives back or can't acquire yet."""
        self._ending = {s: one for s, one in self._ending.items() if one.working}
        leaving = {shard for shard, one in self._held.items() if one.is_leaving}
        return leaving.union(self._ending)

    # --- the records of leases -------------------------------------------------------

    def note(self, recorded: RecordedEvent) -> Change:
        """Adopt a record of a lease, and return its effect on this coordinator."""
        change = self._table.note(recorded)
        if change is None:
            return _NO_CHANGE
        if change.part[1] is not None:
            return self._note_delegated(change.part, change.after)
        shard = change.part[0]
        if change.after.is_held_by(self._live.own_id):
            was_released = change.before.held is None
            self._held[shard] = ShardLease(
                shard, change.after.version, was_released=was_released
            )
            return Change(gained=change.part)
        ended = self._held.pop(shard, None)
        if ended is not None:
            ended.leave()
            self._ending[shard] = ended
        return Change(ended)

    def _note_delegated(self, part: Part, state: LeaseState) -> Change:
        shard, needed = part
        ended = self._delegated.pop(part, None)
        if ended is not None:
            ended.leave()
        if state.is_held_by(self._live.own_id):
            self._delegated[part] = ShardLease(shard, state.version, needed)
            return Change(ended, part)
        if state.held is None and shard in self._held:
            # The delegated lease has ended: the holder of the shard drives the sagas.
            return Change(ended, part)
        return Change(ended)

    def clear(self) -> None:
        """Remove all leases, because the coordinator has ended."""
        self._held.clear()
        self._delegated.clear()
