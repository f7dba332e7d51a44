"""The coordinators of a store, and the declarations that each of them can run.

A coordinator joins before it takes a lease and leaves after it has released them all.
Each change is one record that lists all members, appended at the exact version that was
read. So the last record is all that a newcomer reads, and changes happen one by one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import anyio

from eventbraid.errors import (
    EventDecodeError,
    OutcomeUnknown,
    UnknownEventType,
    VersionConflict,
)
from eventbraid.event import decode_event, new_event
from eventbraid.saga.definition._declaration import Declaration
from eventbraid.saga.machine._events import COORDINATORS_STREAM, CoordinatorsChanged
from eventbraid.saga.running._pauses import pause_after_contention
from eventbraid.store._system import system_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from eventbraid.store import AsyncStore, RecordedEvent

_log = logging.getLogger("eventbraid.saga")

Capabilities = frozenset[Declaration]


class LiveCoordinators:
    """The members as of the last record that was read.

    Attributes:
        version: The version of that record; 0 before the first one.
        runs: What each member can run, in the order in which they joined.
    """

    __slots__ = ("_store", "runs", "version")

    def __init__(self, store: AsyncStore) -> None:
        """Begin with none."""
        self._store = store
        self.version = 0
        self.runs: Mapping[str, Capabilities] = {}

    def note(self, recorded: RecordedEvent) -> None:
        """Take over a record of the members, unless a newer one is known."""
        if recorded.version > self.version:
            self.version = recorded.version
            self.runs = _members_in(recorded)

    async def read(self) -> None:
        """Read the last record."""
        last = self._store.read_stream(COORDINATORS_STREAM, backward=True, limit=1)
        for recorded in [found async for found in last]:
            self.note(recorded)

    async def join(
        self, owner: str, runs: Capabilities, *, is_gone: Callable[[str], bool]
    ) -> None:
        """Record a coordinator, and remove those that are gone.

        Args:
            owner: The coordinator.
            runs: What it can run.
            is_gone: Returns whether a member has ended without leaving.
        """
        while self.runs.get(owner) != runs:
            kept = {o: r for o, r in self.runs.items() if not is_gone(o)}
            await self._change({**kept, owner: runs})

    async def leave(self, owner: str) -> None:
        """Remove a coordinator."""
        while owner in self.runs:
            await self._change({o: r for o, r in self.runs.items() if o != owner})

    async def remove(self, gone: Iterable[str]) -> None:
        """Remove members that have ended without leaving, unless others do it now."""
        removed = {*gone}
        kept = {o: r for o, r in self.runs.items() if o not in removed}
        if len(kept) < len(self.runs):
            await self._change(kept)

    async def _change(self, runs: Mapping[str, Capabilities]) -> None:
        """Record members, unless others have changed them; then read these."""
        record = system_event(new_event(COORDINATORS_STREAM, _record_of(runs)))
        expect = {COORDINATORS_STREAM: self.version}
        try:
            await self._store.append([record], expect=expect)
        except VersionConflict:
            pass
        except OutcomeUnknown:
            await anyio.sleep(pause_after_contention(0.0))
        await self.read()


def _record_of(runs: Mapping[str, Capabilities]) -> CoordinatorsChanged:
    """Make the record; what many members can run is in it once."""
    indexes = {one: index for index, one in enumerate(dict.fromkeys(runs.values()))}
    members = tuple((owner, indexes[one]) for owner, one in runs.items())
    return CoordinatorsChanged(members, tuple(tuple(sorted(one)) for one in indexes))


def _members_in(recorded: RecordedEvent) -> Mapping[str, Capabilities]:
    """Read the members; none if the record can't be read, then all join again."""
    try:
        changed = cast("CoordinatorsChanged", decode_event(recorded))
        return dict(_pairs(changed))
    except (
        EventDecodeError,
        UnknownEventType,
        AttributeError,
        IndexError,
        ValueError,
        RecursionError,
    ) as error:
        _log.warning(
            "skipped version %d of stream %r: %s",
            recorded.version,
            COORDINATORS_STREAM,
            error,
        )
        return {}


def _pairs(changed: CoordinatorsChanged) -> Iterator[tuple[str, Capabilities]]:
    runs = [
        frozenset(Declaration(*fields) for fields in one)
        for one in changed.declarations
    ]
    for owner, index in changed.members:
        yield owner, runs[index]
