"""The decisions of a person about a saga: to cancel it, retry it, or skip a step.

A decision is a record in the saga's stream. Any coordinator can append this record, and
the coordinator that drives the saga finds it in the log. The append expects the version
of the stream, because a decision is made for a recorded state of the saga. The append
expects no fencing token, because the decision is valid whichever coordinator drives the
saga.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eventbraid.errors import (
    GraphMismatch,
    InvalidArgument,
    InvalidTransition,
    SagaBlocked,
    VersionConflict,
)
from eventbraid.saga.machine._decider import decide_without_declaration
from eventbraid.saga.machine._outcomes import (
    CancelRequest,
    RetryRequest,
    SignalRequest,
    SkipRequest,
)
from eventbraid.saga.running._records import head_of

if TYPE_CHECKING:
    from eventbraid.saga.coordination._saga_finder import SagaFinder
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._worker_pool import WorkerPool
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run


class ManualDecisions:
    """Records the decisions that are made at one coordinator.

    Args:
        journal: Writes the sagas' streams.
        finder: Finds sagas.
        intake: Reads the new records of a saga that another coordinator drives.
        workers: Drive the sagas.
    """

    __slots__ = ("_finder", "_intake", "_journal", "_reader", "_workers")

    def __init__(
        self,
        *,
        journal: Journal,
        finder: SagaFinder,
        intake: SagaIntake,
        workers: WorkerPool,
    ) -> None:
        """Keep the other parts of the coordinator; nothing is recorded yet."""
        self._journal = journal
        self._reader = journal.reader
        self._finder = finder
        self._intake = intake
        self._workers = workers

    async def cancel(self, saga_id: str, reason: str) -> None:
        """Request the compensation of a saga."""
        self._workers.require_running()
        request = CancelRequest(reason)
        try:
            run = await self._finder.find(saga_id)
        except (SagaBlocked, GraphMismatch):
            await self._record_without_code(saga_id, request)
            return
        await self._commit(run, request)
        # The saga may wait for a timer, or be in the middle of an action. In both cases
        # its stream is read again before its next action.
        run.wake()
        self._workers.work_again(run)
        await self._intake.catch_up(run)

    async def signal(self, saga_id: str, request: SignalRequest) -> None:
        """Record a signal for a saga, and let the saga use it."""
        self._workers.require_running()
        try:
            run = await self._finder.find(saga_id)
        except (SagaBlocked, GraphMismatch):
            await self._record_without_code(saga_id, request)
            return
        await self._commit(run, request)
        run.wake()
        await self._intake.catch_up(run)

    async def retry(self, saga_id: str, by: str, note: str) -> None:
        """Let a stuck saga try again the step or compensation at which it is stuck."""
        _require_author_and_note(by, note)
        request = RetryRequest(by, note)
        try:
            await self._decide(saga_id, request)
        except (SagaBlocked, GraphMismatch):
            await self._record_without_code(saga_id, request)

    async def skip(self, saga_id: str, step: str, by: str, note: str) -> None:
        """Let a stuck saga continue without the step at which it is stuck."""
        _require_author_and_note(by, note)
        await self._decide(saga_id, SkipRequest(step, by, note))

    async def _decide(self, saga_id: str, request: RetryRequest | SkipRequest) -> None:
        """Record a decision, and continue to drive the saga."""
        self._workers.require_running()
        run = await self._finder.find(saga_id)
        await self._commit(run, request)
        self._workers.work_again(run)
        await self._intake.catch_up(run)

    async def _commit(
        self,
        run: Run[Any],
        request: CancelRequest | RetryRequest | SkipRequest | SignalRequest,
    ) -> None:
        """Record a decision; decide again if the saga's stream has grown.

        This method changes only a copy of the run. The saga's own task may be in the
        middle of an action, which must not find a changed run. If the answer of the
        append is lost, the log follower still finds the record in the log.
        """
        copy = run.copy()
        while True:
            try:
                await self._journal.commit(copy, *copy.decide(request))
            except VersionConflict:
                await self._journal.reload(copy)
            except InvalidTransition:
                # The refusal is final only if the copy has read the whole stream. The
                # saga's own task, or another coordinator, may have appended to the
                # stream.
                if await self._reader.is_current(copy):
                    raise
                await self._journal.reload(copy)
            else:
                return

    async def _record_without_code(
        self, saga_id: str, request: CancelRequest | RetryRequest | SignalRequest
    ) -> None:
        """Record a decision about a saga that this program can't drive.

        The coordinator that drives the saga finds the record in the log.
        """
        while True:
            recorded = await self._reader.read(saga_id)
            progress = self._reader.progress(saga_id, recorded)
            events, reached = decide_without_declaration(progress, request)
            with suppress(VersionConflict):
                await self._journal.record(reached, head_of(recorded), events)
                return


def _require_author_and_note(by: str, note: str) -> None:
    for name, text in (("by", by), ("note", note)):
        if not text:
            reason = "name the person in by=, and the reason of the decision in note="
            raise InvalidArgument(name, text, reason)
