"""Starts a planned attempt: at the same time as other attempts, or alone.

An attempt is made alone if the process has ended during the two previous attempts of
the same call. If the process then ends again, no other call can be the cause, and the
crash is charged to this step. The record of the attempt's start has the flag ``alone``.
If other calls begin before the attempt has ended, its start is recorded again without
the flag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from eventbraid._logging import SAGA
from eventbraid.errors import EventbraidError, OutcomeUnknown, VersionConflict
from eventbraid.saga.machine._next_action import Call, Compensate, Execute, Record
from eventbraid.saga.machine._outcomes import AttemptBegun, CutOff, NoLongerAlone
from eventbraid.saga.running._compensation_execution import CompensationExecution
from eventbraid.saga.running._external_execution import ExternalExecution
from eventbraid.saga.running._failure_recorder import FailureRecorder
from eventbraid.saga.running._local_execution import LocalExecution
from eventbraid.saga.running._outage_pause import OutagePause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.saga._cancellation import Host
    from eventbraid.saga.running._calls import Calls
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run

# The maximum seconds for the record of an interrupted call when its coordinator is
# cancelled.
_SECONDS_TO_RECORD = 1.0


class AttemptDispatch:
    """Makes the attempts of steps and of compensations."""

    __slots__ = (
        "_calls",
        "_compensation",
        "_external",
        "_host",
        "_journal",
        "_local",
        "_may_drive",
    )

    def __init__(
        self,
        journal: Journal,
        host: Host,
        calls: Calls,
        draw: Callable[[], float],
        pause: Callable[[float], Awaitable[bool]],
        may_drive: Callable[[Run[Any]], bool],
    ) -> None:
        """Write records through a journal.

        Args:
            journal: Writes the sagas' streams.
            host: Reports whether the coordinator is cancelled.
            calls: The calls of the coordinator's sagas.
            draw: Draws a number from 0 to 1, for the jitter.
            pause: Waits for a number of seconds, and returns whether the coordinator is
                being left.
            may_drive: Returns whether a saga may take a further action here.
        """
        self._journal = journal
        self._host = host
        self._calls = calls
        self._may_drive = may_drive
        failures = FailureRecorder(journal, draw)
        outages = OutagePause(draw, pause)
        self._local = LocalExecution(journal, failures, outages)
        self._external = ExternalExecution(journal, failures, outages, host, draw)
        self._compensation = CompensationExecution(journal, host, draw)

    async def attempt(
        self, run: Run[Any], action: Call | Record | Execute | Compensate
    ) -> None:
        """Make an attempt.

        Raises:
            Defect: The step's code has a bug.
            Outage: The step's local code raised an `OSError`.
            VersionConflict: Another writer appended to the saga's stream.
        """
        if not isinstance(action, Record) and action.alone:
            await self._attempt_alone(run, action)
            return
        await self._calls.begin(run.id)
        try:
            await self._execute_action(run, action)
        finally:
            self._calls.end(run.id)

    def _execute_action(
        self, run: Run[Any], action: Call | Record | Execute | Compensate
    ) -> Awaitable[None]:
        # Not ``async``: each coroutine around a call costs time whenever the call
        # waits.
        match action:
            case Execute(node, attempt):
                return self._local.execute(run, node, attempt)
            case Call(node, attempt):
                return self._external.call(run, node, attempt)
            case Record(node, attempt):
                return self._external.record(run, node, attempt)
            case Compensate(node, attempt):
                return self._compensation.compensate(run, node, attempt)

    async def _attempt_alone(
        self, run: Run[Any], action: Call | Execute | Compensate
    ) -> None:
        """Make an attempt while the process makes no other call."""
        async with self._calls.alone(run.id) as is_alone:
            # The wait for the other calls may have been long, so check again whether
            # the attempt may still be made.
            if run.is_stale or not self._may_drive(run):
                return
            if not action.is_recorded:
                # The start is recorded before the call. So if a process ends and this
                # record is missing, the process didn't end during the call.
                begun = AttemptBegun(action.step.name, is_alone)
                async with run.turn():
                    await self._journal.commit(run, *run.decide(begun))
            try:
                await self._execute_action(run, action)
            except anyio.get_cancelled_exc_class():
                if self._host.is_cancelled and isinstance(action, Call):
                    # The record is shielded, because the task is being cancelled. The
                    # time is limited, because the store may hang, and the program has
                    # to end.
                    with anyio.move_on_after(_SECONDS_TO_RECORD, shield=True):
                        await self._record_cancellation(run, action.step.name)
                raise

    async def _record_cancellation(self, run: Run[Any], step: str) -> None:
        """Record that the coordinator was ended during a call that was made alone.

        Without this record, the next coordinator would count the end of the process as
        a crash of this call.
        """
        try:
            async with run.turn():
                await self._journal.commit(run, *run.decide(CutOff(step)))
        except EventbraidError as error:
            SAGA.warning(
                "the end of a call of saga %r isn't recorded: %s", run.id, error
            )

    async def record_wait(self, run: Run[Any]) -> None:
        """Record that a call is no longer alone, because it waits for another saga.

        Nothing is recorded if the call isn't recorded as alone. If the process ends
        during the wait, a call of the other saga may be the cause.
        """
        try:
            # The append is shielded from cancellation. A cancelled append may still be
            # committed, and the run's version would then be too low.
            with anyio.CancelScope(shield=True):
                async with run.turn():
                    events, state = run.decide(NoLongerAlone())
                    if events:
                        await self._journal.commit(run, events, state)
        except (VersionConflict, OutcomeUnknown):
            # The wait begins nevertheless. At worst, a crash during the wait is charged
            # to this attempt. The stream is read again before the end of the attempt is
            # recorded.
            run.mark_stale()
