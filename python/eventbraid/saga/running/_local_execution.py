"""Executes a local step: its command and its record are one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga._defect_classification import (
    Defect,
    Outage,
    call_local,
    trouble_of,
)
from eventbraid.saga.machine._outcomes import Success
from eventbraid.saga.machine._progress import SagaStatus
from eventbraid.saga.machine._step_rules import ends_in_compensation
from eventbraid.saga.running._attempt import refusal_of
from eventbraid.saga.running._commit_errors import NOT_ABOUT_THE_STEP, REFUSALS
from eventbraid.saga.running._data_fold import fold_result
from eventbraid.saga.running._executed import own_part
from eventbraid.saga.running._failure_log import log_failure
from eventbraid.saga.running._step_context import step_context

if TYPE_CHECKING:
    from eventbraid.command import Executed
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._step import LocalStep
    from eventbraid.saga.running._failure_recorder import FailureRecorder
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._outage_pause import OutagePause
    from eventbraid.saga.running._run import Run


class LocalExecution:
    """Executes the commands of local steps.

    If the process is killed before the commit, the command had no effect. If the
    process is killed after the commit, the step is done. So a local step is executed
    exactly once.
    """

    __slots__ = ("_failures", "_journal", "_outages")

    def __init__(
        self, journal: Journal, failures: FailureRecorder, outages: OutagePause
    ) -> None:
        """Write records through a journal.

        Args:
            journal: Writes the sagas' streams.
            failures: Records failures.
            outages: Waits for the end of outages.
        """
        self._journal = journal
        self._failures = failures
        self._outages = outages

    async def execute(self, run: Run[Any], node: LocalStep[Any], attempt: int) -> None:
        """Commit a local step's command together with the record of the step.

        Raises:
            Defect: The step's code has a bug.
            Outage: The step's local code raised an `OSError`.
            VersionConflict: Another writer appended to the saga's stream.
        """
        async with run.turn():
            # Since this attempt was planned, another task of the saga may have
            # recorded that it isn't due any more.
            if _is_due(run, node):
                await self._execute(run, node, attempt)

    async def _execute(self, run: Run[Any], node: LocalStep[Any], attempt: int) -> None:
        context = step_context(run, node, attempt)
        # If the step has a `then`, the data after the step are known only after the
        # commit, so the next step can't start in the same commit.
        events, state = run.decide(Success(node.name, proceeds=node.then is None))
        try:
            # The command is built before `Journal.execute` is called, not inside that
            # call. The user's function may use another store. `call_local` turns an
            # error of that store into a defect. Otherwise it would count as an error of
            # the saga's store (`NOT_ABOUT_THE_STEP`).
            command = call_local(node.name, "command", lambda: node.make(context))
            commit = await self._journal.execute(
                run, command, events, state, cause=context.idempotency_key
            )
        except (*NOT_ABOUT_THE_STEP, Defect, Outage):
            raise
        except REFUSALS as rejection:
            failure = refusal_of(rejection)
            log_failure(context, "command", failure, rejection)
            await self._failures.record(run, node, failure)
            return
        except BaseException as error:
            raise trouble_of(node.name, "command", error) from error
        if node.then is not None:
            await self._fold(
                run, node, own_part(commit, run.id, self._journal.registry)
            )

    async def _fold(
        self, run: Run[Any], node: LocalStep[Any], executed: Executed
    ) -> None:
        """Fold the result of a committed command, which must not be executed again.

        If this process is killed here, the next process folds the same result from the
        log.
        """
        outages = 0
        while True:
            try:
                run.fold_data(_folded(run, node, executed))
            except Outage as outage:
                outages += 1
                await self._outages.wait(run, outage, outages)
            else:
                return


def _is_due(run: Run[Any], node: LocalStep[Any]) -> bool:
    progress = run.state.progress
    if progress.status is not SagaStatus.RUNNING or node.name not in progress.steps:
        return False
    return not ends_in_compensation(run.saga, progress)


def _folded(run: Run[Any], node: LocalStep[Any], executed: Executed) -> Encoded[Any]:
    try:
        return fold_result(run.saga, node, run.state.data, lambda: executed)
    except BaseException as error:
        raise trouble_of(node.name, "then", error) from error
