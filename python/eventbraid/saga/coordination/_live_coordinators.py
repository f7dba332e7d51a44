"""The live coordinators of a store, this coordinator included.

The recorded list has every coordinator that was added and not removed. Heartbeats show
which of them are live. A coordinator whose session has ended counts as gone at once. A
coordinator whose process is suspended, or whose event loop hangs, counts as stopped
after a while.

The heartbeats decide only which leases a coordinator tries to acquire. They don't
decide which records the store accepts. Suppose that a coordinator was only slow when
another one acquired its lease. Then the store refuses the next record of the slow
coordinator, because the fencing token has changed.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from eventbraid.lease._holder import register_holder, unregister_holder
from eventbraid.lease._liveness import Liveness
from eventbraid.saga.coordination._coordinator_list import CoordinatorList

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from eventbraid.lease._state import LeaseState
    from eventbraid.saga.coordination._coordinator_list import Capabilities
    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.store import AsyncStore, RecordedEvent

_NO_AGES: Mapping[str, float] = MappingProxyType({})


class LiveCoordinators:
    """The coordinators of a store, as far as this coordinator has read.

    Args:
        store: The store.
        stale_after: The age of a heartbeat from which its session counts as stopped.
        own: The declarations that this coordinator can run.

    Attributes:
        own: The declarations that this coordinator can run.
        own_id: The name of this coordinator as a holder of leases; empty before
            `start_heartbeat`.
        capabilities: The sagas that each live coordinator can run, as of the last
            check.
    """

    __slots__ = (
        "_list",
        "_liveness",
        "_session",
        "_stale_after",
        "_store",
        "capabilities",
        "own",
        "own_id",
    )

    def __init__(
        self, store: AsyncStore, stale_after: float, own: Capabilities
    ) -> None:
        """Begin before this coordinator is added to the list."""
        self._store = store
        self._stale_after = stale_after
        self._session = ""
        self._list = CoordinatorList(store)
        self._liveness = Liveness("", _NO_AGES, stale_after)
        self.own = own
        self.own_id = ""
        self.capabilities: Mapping[str, Collection[Declaration]] = {}

    async def read(self) -> None:
        """Read the recorded list."""
        await self._list.read()

    def start_heartbeat(self) -> None:
        """Register as a holder of leases, with a heartbeat from this event loop."""
        coordination = self._store.coordination
        self._session = coordination.start_heartbeat()
        self.own_id = register_holder(
            self._session, coordination.start_loop_heartbeat()
        )

    async def join(self) -> None:
        """Add this coordinator to the list, and remove those that are gone."""
        await self._list.add(self.own_id, self.own, is_gone=self._is_gone)
        self._assume_all_live()

    async def keep_list(self) -> None:
        """Add this coordinator again if it is missing, and remove those that are gone.

        Only the first live coordinator of the list removes others, because several
        appends of the same change would only conflict.
        """
        if self.own_id not in self._list.capabilities:
            await self.join()
        elif next(iter(self.capabilities)) == self.own_id:
            gone = filter(self._is_gone, self._list.capabilities)
            await self._list.remove_gone(gone)

    async def leave(self) -> None:
        """Remove this coordinator from the list."""
        await self._list.remove(self.own_id)

    def end(self) -> None:
        """Stop the heartbeat, so that this coordinator counts as gone."""
        unregister_holder(self.own_id)

    def note(self, recorded: RecordedEvent) -> None:
        """Adopt a record of the list."""
        self._list.note(recorded)
        # A newly added coordinator counts as live until a check shows otherwise.
        self._assume_all_live()

    async def check_heartbeats(self, *, is_alone: bool) -> None:
        """Read the ages of the heartbeats.

        Args:
            is_alone: Whether there is no other coordinator. If so, there is nothing to
                read.
        """
        ages = _NO_AGES
        if not is_alone:
            ages = await self._store.coordination.heartbeat_ages_async()
        self._liveness = Liveness(self._session, ages, self._stale_after)

    def drop_stopped(self) -> None:
        """Count coordinators whose heartbeat is too old as not live."""
        self.capabilities = {
            holder: able
            for holder, able in self._list.capabilities.items()
            if holder == self.own_id or self._liveness.is_live(holder)
        }

    @property
    def has_others(self) -> bool:
        """Whether the list has another coordinator, live or stopped."""
        return any(holder != self.own_id for holder in self._list.capabilities)

    @property
    def are_different(self) -> bool:
        """Whether a live coordinator has declarations that differ from this one's."""
        return any(able != self.own for able in self.capabilities.values())

    def can_run(self, needed: Declaration) -> bool:
        """Return whether this or another live coordinator can run a declaration."""
        if needed in self.own:
            return True
        return any(needed in able for able in self.capabilities.values())

    def live_holder(self, state: LeaseState) -> str | None:
        """Return the live holder of a lease; None if there is none."""
        if state.held is None or state.is_free(self._liveness):
            return None
        return state.held.holder

    def _assume_all_live(self) -> None:
        self.capabilities = {**self._list.capabilities}

    def _is_gone(self, holder: str) -> bool:
        return self._liveness.age_of(holder) is None
