"""Starts the attempt that the plan asks for: next to those of other sagas, or alone.

An attempt is made alone when its call has ended the process twice in a row. If the
process then ends once more, no other call can have been the cause, and the crash is
charged to this step. The record that starts such an attempt says so; so does the one
that ends its being alone.
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

# For the last record of a call when its coordinator is ended.
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
        """Record by a journal.

        Args:
            journal: Writes the sagas' streams.
            host: Knows whether the coordinator is cancelled.
            calls: The calls of the coordinator's sagas.
            draw: Draws a number from 0 to 1, for the jitter.
            pause: Waits for seconds, and returns whether the coordinator is left.
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
            Outage: The system refused something to the step's code.
            VersionConflict: Another writer appended to the saga's stream.
        """
        if not isinstance(action, Record) and action.alone:
            await self._attempt_alone(run, action)
            return
        await self._calls.begin(run.id)
        try:
            await self._made(run, action)
        finally:
            self._calls.end(run.id)

    def _made(
        self, run: Run[Any], action: Call | Record | Execute | Compensate
    ) -> Awaitable[None]:
        # Not a coroutine of its own: each one around a call costs time at each wait.
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
            # The wait for the other calls may have been long.
            if run.is_stale or not self._may_drive(run):
                return
            if not action.is_recorded:
                # In the log before the call: a process that ends without this record
                # has not ended in this call.
                begun = AttemptBegun(action.step.name, is_alone)
                await self._journal.commit(run, *run.decide(begun))
            try:
                await self._made(run, action)
            except anyio.get_cancelled_exc_class():
                if self._host.is_cancelled and isinstance(action, Call):
                    # Shielded, because the task is being cancelled; bounded, because
                    # the store may hang, and the program has to end.
                    with anyio.move_on_after(_SECONDS_TO_RECORD, shield=True):
                        await self._record_cancellation(run)
                raise

    async def _record_cancellation(self, run: Run[Any]) -> None:
        """Record that the coordinator was ended during a call that was made alone.

        Without the record the call would be charged with the end of its process.
        """
        try:
            await self._journal.commit(run, *run.decide(CutOff()))
        except EventbraidError as error:
            SAGA.warning(
                "the end of a call of saga %r isn't recorded: %s", run.id, error
            )

    async def record_wait(self, run: Run[Any]) -> None:
        """Record that a call which is made alone waits for another saga.

        If the process ends meanwhile, a call of that saga may be the cause.
        """
        events, state = run.decide(NoLongerAlone())
        if not events:
            return
        try:
            # A cancelled append may have been made: the run would not know its version.
            with anyio.CancelScope(shield=True):
                await self._journal.commit(run, events, state)
        except (VersionConflict, OutcomeUnknown):
            # The attempt stays charged, at worst; its end is recorded after a reload.
            run.mark_stale()
