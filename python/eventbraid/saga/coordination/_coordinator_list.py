"""The recorded list of a store's coordinators, with the sagas that each can run.

A coordinator is added before it acquires a lease, and removed after it has released all
of its leases. Each change is one record with the whole list, so only the last record
must be read. The append of a change expects the version that was read. So two changes
at the same time can't overwrite each other.
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
"""The declarations of the sagas that a coordinator can run."""


class CoordinatorList:
    """The list of coordinators, as of the last record that was read.

    Attributes:
        version: The version of that record; 0 before the first one.
        capabilities: The sagas that each coordinator can run, in the order in which
            the coordinators were added.
    """

    __slots__ = ("_store", "capabilities", "version")

    def __init__(self, store: AsyncStore) -> None:
        """Begin with an empty list."""
        self._store = store
        self.version = 0
        self.capabilities: Mapping[str, Capabilities] = {}

    def note(self, recorded: RecordedEvent) -> None:
        """Adopt the list in a record, unless a newer record was read before."""
        if recorded.version > self.version:
            self.version = recorded.version
            self.capabilities = _list_in(recorded)

    async def read(self) -> None:
        """Read the last record."""
        last = self._store.read_stream(COORDINATORS_STREAM, backward=True, limit=1)
        for recorded in [found async for found in last]:
            self.note(recorded)

    async def add(
        self, holder: str, own: Capabilities, *, is_gone: Callable[[str], bool]
    ) -> None:
        """Add a coordinator, and remove those that are gone.

        Args:
            holder: The coordinator.
            own: The capabilities of this coordinator.
            is_gone: Returns whether a listed coordinator has ended.
        """
        while self.capabilities.get(holder) != own:
            kept = {h: c for h, c in self.capabilities.items() if not is_gone(h)}
            await self._change({**kept, holder: own})

    async def remove(self, holder: str) -> None:
        """Remove a coordinator."""
        while holder in self.capabilities:
            await self._change(self._without({holder}))

    async def remove_gone(self, gone: Iterable[str]) -> None:
        """Remove ended coordinators; after a conflict, a later check tries again."""
        kept = self._without({*gone})
        if len(kept) < len(self.capabilities):
            await self._change(kept)

    def _without(self, removed: set[str]) -> Mapping[str, Capabilities]:
        return {h: c for h, c in self.capabilities.items() if h not in removed}

    async def _change(self, capabilities: Mapping[str, Capabilities]) -> None:
        """Append a record with a new list, unless another coordinator has appended one.

        In both cases the last record is read afterwards.
        """
        record = system_event(new_event(COORDINATORS_STREAM, _record_of(capabilities)))
        expect = {COORDINATORS_STREAM: self.version}
        try:
            await self._store.append([record], expect=expect)
        except VersionConflict:
            pass
        except OutcomeUnknown:
            await anyio.sleep(pause_after_contention(0.0))
        await self.read()


def _record_of(capabilities: Mapping[str, Capabilities]) -> CoordinatorsChanged:
    """Build the record, which contains equal capabilities only once."""
    distinct = dict.fromkeys(capabilities.values())
    indexes = {one: index for index, one in enumerate(distinct)}
    members = tuple((holder, indexes[one]) for holder, one in capabilities.items())
    return CoordinatorsChanged(members, tuple(tuple(sorted(one)) for one in indexes))


def _list_in(recorded: RecordedEvent) -> Mapping[str, Capabilities]:
    """Return the list in a record.

    If the record can't be decoded, return an empty list. Each coordinator then finds
    itself missing, and adds itself again.
    """
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
    distinct = [
        frozenset(Declaration(*fields) for fields in one)
        for one in changed.declarations
    ]
    for holder, index in changed.members:
        yield holder, distinct[index]
