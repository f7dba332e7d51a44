"""The last notice of each saga on the attention stream.

The stream only grows, and a search of the whole stream for each saga would take too
long. So the places of new notices are kept in memory when the log follower reads them.
Older notices are read backward, only once, and only as far as a call of `Notices.find`
needs. One pass serves all sagas of the call.
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

# The number of notices that are read at a time, and the maximum number of sagas for
# which the place of the last notice is kept (a few MB in all).
_PAGE = 1_024
_MAXIMUM_KEPT = 32_768


class Place(NamedTuple):
    """The place of a notice: its position in the log, and its version in its stream."""

    position: int
    version: int


class Notices:
    """The places of the last notices of a bounded number of sagas.

    Only the task of the log follower uses this object. So no notice is added during a
    search.

    Args:
        store: The store.
        maximum: The maximum number of sagas of which a place is kept.
    """

    __slots__ = ("_before", "_last", "_maximum", "_since", "_store")

    def __init__(self, store: AsyncStore, maximum: int = _MAXIMUM_KEPT) -> None:
        """Begin without notices."""
        self._store = store
        self._maximum = maximum
        self._last: dict[str, Place] = {}
        # For each saga with a notice at this position or later, the place of the last
        # notice is kept. Older notices have versions below `_before`.
        self._since: float = math.inf
        self._before: int | None = None

    def note(self, recorded: RecordedEvent) -> str | None:
        """Adopt the next record of the stream.

        Returns:
            The id of the saga in the notice; None if the record isn't a notice.
        """
        if self._since == math.inf:
            self._since, self._before = recorded.position, recorded.version
        notice = _notice_in(recorded)
        if notice is None:
            return None
        self._last[notice.saga_id] = Place(recorded.position, recorded.version)
        if len(self._last) > self._maximum:
            self._forget_half()
        return notice.saga_id

    async def find(self, wanted: Mapping[str, int]) -> dict[str, Place]:
        """Find the last notices of sagas.

        Args:
            wanted: The sagas, each with the position after which a notice counts.

        Returns:
            The places of the notices that were found.
        """
        missing = {id_: after for id_, after in wanted.items() if id_ not in self._last}
        found = {id_: self._last[id_] for id_ in wanted if id_ in self._last}
        since, before = self._since, self._before
        while any(after < since for after in missing.values()):
            page = await self._read_backward(_PAGE, before)
            places = _last_places(page)
            for saga_id in missing.keys() & places.keys():
                found[saga_id] = places[saga_id]
                del missing[saga_id]
            # The places of a page are kept only if there is room for all of them. If
            # only some were kept, the promise of `_since` would be broken: a saga
            # without a kept place could have a notice after `_since`.
            has_room = len(self._last) + len(places) <= self._maximum
            is_adjacent = before == self._before
            if page:
                since, before = page[-1].position, page[-1].version
            if len(page) < _PAGE:
                since = 0
            if is_adjacent and has_room:
                self._last = places | self._last
                self._since, self._before = since, before
        return {id_: at for id_, at in found.items() if at.position > wanted[id_]}

    async def reason(self, place: Place) -> str | None:
        """Read the reason in a notice."""
        for recorded in await self._read_backward(1, place.version + 1):
            notice = _notice_in(recorded)
            if notice is not None:
                return notice.reason
        return None

    async def _read_backward(
        self, limit: int, before: int | None
    ) -> Sequence[RecordedEvent]:
        older = self._store.read_stream(
            ATTENTION_STREAM, backward=True, limit=limit, before=before
        )
        return [recorded async for recorded in older]

    def _forget_half(self) -> None:
        """Remove the older half of the places; a later search reads them again."""
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
    """Return the notice in a record; None if the record isn't a notice.

    Any program can append to the attention stream. So a record that can't be decoded
    must not stop a coordinator.
    """
    if recorded.type != ATTENTION_TYPE:
        return None
    try:
        return cast("SagaNeedsAttention", decode_event(recorded))
    except (EventDecodeError, UnknownEventType) as error:
        _log.warning("skipped a record of stream %r: %s", ATTENTION_STREAM, error)
        return None
