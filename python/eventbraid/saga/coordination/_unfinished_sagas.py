"""The exact set of a store's unfinished sagas, without reading the whole log.

The set is a fold of the log: each start adds a saga, and each end removes one. A
coordinator begins the fold at the last checkpoint, so it needn't read the older part of
the log. A checkpoint is made from the fold and never from the sagas that a coordinator
drives. So it is exact, even if appends were in progress when it was written, and
whichever coordinator wrote it. If a crash prevents a checkpoint, the next fold is
longer, but not wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.saga.coordination._checkpoint import (
    UNREADABLE,
    checkpoint_of,
    read_last_checkpoint,
    write_checkpoint,
)
from eventbraid.saga.definition._declaration import Declaration, recorded_declaration
from eventbraid.saga.machine._events import ENDED_TYPES, STARTED_TYPE
from eventbraid.saga.running._pace import Pace
from eventbraid.saga.running._shard_mapping import shard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from eventbraid.saga.coordination._lease_table import Part
    from eventbraid.saga.machine._events import SagaCheckpoint
    from eventbraid.store import AsyncStore, RecordedEvent

_PAGE = 1_024
# A checkpoint with more sagas could exceed the largest event that a store accepts.
MAXIMUM_OPEN = 30_000
# A checkpoint is written even without changes if the next fold would otherwise read
# more than this number of events.
_LONG_FOLD = 10_000
# The maximum number of ended sagas that are kept. Between two reads of the log, far
# fewer sagas end.
_MAXIMUM_ENDED = 4_096


class UnfinishedSagas:
    """The fold of the starts and ends of all sagas up to a position.

    Attributes:
        position: The position.
    """

    __slots__ = (
        "_changes",
        "_declarations",
        "_ended_here",
        "_groups",
        "_sagas",
        "_saved_changes",
        "_saved_position",
        "_store",
        "position",
    )

    def __init__(self, store: AsyncStore) -> None:
        """Begin without sagas at position 0."""
        self._store = store
        self.position = 0
        self._sagas: dict[str, Declaration | None] = {}
        self._groups: dict[Part, dict[str, None]] = {}
        # One object for all sagas that need the same declaration.
        self._declarations: dict[Declaration, Declaration] = {}
        # The sagas that have ended here most recently. Their ends are folded a little
        # later.
        self._ended_here: dict[str, None] = {}
        # The number of starts and ends that this object has folded, and how many of
        # them the last checkpoint includes; then the position of that checkpoint. A
        # flag instead of the two numbers would lose a change: while a checkpoint is
        # appended, the log follower may fold further records.
        self._changes = 0
        self._saved_changes = 0
        self._saved_position = 0

    @property
    def sagas(self) -> Mapping[str, Declaration | None]:
        """The unfinished sagas, in the order of their starts.

        The value of a saga is the declaration that it needs; None if its first record
        can't be read.
        """
        return self._sagas

    @property
    def groups(self) -> Mapping[Part, Collection[str]]:
        """The ids of the unfinished sagas, by shard and declaration."""
        return self._groups

    def needed_by(self, saga_id: str) -> Declaration | None:
        """Return the declaration that a saga needs, if the saga is unfinished."""
        return self._sagas.get(saga_id)

    def needs_driver(self, saga_id: str) -> bool:
        """Return whether a saga is unfinished, and hasn't ended here meanwhile."""
        return saga_id in self._sagas and saga_id not in self._ended_here

    # --- the fold --------------------------------------------------------------------

    async def load(self) -> None:
        """Read the last checkpoint, and fold the log after it."""
        checkpoint = await read_last_checkpoint(self._store)
        if checkpoint is not None:
            await self._restore(checkpoint)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Fold the records since the last call."""
        # The head is read before the events. If it were read after them, it could be
        # beyond the last folded event, and the sagas that were started in between would
        # be missed. The read below may also return events beyond this head; `fold`
        # ignores an event that was folded before.
        head = await self._store.head()
        pace = Pace()
        position, is_last = self.position, False
        while not is_last:
            news = self._store.read_all(
                after=position, types=(STARTED_TYPE, *ENDED_TYPES), limit=_PAGE
            )
            # Read the whole page before the loop: a cancellation inside the loop would
            # leave the read open.
            page = [recorded async for recorded in news]
            for recorded in page:
                self.fold(recorded)
                await pace.yield_if_due()
            is_last = len(page) < _PAGE
            position = page[-1].position if page else position
        self.reach(head)

    def fold(self, recorded: RecordedEvent) -> None:
        """Fold one event, unless it was folded before.

        So several tasks may call this method at the same time, if each of them passes
        events in the log's order.
        """
        if recorded.position <= self.position:
            return
        if recorded.type == STARTED_TYPE and recorded.version == 1:
            self._add(recorded.stream, recorded_declaration(recorded))
            self._changes += 1
        elif recorded.type in ENDED_TYPES:
            self._remove(recorded.stream)
            self._changes += 1
        self.position = recorded.position

    def reach(self, position: int) -> None:
        """Note that all records up to a position are folded."""
        self.position = max(self.position, position)

    def note_end(self, saga_id: str) -> None:
        """Note that a saga has ended here, before its end is folded.

        Otherwise, if this coordinator gains the saga's lease before the end is folded,
        it would read the saga again.
        """
        self._ended_here[saga_id] = None
        if len(self._ended_here) > _MAXIMUM_ENDED:
            del self._ended_here[next(iter(self._ended_here))]

    def _add(self, saga_id: str, needed: Declaration | None) -> None:
        if needed is not None:
            needed = self._declarations.setdefault(needed, needed)
        self._sagas[saga_id] = needed
        self._groups.setdefault((shard_of(saga_id), needed), {})[saga_id] = None

    def _remove(self, saga_id: str) -> None:
        if saga_id not in self._sagas:
            return
        part = shard_of(saga_id), self._sagas.pop(saga_id)
        group = self._groups[part]
        del group[saga_id]
        if not group:
            del self._groups[part]

    # --- checkpoints -----------------------------------------------------------------

    async def save(self) -> None:
        """Write a checkpoint of the present fold, if that shortens the next fold.

        No checkpoint is written if it would have too many sagas, or if it would have
        the same sagas as the last one and the log has grown little since.
        """
        await self.catch_up()
        is_long = self.position - self._saved_position > _LONG_FOLD
        changes = self._changes
        has_changed = changes != self._saved_changes
        if len(self._sagas) > MAXIMUM_OPEN or not (has_changed or is_long):
            return
        checkpoint = checkpoint_of(self.position, self._sagas)
        if await write_checkpoint(self._store, checkpoint):
            self._saved_changes = changes
            self._saved_position = checkpoint.position

    async def _restore(self, checkpoint: SagaCheckpoint) -> None:
        pace = Pace()
        declarations = [Declaration(*fields) for fields in checkpoint.declarations]
        for index, saga_id in enumerate(checkpoint.open):
            if checkpoint.needs:
                need = checkpoint.needs[index]
                needed = None if need == UNREADABLE else declarations[need]
            else:
                needed = await self._read_declaration(saga_id)
            self._add(saga_id, needed)
            await pace.yield_if_due()
        self.position = self._saved_position = checkpoint.position

    async def _read_declaration(self, saga_id: str) -> Declaration | None:
        first = self._store.read_stream(saga_id, limit=1)
        found = [recorded async for recorded in first]
        return recorded_declaration(found[0]) if found else None
