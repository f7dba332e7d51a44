"""The recorded state of the leases of all shards.

There are two kinds of leases. Each shard has a lease, whose holder drives the sagas of
the shard. If that holder lacks the code of some of these sagas, there is also a
*delegated* lease. A delegated lease is for the sagas of one declaration in one shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from eventbraid.lease._events import PREFIX
from eventbraid.lease._state import LeaseState
from eventbraid.saga.running._shard_mapping import SHARDS, lease_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from eventbraid.saga.coordination._coordinator_list import Capabilities
    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.store import AsyncStore, RecordedEvent

_NEVER_HELD = LeaseState()

Part = tuple[int, "Declaration | None"]
"""A whole shard (None), or the sagas of one declaration in the shard."""


class LeaseChange(NamedTuple):
    """A record that changed the state of a lease.

    Attributes:
        part: The shard, or the part of a shard, that the lease is for.
        before: The state before the record.
        after: The state after it.
    """

    part: Part
    before: LeaseState
    after: LeaseState


class LeaseTable:
    """The state of each lease, as of the records that were read.

    The table has the leases of all shards, and the delegated leases of the declarations
    that this coordinator can run. This coordinator doesn't need the other delegated
    leases.

    Args:
        store: The store.
        own: The declarations that this coordinator can run.
    """

    __slots__ = ("_delegated", "_names", "_parts", "_requested", "_states", "_store")

    def __init__(self, store: AsyncStore, own: Capabilities) -> None:
        """Begin without records: no lease counts as held."""
        self._store = store
        self._parts: dict[str, Part] = {
            lease_of(shard, needed): (shard, needed)
            for needed in (None, *own)
            for shard in range(SHARDS)
        }
        self._names = {part: lease for lease, part in self._parts.items()}
        self._states: dict[str, LeaseState] = {}
        # The delegated leases that are held, by any coordinator.
        self._delegated: set[Part] = set()
        # The leases whose acquisition this coordinator is about to append, or has
        # appended without reading the record yet.
        self._requested: set[str] = set()

    async def read(self) -> None:
        """Read the state of all leases."""
        for lease, part in self._parts.items():
            if await self._store.version(PREFIX + lease):
                self._put(part, await self.read_last(lease))

    def note(self, recorded: RecordedEvent) -> LeaseChange | None:
        """Adopt a record; return the change of a lease of the table, or None."""
        lease = recorded.stream.removeprefix(PREFIX)
        part = self._parts.get(lease)
        before = self.state(lease)
        if part is None or recorded.version <= before.version:
            return None
        after = LeaseState.of(recorded)
        self._put(part, after)
        self._requested.discard(lease)
        return LeaseChange(part, before, after)

    def name(self, part: Part) -> str:
        """Return the name of the lease for a part."""
        return self._names[part]

    def state(self, lease: str) -> LeaseState:
        """Return the state of a lease."""
        return self._states.get(lease, _NEVER_HELD)

    def state_of(self, part: Part) -> LeaseState:
        """Return the state of the lease for a part."""
        return self.state(self._names[part])

    def is_delegated(self, part: Part) -> bool:
        """Return whether a coordinator holds a delegated lease for a part."""
        return part in self._delegated

    @property
    def delegated(self) -> Collection[Part]:
        """The parts whose delegated lease is held, by any coordinator."""
        return self._delegated

    def is_held_by_others(self, own_id: str) -> bool:
        """Return whether another coordinator, live or stopped, holds a lease."""
        return any(
            state.held is not None and state.held.holder != own_id
            for state in self._states.values()
        )

    # --- the requests of this coordinator --------------------------------------------

    def request(self, leases: Iterable[str]) -> None:
        """Note that this coordinator is about to append the acquisition of leases."""
        self._requested.update(leases)

    def withdraw(self, leases: Iterable[str]) -> None:
        """Note that requested leases were not acquired."""
        self._requested.difference_update(leases)

    @property
    def has_requests(self) -> bool:
        """Whether this coordinator may hold leases whose records it hasn't read yet."""
        return bool(self._requested)

    async def read_held_by(self, own_id: str) -> dict[str, int]:
        """Read the leases that a coordinator holds now, each with its token."""
        leases = {*map(lease_of, range(SHARDS)), *self._states, *self._requested}
        states = {lease: await self.read_last(lease) for lease in leases}
        return {name: s.version for name, s in states.items() if s.is_held_by(own_id)}

    async def read_last(self, lease: str) -> LeaseState:
        """Read the present state of a lease; the table isn't changed."""
        last = self._store.read_stream(PREFIX + lease, backward=True, limit=1)
        found = [recorded async for recorded in last]
        return LeaseState.of(found[0] if found else None)

    def _put(self, part: Part, state: LeaseState) -> None:
        self._states[self._names[part]] = state
        if part[1] is not None:
            change = (
                self._delegated.discard if state.held is None else self._delegated.add
            )
            change(part)
