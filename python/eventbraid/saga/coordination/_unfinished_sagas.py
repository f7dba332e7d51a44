"""Which sagas are unfinished, known exactly and without reading the whole log.

A checkpoint holds a position and the sagas that were unfinished as of it. What is
behind the position is folded from the log itself, never from a coordinator's memory: so
it is exact whatever was in flight, whichever coordinator wrote it, and a crash at any
moment only makes the next fold longer.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, cast

from eventbraid.errors import EventDecodeError, LimitExceeded, UnknownEventType
from eventbraid.event import decode_event, new_event
from eventbraid.saga.definition._declaration import Declaration, recorded_declaration
from eventbraid.saga.machine._events import (
    CHECKPOINT_STREAM,
    ENDED_TYPES,
    STARTED_TYPE,
    SagaCheckpoint,
)
from eventbraid.saga.running._pace import Pace
from eventbraid.saga.running._shard_lease import shard_of
from eventbraid.store._system import system_event

if TYPE_CHECKING:
    from collections.abc import KeysView, Mapping

    from eventbraid.store import AsyncStore, RecordedEvent

_log = logging.getLogger("eventbraid.saga")

_PAGE = 1_024
# A checkpoint of more sagas would near the largest event that a store takes.
MOST_OPEN = 30_000
# The declaration of one of a checkpoint's sagas that couldn't be read.
_UNREADABLE = -1

# A checkpoint is worth its record if the next fold would be longer by this.
_LONG_FOLD = 10_000
# Ended sagas that are remembered: many more than end between two looks at the log.
_ENDED_KEPT = 4_096
# Checkpoints that may follow each other at once, and the seconds for each further one.
_AT_ONCE = 12
_SECONDS_EACH = 60.0

Group = tuple[int, Declaration | None]


class CheckpointBudget:
    """Bounds how often a coordinator writes a checkpoint, however many sagas end.

    At most 72 come in an hour; what isn't in a checkpoint is folded from the log.
    """

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        """Begin with all that may be written at once."""
        self._full_at = -math.inf

    def spend(self, now: float) -> float:
        """Spend one checkpoint, and return in how many seconds it may be written.

        Args:
            now: The seconds of a monotonic clock.
        """
        self._full_at = max(self._full_at, now) + _SECONDS_EACH
        return max(self._full_at - now - _AT_ONCE * _SECONDS_EACH, 0.0)


class UnfinishedSagas:
    """The fold of all sagas' starts and ends up to a position.

    Attributes:
        position: The position.
        sagas: The unfinished sagas in the order of their starts, each with the
            declaration that it needs; None if its first record can't be read.
        groups: Their ids by shard and declaration.
    """

    __slots__ = (
        "_declarations",
        "_ended_here",
        "_has_changed",
        "_saved_position",
        "_store",
        "groups",
        "position",
        "sagas",
    )

    def __init__(self, store: AsyncStore) -> None:
        """Begin with none at position 0."""
        self._store = store
        # One object for all sagas that need the same one.
        self._declarations: dict[Declaration, Declaration] = {}
        # The last sagas that have ended here; the log says so a little later.
        self._ended_here: dict[str, None] = {}
        # Whether the last checkpoint isn't what the fold says, and how old it is.
        self._has_changed = False
        self._saved_position = 0
        self.position = 0
        self.sagas: dict[str, Declaration | None] = {}
        self.groups: dict[Group, dict[str, None]] = {}

    @property
    def ids(self) -> KeysView[str]:
        """The ids of the unfinished sagas."""
        return self.sagas.keys()

    async def load(self) -> None:
        """Begin with the last checkpoint and fold what came since."""
        checkpoint = await self._last_checkpoint()
        if checkpoint is not None:
            await self._restore(checkpoint)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Fold what was recorded since the last time."""
        # The head is asked first: the read may go beyond it, and folding an event twice
        # changes nothing, but a position beyond what was folded would lose sagas.
        head = await self._store.head()
        pace = Pace()
        position, is_last = self.position, False
        while not is_last:
            news = self._store.read_all(
                after=position, types=(STARTED_TYPE, *ENDED_TYPES), limit=_PAGE
            )
            # The whole page first: a cancellation at `keep` would leave the read open.
            page = [recorded async for recorded in news]
            for recorded in page:
                self.fold(recorded)
                await pace.keep()
            is_last = len(page) < _PAGE
            position = page[-1].position if page else position
        self.reach(head)

    def fold(self, recorded: RecordedEvent) -> None:
        """Fold one event, unless it was folded already.

        So several may fold at the same time, each in the order of the log.
        """
        if recorded.position <= self.position:
            return
        if recorded.type == STARTED_TYPE and recorded.version == 1:
            self._add(recorded.stream, recorded_declaration(recorded))
            self._has_changed = True
        elif recorded.type in ENDED_TYPES:
            self._remove(recorded.stream)
            self._has_changed = True
        self.position = recorded.position

    def note_end(self, saga_id: str) -> None:
        """Remember that a saga has ended, before its end is folded."""
        self._ended_here[saga_id] = None
        if len(self._ended_here) > _ENDED_KEPT:
            del self._ended_here[next(iter(self._ended_here))]

    def needs_driver(self, saga_id: str) -> bool:
        """Return whether a saga is unfinished, as far as is known here."""
        return saga_id in self.sagas and saga_id not in self._ended_here

    def reach(self, position: int) -> None:
        """Record that all up to a position is folded."""
        self.position = max(self.position, position)

    async def save(self) -> None:
        """Write a checkpoint of now.

        Unless there are too many open sagas for one, or it would save the next fold
        next to nothing.
        """
        await self.catch_up()
        is_worth_it = (
            self._has_changed or self.position - self._saved_position > _LONG_FOLD
        )
        if len(self.sagas) > MOST_OPEN or not is_worth_it:
            return
        indexes = {one: index for index, one in enumerate(self._needed())}
        needs = [_UNREADABLE if d is None else indexes[d] for d in self.sagas.values()]
        checkpoint = SagaCheckpoint(
            self.position, tuple(self.sagas), tuple(indexes), tuple(needs)
        )
        event = system_event(new_event(CHECKPOINT_STREAM, checkpoint))
        try:
            await self._store.append([event])
        except LimitExceeded as error:
            # The ids are too long; the log is folded from an older checkpoint on.
            _log.warning("no checkpoint of %d sagas: %s", len(self.sagas), error)
            return
        self._has_changed = False
        self._saved_position = checkpoint.position

    # --- within ----------------------------------------------------------------------

    def _needed(self) -> Mapping[Declaration, None]:
        return {need: None for _, need in self.groups if need is not None}

    def _add(self, saga_id: str, needed: Declaration | None) -> None:
        if needed is not None:
            needed = self._declarations.setdefault(needed, needed)
        self.sagas[saga_id] = needed
        self.groups.setdefault((shard_of(saga_id), needed), {})[saga_id] = None

    def _remove(self, saga_id: str) -> None:
        if saga_id not in self.sagas:
            return
        key = shard_of(saga_id), self.sagas.pop(saga_id)
        group = self.groups[key]
        del group[saga_id]
        if not group:
            del self.groups[key]

    async def _last_checkpoint(self) -> SagaCheckpoint | None:
        """Read the newest checkpoint that can be read."""
        before: int | None = None
        while True:
            last = self._store.read_stream(
                CHECKPOINT_STREAM, backward=True, limit=1, before=before
            )
            found = [recorded async for recorded in last]
            if not found:
                return None
            checkpoint = _checkpoint_in(found[0])
            if checkpoint is not None:
                return checkpoint
            before = found[0].version

    async def _restore(self, checkpoint: SagaCheckpoint) -> None:
        pace = Pace()
        declarations = [Declaration(*fields) for fields in checkpoint.declarations]
        for index, saga_id in enumerate(checkpoint.open):
            if checkpoint.needs:
                need = checkpoint.needs[index]
                needed = None if need == _UNREADABLE else declarations[need]
            else:
                needed = await self._read_declaration(saga_id)
            self._add(saga_id, needed)
            await pace.keep()
        self.position = self._saved_position = checkpoint.position

    async def _read_declaration(self, saga_id: str) -> Declaration | None:
        first = self._store.read_stream(saga_id, limit=1)
        found = [recorded async for recorded in first]
        return recorded_declaration(found[0]) if found else None


def _checkpoint_in(recorded: RecordedEvent) -> SagaCheckpoint | None:
    """Return the checkpoint in a record; None if the record makes no sense."""
    try:
        checkpoint = cast("SagaCheckpoint", decode_event(recorded))
        if _is_plausible(checkpoint, recorded.position):
            return checkpoint
        problem = "its content is inconsistent"
    except (EventDecodeError, UnknownEventType, ValueError, RecursionError) as error:
        problem = str(error)
    _log.warning(
        "skipped version %d of stream %r, an older checkpoint is used: %s",
        recorded.version,
        CHECKPOINT_STREAM,
        problem,
    )
    return None


def _is_plausible(checkpoint: object, position: int) -> bool:
    if not isinstance(checkpoint, SagaCheckpoint):
        return False
    if not 0 <= checkpoint.position < position:
        return False
    if not checkpoint.needs:
        return not checkpoint.declarations
    known = range(_UNREADABLE, len(checkpoint.declarations))
    return len(checkpoint.needs) == len(checkpoint.open) and all(
        need in known for need in checkpoint.needs
    )
