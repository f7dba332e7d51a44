"""Entering and leaving a coordinator.

When a coordinator is entered, it reads which sagas are unfinished, adds itself to the
list of coordinators, acquires the free shards, starts its tasks, and begins to drive
the sagas of these shards. When it is left, it waits until each saga has ended its
action. Then it releases its leases and records a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from eventbraid.errors import CoordinatorClosed, EventbraidError
from eventbraid.saga.running._pace import TASKS_A_TURN, Pace

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from eventbraid.saga.coordination._log_follower import LogFollower
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._saga_loader import SagaLoader
    from eventbraid.saga.coordination._shard_handover import ShardHandover
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.coordination._worker_pool import WorkerPool
    from eventbraid.saga.running._run import Run


class Lifecycle:
    """Starts and ends the parts of one coordinator.

    Args:
        unfinished: The unfinished sagas of the store.
        loader: Checks the graphs of the unfinished sagas.
        handover: Acquires and releases the leases.
        follower: Follows the log.
        intake: Drives the unfinished sagas.
        workers: The tasks.
    """

    __slots__ = (
        "_follower",
        "_handover",
        "_intake",
        "_loader",
        "_unfinished",
        "_workers",
    )

    def __init__(
        self,
        *,
        unfinished: UnfinishedSagas,
        loader: SagaLoader,
        handover: ShardHandover,
        follower: LogFollower,
        intake: SagaIntake,
        workers: WorkerPool,
    ) -> None:
        """Keep the parts of the coordinator; nothing is started yet."""
        self._unfinished = unfinished
        self._loader = loader
        self._handover = handover
        self._follower = follower
        self._intake = intake
        self._workers = workers

    async def enter(self) -> None:
        """Resume the unfinished sagas.

        Raises:
            CoordinatorClosed: The coordinator was entered before.
            GraphMismatch: An unfinished saga of any coordinator was started with other
                steps under the same version.
        """
        if self._workers.has_begun:
            raise CoordinatorClosed("a coordinator is entered once; make another one")
        try:
            unfinished = await self._begin()
        except BaseException as error:
            await self._release(error)
            raise
        try:
            pace = Pace(TASKS_A_TURN)
            for run in unfinished:
                self._intake.accept(run)
                await pace.yield_if_due()
        except BaseException as error:
            # The tasks are running already, so they must be ended.
            await self.leave(type(error), error, error.__traceback__)
            raise

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Let each saga end its action; the next coordinator continues the sagas.

        Returns:
            Whether the error was a cancellation that the worker pool had requested.
        """
        try:
            is_ours = await self._workers.end(kind, error, traceback)
        except BaseException as failure:
            await self._release(failure)
            raise
        await self._release(error)
        if error is None:
            await self._unfinished.save()
        return is_ours

    async def _begin(self) -> list[Run[Any]]:
        """Acquire the free shards and start the tasks; return the sagas to drive."""
        await self._unfinished.load()
        # The follower must begin at the end of this fold. If the position were set
        # later, another call could have continued the fold, and the follower would skip
        # the lease records in that part of the log.
        self._follower.begin_at(self._unfinished.position)
        await self._loader.check_graphs()
        await self._handover.enter()
        unfinished = await self._follower.begin()
        await self._workers.begin(self._follower.run)
        return unfinished

    async def _release(self, error: BaseException | None) -> None:
        """Release the leases.

        Args:
            error: The error that is about to be raised, if any. If the release fails,
                the failure is added to that error as a note, so that it doesn't hide
                the error.
        """
        try:
            with anyio.CancelScope(shield=True):
                await self._handover.leave()
        except EventbraidError as failure:
            if error is None:
                raise
            error.add_note(f"the leases of its shards were not released: {failure}")
