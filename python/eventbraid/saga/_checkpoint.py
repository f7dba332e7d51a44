"""Which sagas are unfinished, known exactly and without reading the whole log.

A checkpoint holds a position and the sagas that were unfinished as of it. What is
behind the position is folded from the log itself, never from a coordinator's memory: so
it is exact whatever was in flight, whichever coordinator wrote it, and a crash at any
moment only makes the next fold longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from eventbraid.event import decode_event, encode_event
from eventbraid.saga._event import (
    CHECKPOINT_STREAM,
    ENDED_TYPES,
    STARTED_TYPE,
    SagaCheckpoint,
)

if TYPE_CHECKING:
    from eventbraid.store import AsyncEventStore, RecordedEvent

# A checkpoint of more sagas would near the largest event that a store takes.
MOST_OPEN = 30_000


class OpenSagas:
    """The fold of all sagas' starts and ends up to a position."""

    __slots__ = ("_store", "ids", "position")

    def __init__(self, store: AsyncEventStore) -> None:
        """Know of nothing yet."""
        self._store = store
        self.position = 0
        self.ids: set[str] = set()

    async def load(self) -> None:
        """Begin with the last checkpoint and fold what came since."""
        last = self._store.read_stream(CHECKPOINT_STREAM, backward=True, limit=1)
        async for recorded in last:
            checkpoint = cast("SagaCheckpoint", decode_event(recorded))
            self.position = checkpoint.position
            self.ids = set(checkpoint.open)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Fold what was recorded since the last time."""
        # The head is asked first: the read may go beyond it, and folding an event twice
        # changes nothing, but a position beyond what was folded would lose sagas.
        head = await self._store.head()
        news = self._store.read_all(
            after=self.position, types=(STARTED_TYPE, *ENDED_TYPES)
        )
        async for recorded in news:
            self.fold(recorded)
        self.reach(head)

    def fold(self, recorded: RecordedEvent) -> None:
        """Fold one event, unless it was folded already.

        So several may fold at the same time, each in the order of the log.
        """
        if recorded.position <= self.position:
            return
        if recorded.type == STARTED_TYPE and recorded.version == 1:
            self.ids.add(recorded.stream)
        elif recorded.type in ENDED_TYPES:
            self.ids.discard(recorded.stream)
        self.position = recorded.position

    def reach(self, position: int) -> None:
        """Note that all up to a position is folded."""
        self.position = max(self.position, position)

    async def save(self) -> None:
        """Write a checkpoint of now, unless there are too many open sagas for one."""
        await self.catch_up()
        if len(self.ids) > MOST_OPEN:
            return
        checkpoint = SagaCheckpoint(self.position, tuple(sorted(self.ids)))
        await self._store.append([(CHECKPOINT_STREAM, *encode_event(checkpoint))])
