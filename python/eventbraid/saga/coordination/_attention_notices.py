"""Which notice of a saga is the last one on the attention stream.

The stream is never shortened, so it isn't searched anew for each saga: the news are
noted as the follower reads them, and what stands before them is read back once, no
further than somebody asks, and all who ask together are answered by one pass.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple, cast

from eventbraid.errors import EventDecodeError, UnknownEventType
from eventbraid.event import decode_event
from eventbraid.saga.machine._events import (
    ATTENTION_STREAM,
    ATTENTION_TYPE,
    SagaNeedsAttention,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventbraid.store import AsyncStore, RecordedEvent

_log = logging.getLogger("eventbraid.saga")

# Notices read at a time, and sagas of which the place of a notice is kept: a few MB.
_PAGE = 1_024
_MOST_KEPT = 32_768


class Place(NamedTuple):
    """Where a notice stands: its position in the log, and its version in its stream."""

    position: int
    version: int


class Notices:
    """The places of the last notices, of a bounded number of sagas.

    Only the loop of one follower uses it, so nothing is noted while something is
    sought.

    Args:
        store: The store.
        most: Of how many sagas a place is kept.
    """

    __slots__ = ("_before", "_last", "_most", "_since", "_store")

    def __init__(self, store: AsyncStore, most: int = _MOST_KEPT) -> None:
        """Know of none."""
        self._store = store
        self._most = most
        self._last: dict[str, Place] = {}
        # Each notice from this position on is known; older ones have lower versions.
        self._since: float = math.inf
        self._before: int | None = None

    def note(self, recorded: RecordedEvent) -> str | None:
        """Take in the next record of the stream.

        Returns:
            The saga that it is about; None if it is no notice.
        """
        if self._since == math.inf:
            self._since, self._before = recorded.position, recorded.version
        notice = _notice_in(recorded)
        if notice is None:
            return None
        self._last[notice.saga_id] = Place(recorded.position, recorded.version)
        if len(self._last) > self._most:
            self._forget_half()
        return notice.saga_id

    async def find(self, wanted: Mapping[str, int]) -> dict[str, Place]:
        """Find the last notices of sagas.

        Args:
            wanted: The sagas, each with the position behind which a notice counts.

        Returns:
            Where those stand that there are.
        """
        missing = {id_: after for id_, after in wanted.items() if id_ not in self._last}
        found = {id_: self._last[id_] for id_ in wanted if id_ in self._last}
        since, before = self._since, self._before
        while any(after < since for after in missing.values()):
            page = await self._read_back(_PAGE, before)
            places = _last_places(page)
            for saga_id in missing.keys() & places.keys():
                found[saga_id] = places[saga_id]
                del missing[saga_id]
            has_room = len(self._last) + len(places) <= self._most
            is_next = before == self._before
            if page:
                since, before = page[-1].position, page[-1].version
            if len(page) < _PAGE:
                since = 0
            if is_next and has_room:
                self._last = places | self._last
                self._since, self._before = since, before
        return {id_: at for id_, at in found.items() if at.position > wanted[id_]}

    async def reason(self, place: Place) -> str | None:
        """Read the reason that a notice gives."""
        for recorded in await self._read_back(1, place.version + 1):
            notice = _notice_in(recorded)
            if notice is not None:
                return notice.reason
        return None

    async def _read_back(
        self, limit: int, before: int | None
    ) -> Sequence[RecordedEvent]:
        older = self._store.read_stream(
            ATTENTION_STREAM, backward=True, limit=limit, before=before
        )
        return [recorded async for recorded in older]

    def _forget_half(self) -> None:
        """Forget the older half, which is read again if it is asked for."""
        by_age = sorted(self._last.items(), key=lambda item: item[1])
        half = len(by_age) // 2
        _, newest = by_age[half - 1]
        self._last = dict(by_age[half:])
        self._since, self._before = newest.position + 1, newest.version + 1


def _last_places(newest_first: Iterable[RecordedEvent]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for recorded in newest_first:
        notice = _notice_in(recorded)
        if notice is not None:
            place = Place(recorded.position, recorded.version)
            places.setdefault(notice.saga_id, place)
    return places


def _notice_in(recorded: RecordedEvent) -> SagaNeedsAttention | None:
    """Give the notice that a record of the stream holds.

    Anybody can write there, and what can't be read must stop no coordinator.
    """
    if recorded.type != ATTENTION_TYPE:
        return None
    try:
        return cast("SagaNeedsAttention", decode_event(recorded))
    except (EventDecodeError, UnknownEventType) as error:
        _log.warning("a record on %r is passed over: %s", ATTENTION_STREAM, error)
        return None
