"""Starts each saga only once, even if several callers start it at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from eventbraid.errors import (
    InvalidArgument,
    LeaseLost,
    SagaExists,
    SagaNotFound,
    VersionConflict,
)
from eventbraid.saga.definition._declaration import declaration_of
from eventbraid.saga.machine._events import ATTENTION_STREAM
from eventbraid.saga.machine._idempotency_keys import check_saga_id
from eventbraid.saga.machine._outcomes import Start
from eventbraid.saga.machine._progress import Progress
from eventbraid.saga.machine._state import SagaState
from eventbraid.saga.running._clock import SagaClock
from eventbraid.saga.running._records import head_of_new_saga
from eventbraid.saga.running._run import Run
from eventbraid.saga.running._worker import current_worker

if TYPE_CHECKING:
    from eventbraid.saga.coordination._definition_registry import DefinitionRegistry
    from eventbraid.saga.coordination._saga_finder import SagaFinder
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.coordination._starts import StartsInProgress
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.coordination._worker_pool import WorkerPool
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.running._clock import Clock
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._permits import Permit

S = TypeVar("S")


class SagaStarter:
    """Starts the sagas of one coordinator.

    Args:
        journal: Writes the sagas' streams.
        definitions: The declarations of this program.
        registry: The sagas of this coordinator.
        starts: The starts that are in progress here.
        finder: Finds sagas that were started before.
        intake: Drives a saga whose start was only recorded.
        shards: The leases of this coordinator.
        workers: Drive the sagas.
        wakeup: Is notified when a start failed here but may be in the log.
    """

    __slots__ = (
        "_definitions",
        "_finder",
        "_intake",
        "_journal",
        "_reader",
        "_registry",
        "_shards",
        "_starts",
        "_wakeup",
        "_workers",
    )

    def __init__(
        self,
        *,
        journal: Journal,
        definitions: DefinitionRegistry,
        registry: SagaRegistry,
        starts: StartsInProgress,
        finder: SagaFinder,
        intake: SagaIntake,
        shards: Shards,
        workers: WorkerPool,
        wakeup: Wakeup,
    ) -> None:
        """Keep the other parts of the coordinator; nothing is started yet."""
        self._journal = journal
        self._reader = journal.reader
        self._definitions = definitions
        self._registry = registry
        self._starts = starts
        self._finder = finder
        self._intake = intake
        self._shards = shards
        self._workers = workers
        self._wakeup = wakeup

    async def start(self, saga: Saga[S], saga_id: str, state: S) -> Run[S]:
        """Start a saga, or return the saga that was started before with the same state.

        Raises:
            SagaExists: A saga with another state, or a stream that isn't a saga's, has
                the id.
            InvalidArgument: The id isn't valid for a saga, or the coordinator wasn't
                given this declaration.
            InvalidValue: The state isn't of the declared type.
            CoordinatorClosed: The coordinator isn't running.
        """
        self._require_startable()
        if not self._definitions.has(saga):
            raise InvalidArgument(
                "saga", repr(saga), "it isn't among those given to the coordinator"
            )
        _check_id(saga, saga_id)
        while True:
            self._require_startable()
            run = None
            if not self._has_run_or_start(saga_id):
                run = await self._start_new(saga, saga_id, state)
            if run is not None:
                return run
            try:
                return await self._existing(saga, saga_id, state)
            except SagaExists:
                # The id may be free nevertheless: the other caller's start may have
                # been cancelled before its commit. Then this start is tried again.
                if await self._reader.exists(saga_id):
                    raise

    def _require_startable(self) -> None:
        """Raise if this coordinator can't record a start.

        While the coordinator is being left, the steps in progress end their actions,
        and may start sagas, which the next coordinator drives. If such a start were
        refused, the attempt of the step would fail.
        """
        if not self._workers.has_worker(current_worker()):
            self._workers.require_running()

    def _has_run_or_start(self, saga_id: str) -> bool:
        is_starting = self._starts.is_in_progress(saga_id)
        return is_starting or self._registry.has_run(saga_id)

    async def _start_new(self, saga: Saga[S], saga_id: str, state: S) -> Run[S] | None:
        """Record a start, and drive the saga; return None if the stream isn't empty."""
        self._starts.begin(saga_id)
        try:
            lease = self._shards.lease_for(saga_id, declaration_of(saga))
            # If a step starts this saga, the start must not wait for a permit. The saga
            # of that step holds a permit, so each of the two sagas could wait for the
            # other for ever.
            if lease is not None and current_worker() is None:
                return await self._start_here(saga, saga_id, state)
            return await self._start_elsewhere(saga, saga_id, state)
        except VersionConflict:
            return None
        except BaseException:
            # The start may be recorded nevertheless. If so, the log follower finds it.
            self._wakeup.notify()
            raise
        finally:
            self._starts.end(saga_id)
            self._intake.note_end_of_start(saga_id)

    async def _start_here(self, saga: Saga[S], saga_id: str, state: S) -> Run[S]:
        """Wait for a permit, and record the starts of the saga and of its first step.

        The lease is looked up after the wait, because it may be lost during the wait.
        The commit expects the lease's fencing token. If the lease is lost before the
        commit, the store refuses the commit. Then only the start is recorded, and
        another coordinator drives the saga.
        """
        run, start = _new_run(saga, saga_id, state, self._reader.clock)
        with self._workers.permit() as permit:
            await self._wait_for_permit(run, permit)
            self._workers.require_running()
            run.assign(self._shards.lease_for(saga_id, declaration_of(saga)))
            if run.shard_lease is not None and permit.is_held:
                try:
                    await self._journal.commit(run, *run.decide(start))
                except LeaseLost:
                    self._wakeup.notify()
                else:
                    self._workers.work_on(run, resumed=False, permit=permit.pass_on())
                    return run
        return await self._start_elsewhere(saga, saga_id, state)

    async def _wait_for_permit(self, run: Run[Any], permit: Permit) -> None:
        """Wait for a permit, or until a step of a saga at work needs the start."""
        if permit.acquire_nowait():
            return
        with self._starts.waiting_for_permit(run.id):
            await permit.acquire()

    async def _start_elsewhere(self, saga: Saga[S], saga_id: str, state: S) -> Run[S]:
        """Record only the start; the holder of the shard takes the first step.

        The holder is another coordinator, or this coordinator, which drives the saga as
        soon as the saga gets a permit.
        """
        run, start = _new_run(saga, saga_id, state, self._reader.clock)
        alone = Start(start.deadline, proceeds=False)
        # The run is added before the commit. Otherwise the log follower could read the
        # new record first and build a second run.
        self._registry.add_elsewhere(run)
        try:
            await self._journal.commit(run, *run.decide(alone))
        except BaseException:
            self._registry.remove_elsewhere(run)
            raise
        accepted = self._intake.accept(run)
        await self._intake.catch_up(accepted)
        return cast("Run[S]", accepted)

    async def _existing(self, saga: Saga[S], saga_id: str, state: S) -> Run[S]:
        """Return the saga with the id; raise if it was started with another state."""
        try:
            run = await self._finder.find(saga_id)
        except SagaNotFound:
            raise SagaExists(saga_id, "the stream holds something else") from None
        if run.saga.name != saga.name:
            raise SagaExists(saga_id, f"it is a saga {run.saga.name!r}")
        if not saga.state_codec.matches(state, run.progress.input):
            raise SagaExists(saga_id, "it was started with another state")
        return cast("Run[S]", run)


def _new_run(
    saga: Saga[S], saga_id: str, state: S, clock: Clock
) -> tuple[Run[S], Start]:
    """Return a run without records, and the request by which it is started."""
    initial = saga.state_codec.record(state)
    saga_clock = SagaClock(clock, is_new=True)
    now = saga_clock.now()
    deadline = None if saga.deadline is None else now + saga.deadline
    worker = current_worker()
    head = head_of_new_saga(saga_id, None if worker is None else worker.last_record)
    nothing = SagaState(Progress(saga_id), initial)
    return Run(saga, nothing, head, saga_clock), Start(deadline)


def _check_id(saga: Saga[Any], saga_id: str) -> None:
    if saga_id == ATTENTION_STREAM:
        raise InvalidArgument("saga id", saga_id, "this stream is the library's own")
    check_saga_id(saga, saga_id)
