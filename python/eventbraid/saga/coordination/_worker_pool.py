"""The tasks of a coordinator: one for each saga at work, and a few that serve all.

The pool ends in one of two ways. It is *stopped* when the coordinator is left: each
saga ends its current action and begins no further one. It is *broken* when the store
fails, or when the program is ended: all tasks are cancelled, and the error is raised
when the coordinator is left. Nothing is lost in either case, because a saga's stream
has the record of everything that the saga has done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from eventbraid.errors import CoordinatorClosed, LeaseLost, SagaBlocked
from eventbraid.saga._cancellation import dropped_stray_cancellation
from eventbraid.saga._text import described
from eventbraid.saga.coordination._checkpoint_writer import CheckpointWriter
from eventbraid.saga.running._blocked_error import blocked_error
from eventbraid.saga.running._commit_errors import ENDS_THE_COORDINATOR
from eventbraid.saga.running._driver import Driver, Pause
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
    from eventbraid.saga.machine._next_action import Terminal
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._permits import Permit
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease


class WorkerPool:
    """Drives sagas until it is stopped or broken.

    Args:
        journal: Reads and writes the sagas' streams.
        registry: The sagas of this coordinator.
        unfinished: The unfinished sagas of the store.
        wakeup: Is notified when a lease that is being given back has become idle.
        concurrency: The maximum number of sagas that are worked on at a time.
        ends_a_checkpoint: The number of ended sagas after which a checkpoint is
            written.
    """

    __slots__ = (
        "_broken",
        "_checkpoints",
        "_driver",
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
        *,
        journal: Journal,
        registry: SagaRegistry,
        unfinished: UnfinishedSagas,
        wakeup: Wakeup,
        concurrency: int,
        ends_a_checkpoint: int,
    ) -> None:
        """Build the pool; no task runs before `begin`."""
        self._permits = Permits(concurrency)
        self._timers = Timers(self._work_on_after_sleep)
        # The timers have a cancel scope of their own, because they end as soon as the
        # pool is stopped. The tasks of sagas continue until their current actions end.
        self._timing = anyio.CancelScope()
        self._driver = Driver(journal, self.pause)
        self._checkpoints = CheckpointWriter(unfinished, ends_a_checkpoint, self.pause)
        self._registry = registry
        self._wakeup = wakeup
        self._stopped = anyio.Event()
        self._tasks: TaskGroup | None = None
        self._broken: BaseException | None = None

    # --- begin and end ---------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._tasks is not None

    @property
    def is_running(self) -> bool:
        """Whether the pool has begun and isn't stopped."""
        return self._tasks is not None and not self._driver.is_stopping

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._driver.is_stopping

    @property
    def host(self) -> Host:
        """The task that entered the coordinator."""
        return self._driver.host

    def require_running(self) -> None:
        """Raise unless the pool is running.

        Raises:
            CoordinatorClosed: The pool has not begun, or is stopped.
        """
        if not self.is_running:
            raise CoordinatorClosed

    def has_worker(self, worker: Worker | None) -> bool:
        """Return whether a worker belongs to this pool; False for None."""
        return worker is not None and worker.belongs_to(self._permits)

    async def begin(self, follow: Callable[[], Awaitable[None]]) -> None:
        """Open the task group.

        Args:
            follow: Follows the log until the pool is stopped.
        """
        self._driver.host.enter()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._write_checkpoints)
        self._tasks.start_soon(self._end_sleeps)
        self._tasks.start_soon(self._follow, follow)

    async def end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop, and wait until each saga has ended its action or was cancelled.

        Args:
            kind: The class of the error that the coordinator's block raised, if any.
            error: The error.
            traceback: Its traceback.

        Returns:
            Whether the error was a cancellation that the pool itself had requested.

        Raises:
            EventbraidError: The store has failed.
        """
        tasks = self._open_tasks()
        self._stop()
        is_ours: bool | None = None
        try:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                is_ours = await tasks.__aexit__(kind, error, traceback)
                if is_ours and self._broken is None:
                    # No error ended the group: other code cancelled one of its tasks.
                    self._broken = _cancelled_error()
            else:
                if error is not None:
                    tasks.cancel_scope.cancel()
                # The error isn't passed to the task group, which would wrap it in an
                # exception group.
                await tasks.__aexit__(None, None, None)
        finally:
            # Also after an error, no caller may continue to wait for a saga that is no
            # longer driven.
            with anyio.CancelScope(shield=True):
                await self._registry.close(self._broken)
        if self._broken is not None:
            raise self._broken
        return is_ours

    async def pause(self, seconds: float) -> bool:
        """Wait for seconds, or until a stop; return whether a stop was requested."""
        with anyio.move_on_after(seconds):
            await self._stopped.wait()
        return self.is_stopping

    def _stop(self) -> None:
        self._driver.stop()
        self._permits.close()
        self._timing.cancel()
        self._checkpoints.stop()
        self._stopped.set()
        self._wakeup.notify()

    def _break(self, error: BaseException) -> None:
        """Cancel all tasks: the store has failed, or the program is being ended."""
        if self._broken is None:
            self._broken = error
        self._stop()
        self._open_tasks().cancel_scope.cancel()

    def _open_tasks(self) -> TaskGroup:
        if self._tasks is None:
            raise CoordinatorClosed
        return self._tasks

    # --- the tasks that serve all sagas ----------------------------------------------

    async def _end_sleeps(self) -> None:
        with self._timing:
            while True:
                async with dropped_stray_cancellation(self.host):
                    await self._timers.run()

    async def _follow(self, follow: Callable[[], Awaitable[None]]) -> None:
        try:
            await follow()
        except GeneratorExit:
            raise
        except anyio.get_cancelled_exc_class():
            if not self.host.is_cancelled:
                # Other code of the program cancelled this task. Without this task, the
                # coordinator would give back no shard. So the coordinator ends with an
                # error.
                self._break(_cancelled_error())
            raise
        except BaseException as error:  # noqa: BLE001 - raised when the block is left
            self._break(error)

    async def _write_checkpoints(self) -> None:
        while True:
            async with dropped_stray_cancellation(self.host):
                await self._checkpoints.wait()
                if self.is_stopping or not await self._write_checkpoint():
                    return

    async def _write_checkpoint(self) -> bool:
        """Write the checkpoint that is due; return whether to continue."""
        try:
            return await self._checkpoints.write()
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - raised when the block is left
            self._break(error)
            return False

    # --- the tasks of single sagas ---------------------------------------------------

    def permit(self) -> Permit:
        """Return a new permit to work on a saga; it is not held yet."""
        return self._permits.permit()

    def work_on(
        self, run: Run[Any], *, resumed: bool, permit: Permit | None = None
    ) -> None:
        """Drive a saga until it is at rest, or its shard is given back.

        Args:
            run: The saga.
            resumed: Whether the attempt in flight was made by a process that has ended.
            permit: The saga's permit, if one was acquired already. The task releases it
                at its end.
        """
        tasks = self._open_tasks()
        run.cancel_timer()
        self._registry.begin(run)
        if run.shard_lease is not None:
            run.shard_lease.begin_work()
        tasks.start_soon(self._work, run, resumed, permit or self.permit())

    def work_again(self, run: Run[Any]) -> None:
        """Drive a stuck saga again, after a person's decision about it was recorded."""
        if self._registry.is_stuck(run):
            run.clear_at_rest()
            run.mark_stale()
            self.work_on(run, resumed=False)

    async def _work(self, run: Run[Any], resumed: bool, permit: Permit) -> None:  # noqa: FBT001 - start_soon takes no keywords
        # The lease as of now: the run may have a different one when the work ends.
        shard_lease = run.shard_lease
        end: Pause | Terminal | None = None
        driver = self._driver
        worker = Worker(run, permit, driver.calls, driver.record_wait)
        with permit:
            try:
                end = await driver.drive(run, permit, resumed=resumed)
                self._note_rest(run)
            except ENDS_THE_COORDINATOR as error:
                self._break(error)
            except LeaseLost:
                # The log has a newer record of the lease. When the log follower reads
                # that record, it hands over the sagas of the lease.
                if shard_lease is not None:
                    shard_lease.leave()
            except SagaBlocked as error:
                self._add_blocked(run, error)
            except (anyio.get_cancelled_exc_class(), GeneratorExit):
                raise
            except (KeyboardInterrupt, SystemExit) as error:
                self._break(error)
            except BaseException as error:  # noqa: BLE001 - one saga's bug must not stop the others
                self._add_blocked(run, _defect_error(run, error))
            finally:
                worker.end()
                self._end_work(shard_lease)
        self._sleep(run, end)

    def _note_rest(self, run: Run[Any]) -> None:
        """If a saga is at rest, notify its callers and stop driving it."""
        status = run.progress.status
        if status.is_at_rest:
            self._registry.note_at_rest(run)
        if status.ended:
            self._checkpoints.note_end(run.id)

    def _add_blocked(self, run: Run[Any], error: SagaBlocked) -> None:
        """Add a saga to the blocked sagas, unless it was handed over meanwhile."""
        if self._registry.is_at_work(run) and run.shard_lease is not None:
            self._registry.add_blocked(run.progress, error, run.head, run.shard_lease)

    def _end_work(self, shard_lease: ShardLease | None) -> None:
        if shard_lease is not None:
            shard_lease.end_work()
            if shard_lease.is_leaving:
                # This may have been the last action under the lease. If so, the log
                # follower can release the lease.
                self._wakeup.notify()

    def _sleep(self, run: Run[Any], end: Pause | Terminal | None) -> None:
        """Start the timer of a saga that must wait before its next action."""
        # After a handover during the action, another coordinator drives the saga.
        if isinstance(end, Pause) and self._registry.is_at_work(run):
            self._timers.sleep(run, end.seconds, resumed=end.resumed)
        elif run.setbacks.outage_blocks and self._registry.is_blocked(run):
            seconds = self._driver.seconds_until_tried_again(run)
            self._timers.sleep(run, seconds, resumed=False)

    def _work_on_after_sleep(self, run: Run[Any], resumed: bool) -> None:  # noqa: FBT001 - a callback
        """Put a saga back to work, unless it must not be driven here any more."""
        if self.is_stopping or run.is_leaving:
            return
        if self._registry.is_blocked(run):
            # An outage blocked the saga, and may have ended meanwhile.
            run.setbacks.forget_refused()
            run.mark_stale()
            self._registry.remove_elsewhere(run)
            run.clear_at_rest()
        elif not self._registry.is_at_work(run):
            return
        self.work_on(run, resumed=resumed)


def _defect_error(run: Run[Any], error: BaseException) -> SagaBlocked:
    failure = blocked_error(run.progress, f"{described(error)}; correct the program")
    failure.__cause__ = error
    return failure


def _cancelled_error() -> CoordinatorClosed:
    return CoordinatorClosed(
        "the coordinator stops, because one of its tasks was cancelled by other code "
        "of the program; nothing is lost; correct that code and start the program again"
    )
