"""The tasks of a coordinator: one a saga at work, and one that writes checkpoints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio

from eventbraid.errors import CoordinatorClosed, LeaseLost, SagaBlocked
from eventbraid.saga._cancellation import dropped_stray_cancellation
from eventbraid.saga._text import described
from eventbraid.saga.coordination._unfinished_sagas import CheckpointBudget
from eventbraid.saga.running._blocked_error import blocked_error
from eventbraid.saga.running._driver import Driver, Pause
from eventbraid.saga.running._error_classes import ENDS_THE_COORDINATOR
from eventbraid.saga.running._permits import Permits
from eventbraid.saga.running._timers import Timers
from eventbraid.saga.running._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from anyio.abc import TaskGroup

    from eventbraid.saga._cancellation import Host
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._permits import Permit
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease


class WorkerPool:
    """Works on sagas until it is told to stop, or the store is out of order.

    Args:
        journal: Reads and writes the sagas' streams.
        registry: Lists what is worked on.
        open_sagas: Knows which sagas are unfinished.
        wakeup: Is notified when a shard has no more sagas at work, or is lost.
        concurrency: How many sagas may be at work at a time.
        ends_a_checkpoint: After how many ended sagas a checkpoint is written.
    """

    __slots__ = (
        "_broken",
        "_checkpoint_due",
        "_driver",
        "_ended",
        "_ends_a_checkpoint",
        "_open_sagas",
        "_permits",
        "_registry",
        "_stopped",
        "_tasks",
        "_timers",
        "_timing",
        "_wakeup",
    )

    def __init__(
        self,
        journal: Journal,
        registry: SagaRegistry,
        open_sagas: UnfinishedSagas,
        wakeup: Wakeup,
        *,
        concurrency: int,
        ends_a_checkpoint: int,
    ) -> None:
        """Prepare; no task runs before `begin`."""
        self._permits = Permits(concurrency)
        self._timers = Timers(self._work_on_after_sleep)
        self._timing = anyio.CancelScope()
        self._driver = Driver(journal, self.pause)
        self._registry = registry
        self._open_sagas = open_sagas
        self._wakeup = wakeup
        self._ends_a_checkpoint = ends_a_checkpoint
        self._ended = 0
        self._checkpoint_due = anyio.Event()
        self._stopped = anyio.Event()
        self._tasks: TaskGroup | None = None
        self._broken: BaseException | None = None

    @property
    def begun(self) -> bool:
        """Tell whether it was ever told to begin."""
        return self._tasks is not None

    @property
    def running(self) -> bool:
        """Tell whether it was told to begin, and not to stop."""
        return self._tasks is not None and not self._driver.is_stopping

    @property
    def host(self) -> Host:
        """The task that entered the coordinator."""
        return self._driver.host

    @property
    def stopping(self) -> bool:
        """Return whether a stop was requested."""
        return self._driver.is_stopping

    def require_running(self) -> None:
        """Refuse to do what nobody would carry on.

        Raises:
            CoordinatorClosed: It wasn't told to begin, or was told to stop.
        """
        if not self.running:
            raise CoordinatorClosed

    def is_working(self, worker: Worker | None) -> bool:
        """Return whether a worker belongs to this coordinator and is at work."""
        return worker is not None and worker.belongs_to(self._permits)

    async def begin(self, follow: Callable[[], Awaitable[None]]) -> None:
        """Open the task group.

        Args:
            follow: Is done all the while, until the pool stops.
        """
        self._driver.host.enter()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._write_checkpoints)
        self._tasks.start_soon(self._wake_sleepers)
        self._tasks.start_soon(self._do, follow)

    async def end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Wait until each saga has finished its move, or was cancelled by an error.

        Returns:
            Whether the error was a cancellation that the pool itself had begun.

        Raises:
            EventbraidError: The store was out of order.
        """
        tasks = self._open_tasks()
        self._stop()
        is_ours: bool | None = None
        try:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                is_ours = await tasks.__aexit__(kind, error, traceback)
                if is_ours and self._broken is None:
                    # Only a cancelled task ends the group without an error.
                    self._broken = _cancelled_error()
            else:
                if error is not None:
                    tasks.cancel_scope.cancel()
                # Without the error, which would come out wrapped in a group.
                await tasks.__aexit__(None, None, None)
        finally:
            # However the tasks ended, no caller may wait for a saga any longer.
            with anyio.CancelScope(shield=True):
                await self._registry.close(self._broken)
        if self._broken is not None:
            raise self._broken
        return is_ours

    def permit(self) -> Permit:
        """Return a permit to work on a saga; it is not held yet."""
        return self._permits.permit()

    async def pause(self, seconds: float) -> bool:
        """Wait for seconds, or until a stop is requested; return whether it was."""
        with anyio.move_on_after(seconds):
            await self._stopped.wait()
        return self.stopping

    def work_again(self, run: Run[Any]) -> None:
        """Put a saga that was stuck back to work, from what its stream says."""
        if self._registry.stuck.get(run.id) is run:
            run.go_on()
            run.mark_stale()
            self.work_on(run, resumed=False)

    def work_on(
        self, run: Run[Any], *, resumed: bool, permit: Permit | None = None
    ) -> None:
        """Drive a saga until it rests, or its shard is given back.

        Args:
            run: The saga.
            resumed: Whether the attempt in flight was made by a process that has ended.
            permit: The saga's permit, if one was acquired for it; the task returns it.
        """
        tasks = self._open_tasks()
        run.let_go()
        self._registry.begin(run)
        if run.shard_lease is not None:
            run.shard_lease.begin_work()
        tasks.start_soon(self._work, run, resumed, permit or self.permit())

    async def _wake_sleepers(self) -> None:
        with self._timing:
            while True:
                async with dropped_stray_cancellation(self.host):
                    await self._timers.run()

    async def _do(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except GeneratorExit:
            raise
        except anyio.get_cancelled_exc_class():
            if not self.host.is_cancelled:
                self._break(_cancelled_error())
            raise
        except BaseException as error:  # noqa: BLE001 - raised when the block is left
            self._break(error)

    async def _work(self, run: Run[Any], resumed: bool, permit: Permit) -> None:  # noqa: FBT001 - start_soon takes no keywords
        shard_lease, end = run.shard_lease, None
        driver = self._driver
        worker = Worker(run, permit, driver.calls, driver.record_wait)
        with permit:
            try:
                end = await driver.drive(run, permit, resumed=resumed)
                self._note_rest(run)
            except ENDS_THE_COORDINATOR as error:
                self._break(error)
            except LeaseLost:
                # The log says so too, and what follows from it.
                if shard_lease is not None:
                    shard_lease.leave()
            except SagaBlocked as error:
                self._block_here(run, error)
            except (anyio.get_cancelled_exc_class(), GeneratorExit):
                raise
            except (KeyboardInterrupt, SystemExit) as error:
                self._break(error)
            except BaseException as error:  # noqa: BLE001 - one saga's bug must not stop the others
                failure = blocked_error(
                    run.progress, f"{described(error)}; correct the program"
                )
                failure.__cause__ = error
                self._block_here(run, failure)
            finally:
                worker.end()
                self._end_work(shard_lease)
        # Handed over meanwhile, it is woken by its next coordinator.
        if isinstance(end, Pause) and self._registry.at_work.get(run.id) is run:
            self._timers.sleep(run, end.seconds, resumed=end.resumed)
        elif run.setbacks.outage_blocks and self._is_blocked(run):
            seconds = self._driver.seconds_until_tried_again(run)
            self._timers.sleep(run, seconds, resumed=False)

    def _end_work(self, shard_lease: ShardLease | None) -> None:
        if shard_lease is not None:
            shard_lease.end_work()
            if shard_lease.is_leaving:
                self._wakeup.notify()

    def _work_on_after_sleep(self, run: Run[Any], resumed: bool) -> None:  # noqa: FBT001 - a callback
        """Put a saga back to work, unless it isn't to be driven here any more."""
        if self._driver.is_stopping or run.is_leaving:
            return
        if self._is_blocked(run):
            # The system refused something to it, and may not do so any more.
            run.setbacks.forget_refused()
            run.mark_stale()
            self._registry.elsewhere.pop(run.id, None)
            run.go_on()
        elif self._registry.at_work.get(run.id) is not run:
            return
        self.work_on(run, resumed=resumed)

    def _is_blocked(self, run: Run[Any]) -> bool:
        """Return whether a saga is blocked here, and not read anew since."""
        is_listed = run.id in self._registry.blocked
        return is_listed and self._registry.elsewhere.get(run.id) is run

    def _block_here(self, run: Run[Any], error: SagaBlocked) -> None:
        """List a saga as blocked, unless it was handed over meanwhile."""
        if self._registry.at_work.get(run.id) is run and run.shard_lease is not None:
            self._registry.add_blocked(run.progress, error, run.head, run.shard_lease)

    def _note_rest(self, run: Run[Any]) -> None:
        """Take a saga that rests from work; one that was only interrupted stays."""
        status = run.progress.status
        if status.is_at_rest:
            self._registry.leave(run)
        if status.ended:
            self._open_sagas.note_end(run.id)
            self._ended += 1
            if self._ended % self._ends_a_checkpoint == 0:
                self._checkpoint_due.set()

    async def _write_checkpoints(self) -> None:
        budget = CheckpointBudget()
        while True:
            async with dropped_stray_cancellation(self.host):
                await self._checkpoint_due.wait()
                if not await self._write_checkpoint(budget):
                    return

    async def _write_checkpoint(self, budget: CheckpointBudget) -> bool:
        """Write the checkpoint that is due; return whether more may follow."""
        if self._driver.is_stopping:
            return False
        self._checkpoint_due = anyio.Event()
        try:
            seconds = budget.spend(time.monotonic())
            if seconds:
                await self.pause(seconds)
            if not self.running:
                # One is written when the coordinator is left.
                return False
            await self._open_sagas.save()
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - raised when the block is left
            self._break(error)
            return False
        return True

    def _break(self, error: BaseException) -> None:
        """Stop everything: the store is out of order, or the program is being ended."""
        if self._broken is None:
            self._broken = error
        self._stop()
        self._open_tasks().cancel_scope.cancel()

    def _stop(self) -> None:
        self._driver.stop()
        self._permits.close()
        self._timing.cancel()
        self._checkpoint_due.set()
        self._stopped.set()
        self._wakeup.notify()

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise CoordinatorClosed
        return self._tasks


def _cancelled_error() -> CoordinatorClosed:
    return CoordinatorClosed(
        "the coordinator stops, because a task of it was cancelled by other code of "
        "the program; nothing is lost, correct it and start again"
    )
