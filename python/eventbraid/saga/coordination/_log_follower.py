"""Keeps a coordinator up to date with the log.

One task per coordinator executes this loop. In each turn the loop reads the new records
of the log, begins to drive the sagas that this coordinator has gained, reports and
finds blocked sagas, and acquires or gives back leases. Only this task uses the parts
that do this work, so these parts need no locks.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from eventbraid.saga._cancellation import dropped_stray_cancellation

if TYPE_CHECKING:
    from eventbraid.saga.coordination._attention_exchange import AttentionExchange
    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._log_reader import LogReader
    from eventbraid.saga.coordination._record_handlers import RecordHandlers
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._shard_rebalancer import ShardRebalancer
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.coordination._worker_pool import WorkerPool
    from eventbraid.saga.running._clock import SagaClock
    from eventbraid.saga.running._run import Run

_log = logging.getLogger("eventbraid.saga")

# The pause between two turns, so that one turn handles many records of a busy log.
_PAUSE_SECONDS = 0.02
# The interval at which the heartbeats of other coordinators are checked, and at which
# an append of unknown outcome is repeated. Both need a timer, because no new record of
# the log causes them.
_CHECK_SECONDS = 0.1


class LogFollower:
    """Follows the log for one coordinator.

    Args:
        reader: Reads the log.
        handlers: Handle its records.
        unfinished: The unfinished sagas of the store.
        intake: Reads and drives the sagas that were gained.
        blocked: The blocked sagas of this coordinator.
        attention: The exchange about blocked sagas.
        rebalancer: Acquires and gives back leases.
        workers: Drive the sagas.
        clock: The time of day.
        wakeup: Ends the wait for the log when there is other work.
    """

    __slots__ = (
        "_attention",
        "_blocked",
        "_clock",
        "_handlers",
        "_intake",
        "_reader",
        "_rebalancer",
        "_unfinished",
        "_wakeup",
        "_workers",
    )

    def __init__(
        self,
        *,
        reader: LogReader,
        handlers: RecordHandlers,
        unfinished: UnfinishedSagas,
        intake: SagaIntake,
        blocked: BlockedRegistry,
        attention: AttentionExchange,
        rebalancer: ShardRebalancer,
        workers: WorkerPool,
        clock: SagaClock,
        wakeup: Wakeup,
    ) -> None:
        """Keep the parts of the coordinator; nothing is read yet."""
        self._reader = reader
        self._handlers = handlers
        self._unfinished = unfinished
        self._intake = intake
        self._blocked = blocked
        self._attention = attention
        self._rebalancer = rebalancer
        self._workers = workers
        self._clock = clock
        self._wakeup = wakeup

    @property
    def position(self) -> int:
        """The position up to which the log was read and handled."""
        return self._reader.position

    def begin_at(self, position: int) -> None:
        """Set the position after which the log is read.

        Args:
            position: The position that the fold of unfinished sagas has reached.
        """
        self._reader.begin_at(position)

    async def begin(self) -> list[Run[Any]]:
        """Acquire the free leases.

        Returns:
            The unfinished sagas under these leases, which must be driven from now on.
        """
        await self._rebalancer.run()
        await self._read_new()
        unfinished: list[Run[Any]] = []
        await self._intake.read_due_sagas(unfinished.append)
        return unfinished

    async def run(self) -> None:
        """Follow the log until the worker pool is stopped."""
        while True:
            await self._wait()
            if not self._workers.is_running:
                return
            await self._read_new()
            await self._intake.read_due_sagas()
            self._find_overdue()
            await self._attention.report()
            await self._attention.answer()
            await self._rebalancer.run()
            async with dropped_stray_cancellation(self._workers.host):
                await self._workers.pause(_PAUSE_SECONDS)

    async def _wait(self) -> None:
        """Wait until the log has new records, or there is other work."""
        more = self._reader.wait_for_more()
        async with dropped_stray_cancellation(self._workers.host):
            await self._wakeup.wait(more, self._seconds())

    def _seconds(self) -> float:
        """Return the maximum seconds until the next turn."""
        seconds = math.inf
        if self._rebalancer.must_repeat or self._blocked.has_unreported:
            seconds = _CHECK_SECONDS
        deadline = self._blocked.next_deadline()
        if deadline is not None:
            left = (deadline - self._clock.now()).total_seconds()
            seconds = min(seconds, max(left, 0.0))
        return seconds

    async def _read_new(self) -> None:
        await self._reader.read_new(self._handlers.handle)
        self._unfinished.reach(self._reader.position)

    def _find_overdue(self) -> None:
        """Log the blocked sagas whose deadline has passed; none is compensated."""
        for one in self._blocked.find_overdue(self._clock.now()):
            _log.error(
                "saga %r is overdue since %s and can't be driven: %s",
                one.id,
                one.progress.deadline,
                one.error.reason,
            )
