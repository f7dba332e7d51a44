"""The sagas that one coordinator drives, and those for which its callers wait.

A run is the object that represents one saga in this process. All callers of a saga
share the same run. If there were a second run, a notification would reach only some of
the callers.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from eventbraid.errors import CoordinatorClosed
from eventbraid.saga.coordination._blocked_registry import BlockedSaga
from eventbraid.saga.coordination._saga_summary import summary_of
from eventbraid.saga.machine._progress import SagaStatus
from eventbraid.saga.running._pace import TASKS_A_TURN, Pace
from eventbraid.saga.running._shard_mapping import shard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from eventbraid.errors import SagaBlocked
    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._saga_summary import SagaSummary
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.saga.running._records import StreamHead
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease


class SagaRegistry:
    """The runs of one coordinator, in three groups.

    * at work: the saga is driven here, and has a task or a timer.
    * stuck: the saga is in a shard of this coordinator, and needs a person's decision.
    * elsewhere: another coordinator has the saga's shard, or the saga is blocked here.
      Such a run only serves waiting callers, so it is kept only while a caller refers
      to it.

    Args:
        blocked: The blocked sagas. A saga that is put to work is removed from them.
    """

    __slots__ = ("_at_work", "_blocked", "_elsewhere", "_stuck")

    def __init__(self, blocked: BlockedRegistry) -> None:
        """Begin without sagas."""
        self._blocked = blocked
        self._at_work: dict[str, Run[Any]] = {}
        self._stuck: dict[str, Run[Any]] = {}
        self._elsewhere: MutableMapping[str, Run[Any]] = weakref.WeakValueDictionary()

    # --- lookups ---------------------------------------------------------------------

    @property
    def at_work(self) -> Mapping[str, Run[Any]]:
        """The runs that are driven, by the ids of their sagas."""
        return self._at_work

    def find(self, saga_id: str) -> Run[Any] | None:
        """Return the run of a saga that is at work or stuck here."""
        return self._at_work.get(saga_id) or self._stuck.get(saga_id)

    def find_elsewhere(self, saga_id: str) -> Run[Any] | None:
        """Return the run of a saga that isn't driven here, if a caller refers to it."""
        return self._elsewhere.get(saga_id)

    def is_at_work(self, run: Run[Any]) -> bool:
        """Return whether a run is driven here."""
        return self._at_work.get(run.id) is run

    def is_stuck(self, run: Run[Any]) -> bool:
        """Return whether a run is stuck here."""
        return self._stuck.get(run.id) is run

    def is_elsewhere(self, run: Run[Any]) -> bool:
        """Return whether a run isn't driven here and isn't stuck here."""
        return self._elsewhere.get(run.id) is run

    def is_blocked(self, run: Run[Any]) -> bool:
        """Return whether a saga is blocked here and hasn't been driven again since."""
        return run.id in self._blocked.sagas and self.is_elsewhere(run)

    def is_listed(self, saga_id: str) -> bool:
        """Return whether a saga is at work, stuck or blocked here."""
        return self.find(saga_id) is not None or saga_id in self._blocked.sagas

    def has_run(self, saga_id: str) -> bool:
        """Return whether this process has a run of a saga."""
        return self.find(saga_id) is not None or saga_id in self._elsewhere

    def of(self, shard_lease: ShardLease) -> list[Run[Any]]:
        """Return the runs under a lease."""
        runs = [*self._at_work.values(), *self._stuck.values()]
        return [run for run in runs if run.shard_lease is shard_lease]

    # --- changes ---------------------------------------------------------------------

    def adopt(self, read: Run[Any]) -> Run[Any]:
        """Return the run of a saga that was just read from the log.

        If callers refer to an older run of the saga, that run adopts the new state and
        is returned.
        """
        held = self._elsewhere.pop(read.id, None)
        if held is None or held is read:
            return read
        held.adopt(read)
        return held

    def begin(self, run: Run[Any]) -> None:
        """Put a saga to work."""
        self._stuck.pop(run.id, None)
        self._blocked.remove(run.id)
        self._at_work[run.id] = run

    def note_at_rest(self, run: Run[Any]) -> None:
        """Notify the callers of a saga that has ended or is stuck; stop driving it."""
        if self.is_at_work(run):
            del self._at_work[run.id]
        if run.progress.status is SagaStatus.STUCK:
            self.add_stuck(run)
        run.mark_at_rest()

    def add_stuck(self, run: Run[Any]) -> None:
        """Add a stuck saga of this coordinator's shards."""
        self._stuck[run.id] = run

    def add_elsewhere(self, run: Run[Any]) -> None:
        """Keep the run of a saga that isn't driven here while a caller refers to it."""
        self._elsewhere[run.id] = run

    def remove_elsewhere(self, run: Run[Any]) -> None:
        """Remove a run that was kept for its callers."""
        self._elsewhere.pop(run.id, None)

    def add_blocked(
        self,
        progress: Progress,
        error: SagaBlocked,
        head: StreamHead,
        shard_lease: ShardLease,
    ) -> None:
        """Add a saga that this program can't drive, and notify its callers.

        Args:
            progress: The saga's progress, as far as its stream can be folded.
            error: The reason.
            head: The head of its stream.
            shard_lease: The lease under which it is blocked.
        """
        self._blocked.add(BlockedSaga(progress, error, head, shard_lease))
        # The saga may have been driven here. Or a caller may have begun to wait while
        # another coordinator had the shard.
        run = self._at_work.pop(progress.id, None) or self.find_elsewhere(progress.id)
        if run is not None:
            # The run is kept, so that its callers can wait for the saga again later.
            self.add_elsewhere(run)
            run.mark_at_rest(error)

    def reopen(self, shard: int) -> None:
        """Let the callers of blocked sagas in a shard wait again.

        The shard has a new holder, which may be able to drive these sagas. If it isn't,
        it appends a notice of its own.
        """
        for run in [*self._elsewhere.values()]:
            if run.error is None or run.progress.status.ended:
                continue
            if shard_of(run.id) == shard:
                run.clear_at_rest()

    def hand_over(self, shard_lease: ShardLease) -> list[Run[Any]]:
        """Remove the sagas of a lease that has ended; their callers continue to wait.

        Returns:
            The runs that were driven under the lease.
        """
        runs = self.of(shard_lease)
        for run in runs:
            self._at_work.pop(run.id, None)
            self._stuck.pop(run.id, None)
            self.add_elsewhere(run)
        self._blocked.remove_of(shard_lease)
        return runs

    async def close(self, cause: BaseException | None = None) -> None:
        """Notify all waiting callers that their saga isn't driven here any more.

        Args:
            cause: The error that ended the coordinator, if one did.
        """
        pace = Pace(TASKS_A_TURN)
        for run in [*self._at_work.values(), *self._elsewhere.values()]:
            if not run.at_rest.is_set():
                closed = CoordinatorClosed()
                closed.__cause__ = cause
                run.mark_at_rest(closed)
            await pace.yield_if_due()
        self._at_work.clear()
        self._elsewhere.clear()

    async def summaries(self) -> list[SagaSummary]:
        """Return the summaries of all sagas here: at work, then stuck, then blocked."""
        found: list[SagaSummary] = []
        pace = Pace()
        for run in [*self._at_work.values(), *self._stuck.values()]:
            found.append(summary_of(run.progress))
            await pace.yield_if_due()
        return found + await self._blocked.summaries()
