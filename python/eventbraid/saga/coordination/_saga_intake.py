"""The intake of sagas: finds the sagas that this coordinator must begin to drive.

This coordinator must begin to drive a saga after one of two records: the start of the
saga, or the acquisition of the lease of its shard. The log follower notes both while it
reads the log, and then calls `read_due_sagas`, which reads the sagas and puts them to
work. No saga can be missed, because the follower reads the log in order. At the
acquisition of a lease, the follower has read the starts of all earlier sagas of the
shard. It will read the start of each later saga.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.errors import SagaBlocked
from eventbraid.saga.definition._declaration import declaration_of
from eventbraid.saga.machine._progress import SagaStatus
from eventbraid.saga.running._pace import TASKS_A_TURN, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eventbraid.saga.coordination._attention_questions import AttentionQuestions
    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._lease_table import Part
    from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
    from eventbraid.saga.coordination._saga_loader import SagaLoader
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.coordination._starts import StartsInProgress
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.coordination._worker_pool import WorkerPool
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run


class SagaIntake:
    """Reads the sagas that this coordinator must drive, and puts them to work.

    Args:
        journal: Reads the sagas' streams again.
        loader: Reads sagas from the log.
        registry: The sagas of this coordinator.
        blocked: Its blocked sagas.
        unfinished: The unfinished sagas of the store.
        starts: The starts that are in progress here.
        shards: The leases of this coordinator.
        live: The live coordinators.
        workers: Drive the sagas.
        questions: Accepts the question whether a saga is blocked at another
            coordinator.
        wakeup: Is notified when a saga must be read again.
    """

    __slots__ = (
        "_again",
        "_blocked",
        "_gained",
        "_journal",
        "_live",
        "_loader",
        "_questions",
        "_registry",
        "_shards",
        "_started",
        "_starts",
        "_unfinished",
        "_wakeup",
        "_workers",
    )

    def __init__(
        self,
        *,
        journal: Journal,
        loader: SagaLoader,
        registry: SagaRegistry,
        blocked: BlockedRegistry,
        unfinished: UnfinishedSagas,
        starts: StartsInProgress,
        shards: Shards,
        live: LiveCoordinators,
        workers: WorkerPool,
        questions: AttentionQuestions,
        wakeup: Wakeup,
    ) -> None:
        """Begin without sagas to read."""
        self._journal = journal
        self._loader = loader
        self._registry = registry
        self._blocked = blocked
        self._unfinished = unfinished
        self._starts = starts
        self._shards = shards
        self._live = live
        self._workers = workers
        self._questions = questions
        self._wakeup = wakeup
        # What `read_due_sagas` has to read: sagas that were started, blocked sagas that
        # must be read again, and the parts of gained leases.
        self._started: dict[str, None] = {}
        self._again: dict[str, None] = {}
        self._gained: dict[Part, None] = {}

    # --- one saga --------------------------------------------------------------------

    def accept(self, read: Run[Any]) -> Run[Any]:
        """Drive a saga that was read, unless it is at rest or driven elsewhere.

        Returns:
            The run of the saga at this coordinator.
        """
        existing = self._registry.find(read.id)
        if existing is not None:
            return existing
        run = self._registry.adopt(read)
        status = run.progress.status
        blocked = self._blocked.sagas.get(run.id)
        if blocked is not None and blocked.is_blocked_at(run.version):
            # The saga isn't driven again: the same code would fail with the same
            # defect.
            self._registry.add_elsewhere(run)
            run.mark_at_rest(blocked.error)
            return run
        if status.ended:
            run.mark_at_rest()
            return run
        run.assign(self._shards.lease_for(run.id, declaration_of(run.saga)))
        if run.shard_lease is None:
            self._registry.add_elsewhere(run)
        if status is SagaStatus.STUCK:
            if run.shard_lease is not None:
                self._registry.add_stuck(run)
            run.mark_at_rest()
        else:
            self._wait_for(run)
            if run.shard_lease is not None:
                self._workers.work_on(run, resumed=True)
        return run

    async def catch_up(self, run: Run[Any]) -> None:
        """Read the new records of a saga that another coordinator drives."""
        if not self._registry.is_elsewhere(run):
            return
        try:
            if await self._journal.reader.is_current(run):
                return
            await self._journal.reload(run)
        except SagaBlocked as error:
            run.mark_at_rest(error)
            return
        if run.progress.status.is_at_rest:
            run.mark_at_rest()
        else:
            self._wait_for(run)

    def _wait_for(self, run: Run[Any]) -> None:
        """Let callers wait again for a saga that is not at rest."""
        if run.error is not None:
            # The saga may be blocked at the version that was just read. The log
            # follower may have read the notice of this block already, and no further
            # notice follows. So the log follower has to search
            # the earlier notices.
            self._questions.ask(run)
        run.clear_at_rest()

    # --- the sagas to be read --------------------------------------------------------

    def note_start(self, saga_id: str) -> None:
        """Note that a saga was started."""
        self._started[saga_id] = None

    def note_end_of_start(self, saga_id: str) -> None:
        """Request that a saga is read whose start has ended, if it isn't driven.

        `read_due_sagas` skips a saga while its start is in progress, even if this
        coordinator has gained the saga's lease meanwhile. No further record of the log
        would lead the log follower to the saga.
        """
        if saga_id in self._started and self._must_be_read(saga_id):
            self._wakeup.notify()

    def note_gain(self, part: Part) -> None:
        """Note that this coordinator now drives the sagas of a part.

        A part is a shard, or the sagas of one declaration in a shard.
        """
        self._gained[part] = None

    def note_loss(self, part: Part) -> None:
        """Note that this coordinator no longer drives the sagas of a part."""
        self._gained.pop(part, None)

    def request_reread(self, saga_id: str) -> None:
        """Request that a blocked saga is read again, and driven if possible.

        Until the read, the saga stays in the list of blocked sagas. Otherwise
        `SagaCoordinator.blocked` would leave the saga out for a moment, although it is
        blocked before and after the read.
        """
        self._again[saga_id] = None
        self._wakeup.notify()

    async def read_due_sagas(
        self, take: Callable[[Run[Any]], object] | None = None
    ) -> None:
        """Read the sagas that this coordinator must drive and doesn't drive yet.

        Args:
            take: Is called with each saga that was read; by default `accept`.
        """
        take = take or self.accept
        started, self._started = self._started, {}
        again, self._again = self._again, {}
        gained, self._gained = self._gained, {}
        for saga_id in again:
            await self._read_again(saga_id, take)
        await self._read_each([*again, *started], take)

        def take_over(run: Run[Any]) -> None:
            # The former holder of the lease may have ended in the middle of an action
            # of this saga.
            run.take_over()
            take(run)

        for shard, needed in gained:
            for group in [*self._unfinished.groups]:
                if group[0] == shard and needed in {None, group[1]}:
                    sagas = self._unfinished.groups.get(group, ())
                    await self._read_each(sagas, take_over)

    async def _read_again(
        self, saga_id: str, take: Callable[[Run[Any]], object]
    ) -> None:
        """Read a saga that is listed as blocked, and correct its entry in the list."""
        before = self._blocked.sagas.get(saga_id)
        if before is None:
            return

        def take_unblocked(run: Run[Any]) -> None:
            self._blocked.remove(saga_id)
            take(run)

        await self._loader.load_for(saga_id, take_unblocked)
        if self._blocked.sagas.get(saga_id) is before:
            # The read has neither accepted the saga nor added it as blocked again. So
            # another coordinator drives it.
            self._blocked.remove(saga_id)

    async def _read_each(
        self, saga_ids: Iterable[str], take: Callable[[Run[Any]], object]
    ) -> None:
        pace = Pace(TASKS_A_TURN)
        for saga_id in [*saga_ids]:
            if self._starts.is_in_progress(saga_id):
                # The task that starts the saga also drives it. That task may fail, so
                # check the saga again at the next call.
                self.note_start(saga_id)
            elif self._must_be_read(saga_id):
                await self._loader.load_for(saga_id, take)
            await pace.yield_if_due()
            if self._workers.is_stopping:
                return

    def _must_be_read(self, saga_id: str) -> bool:
        """Return whether this coordinator must begin to drive or report a saga."""
        if self._registry.is_listed(saga_id):
            return False
        if not self._unfinished.needs_driver(saga_id):
            return False
        needed = self._unfinished.sagas[saga_id]
        if self._shards.lease_for(saga_id, needed) is None:
            return False
        # If this coordinator lacks the code and another live coordinator has it, the
        # other one drives the saga. If no live coordinator has the code, the holder of
        # the shard reports the saga as blocked.
        if needed is None or needed in self._live.own:
            return True
        return not self._live.can_run(needed)
