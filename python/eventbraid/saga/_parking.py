"""Tells in the log which sagas their owner can't drive, for those who wait elsewhere.

That a saga is parked says something of the program that has its shard and nothing of
the saga, so it isn't recorded in the saga's stream. It is told on the attention stream,
as is that one is stuck. The notice demands the shard's fence and the saga's version. So
it holds from its place in the log until the shard is taken anew or let go, or until the
saga's stream moves on; whoever reads it can tell by the log alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from eventbraid.errors import EventDecodeError, UnknownEventType, VersionConflict
from eventbraid.event import decode_event, encode_event
from eventbraid.role._event import PREFIX
from eventbraid.saga._event import (
    ATTENTION_STREAM,
    ATTENTION_TYPE,
    SagaNeedsAttention,
)
from eventbraid.saga._shards import role_of, shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eventbraid.saga._handle import Run
    from eventbraid.saga._roster import Parked
    from eventbraid.saga._shards import Shards, Tenure
    from eventbraid.store import AsyncEventStore, RecordedEvent

_log = logging.getLogger(__name__)

# Notices of one commit, and notices read at a time.
_MOST_TOLD = 256
_PAGE = 16
# The text of any error may come in, and a notice mustn't fail for it.
_MOST_CHARACTERS = 4_000


class Parking:
    """Tells what is parked here, and finds what was told elsewhere.

    Args:
        store: The store.
        shards: Knows which shards are this coordinator's.
    """

    __slots__ = ("_shards", "_store")

    def __init__(self, store: AsyncEventStore, shards: Shards) -> None:
        """Tell nothing yet."""
        self._store = store
        self._shards = shards

    async def tell(self, parked: Iterable[Parked]) -> list[str]:
        """Tell of sagas that are parked, once for each of their versions.

        Returns:
            Those that have moved on since they were parked: they weren't told of, and
            are to be looked at again.
        """
        untold: list[tuple[Parked, Tenure]] = []
        for one in parked:
            tenure = self._shards.mine.get(shard_of(one.id))
            if tenure is not None and tenure.told.get(one.id) != one.version:
                untold.append((one, tenure))
        moved: list[str] = []
        for start in range(0, len(untold), _MOST_TOLD):
            moved += await self._tell(untold[start : start + _MOST_TOLD])
        return moved

    async def reason(self, run: Run[Any]) -> str | None:
        """Give why a saga is parked at the coordinator that has its shard.

        Returns:
            The reason; None if it isn't parked, as far as the log says, or has moved on
            from what is known of it here.
        """
        last = await self._last(run.id)
        if last is None or last.version != run.version:
            return None
        found = await self._notice(run.id, last.position)
        if found is None:
            return None
        recorded, notice = found
        standing = await self._last(PREFIX + role_of(shard_of(run.id)))
        if standing is not None and standing.position > recorded.position:
            # Whoever has the shard now may well drive it, or will tell if not.
            return None
        return notice.reason

    async def _tell(self, untold: list[tuple[Parked, Tenure]]) -> list[str]:
        moved: list[str] = []
        while untold:
            expect: dict[str, int] = {}
            for one, tenure in untold:
                expect |= {one.id: one.version, **tenure.fence}
            notices = [_notice_of(one) for one, _ in untold]
            try:
                await self._store.append(notices, expect=expect)
            except VersionConflict as conflict:
                failed = {failure.stream for failure in conflict.failures}
                moved += [one.id for one, _ in untold if one.id in failed]
                # Of a shard that is lost its new owner tells.
                untold = [
                    (one, tenure)
                    for one, tenure in untold
                    if failed.isdisjoint({one.id, *tenure.fence})
                ]
            else:
                for one, tenure in untold:
                    tenure.told[one.id] = one.version
                return moved
        return moved

    async def _notice(
        self, saga_id: str, after: int
    ) -> tuple[RecordedEvent, SagaNeedsAttention] | None:
        """Find the last notice of a saga, if there is one behind a position."""
        before: int | None = None
        while True:
            page = await self._read_back(ATTENTION_STREAM, _PAGE, before)
            for recorded in page:
                if recorded.position < after:
                    return None
                notice = notice_in(recorded)
                if notice is not None and notice.saga_id == saga_id:
                    return recorded, notice
            if len(page) < _PAGE:
                return None
            before = page[-1].version

    async def _last(self, stream: str) -> RecordedEvent | None:
        found = await self._read_back(stream, 1)
        return found[0] if found else None

    async def _read_back(
        self, stream: str, limit: int, before: int | None = None
    ) -> Sequence[RecordedEvent]:
        newest = self._store.read_stream(
            stream, backward=True, limit=limit, before=before
        )
        return [recorded async for recorded in newest]


def _notice_of(parked: Parked) -> tuple[str, str, bytes]:
    progress, error = parked.progress, parked.error
    reason = error.reason[:_MOST_CHARACTERS].encode(errors="replace").decode()
    step = progress.current or ""
    notice = SagaNeedsAttention(parked.id, progress.saga, step, reason)
    return (ATTENTION_STREAM, *encode_event(notice))


def notice_in(recorded: RecordedEvent) -> SagaNeedsAttention | None:
    """Give the notice that a record of the attention stream holds, if it is one.

    Anybody can write there, and what can't be read must stop no coordinator.
    """
    if recorded.type != ATTENTION_TYPE:
        return None
    try:
        return cast("SagaNeedsAttention", decode_event(recorded))
    except (EventDecodeError, UnknownEventType) as error:
        _log.warning("a record on %r is passed over: %s", ATTENTION_STREAM, error)
        return None
