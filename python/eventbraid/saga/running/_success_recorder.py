"""Records the success of an external step: its result and its command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from eventbraid._logging import SAGA
from eventbraid.errors import OutcomeUnknown, RetriesExhausted, VersionConflict
from eventbraid.saga._defect_classification import Defect, Outage, trouble_of
from eventbraid.saga._text import text_of
from eventbraid.saga.definition._context import StepContext, StepFailure
from eventbraid.saga.definition._step_base import StepKind
from eventbraid.saga.machine._outcomes import LateAnswer, RefusedSuccess, Success
from eventbraid.saga.running._attempt import refusal_of
from eventbraid.saga.running._commit_errors import NOT_ABOUT_THE_STEP, REFUSALS
from eventbraid.saga.running._data_fold import fold_result
from eventbraid.saga.running._failure_log import log_failure
from eventbraid.saga.running._failure_recorder import unrecordable
from eventbraid.saga.running._pauses import pause_after_contention
from eventbraid.saga.running._step_context import renewed

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command import AnyCommand
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._step import Step
    from eventbraid.saga.running._failure_recorder import FailureRecorder
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._outage_pause import OutagePause
    from eventbraid.saga.running._run import Run


class SuccessRecorder:
    """Records the successes of external steps.

    The receiver has answered, and the effect of the call is final. So no failure in
    this class may lead to another call of the receiver. Such failures are contention in
    the store, an outage of the step's local code, and a bug in that code.
    """

    __slots__ = ("_draw", "_failures", "_journal", "_outages")

    def __init__(
        self,
        journal: Journal,
        failures: FailureRecorder,
        outages: OutagePause,
        draw: Callable[[], float],
    ) -> None:
        """Write records through a journal.

        Args:
            journal: Writes the sagas' streams.
            failures: Records failures.
            outages: Waits for the end of outages.
            draw: Draws a number from 0 to 1, for the jitter.
        """
        self._journal = journal
        self._failures = failures
        self._outages = outages
        self._draw = draw

    async def record(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        result: object,
        doubted: StepFailure | None,
        *,
        asked: bool = False,
    ) -> None:
        """Record a success; try again after each conflict with another writer.

        Args:
            run: The saga.
            node: The step.
            context: The context of its call.
            result: The answer of the receiver.
            doubted: The failure of the call, if the receiver's answer to ``ask`` then
                proved that the call had succeeded; None otherwise.
            asked: Whether the result comes from ``ask``.

        Raises:
            Defect: The step's code has a bug; the answer is recorded with the defect.
        """
        async with run.turn():
            await self._record_in_turn(run, node, context, result, doubted, asked)

    async def _record_in_turn(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        result: object,
        doubted: StepFailure | None,
        asked: bool,  # noqa: FBT001 - a private method
    ) -> None:
        outages = 0
        # While the call ran, another task of the saga may have read a decision after
        # which the saga no longer waits for the answer.
        while run.state.progress.awaits(node.name):
            try:
                await self._record(run, node, context, result, doubted, asked=asked)
            except VersionConflict:
                await self._journal.reload(run)
            except (OutcomeUnknown, RetriesExhausted):
                await anyio.sleep(pause_after_contention(self._draw()))
                await self._journal.reload(run)
            except Outage as outage:
                outages += 1
                await self._outages.wait(run, outage, outages)
            else:
                return
            # The stream may by now contain this success, if the outcome of its commit
            # was unknown. Or it may contain a decision after which the saga no longer
            # waits for the success.
        await self._record_late_answer(run, node, result)

    async def _record(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        result: object,
        doubted: StepFailure | None,
        *,
        asked: bool,
    ) -> None:
        try:
            answer = node.result.record(result)
        except Exception as error:  # noqa: BLE001 - recorded: the step happened, its result is lost
            await self._failures.record_lost_result(run, node, context, error)
            return
        command = _command_of(run, node, context, answer)
        data, defect = None, None
        if node.then is not None:
            # A bug in `then` must not prevent the record of the success.
            data, defect = _data_after(run, node, answer)
        success = Success(
            node.name,
            answer.json,
            data,
            doubted,
            asked=asked,
            proceeds=defect is None,
        )
        events, state = run.decide(success)
        try:
            if command is None:
                await self._journal.commit(run, events, state)
            else:
                cause = context.idempotency_key
                await self._journal.execute(run, command, events, state, cause=cause)
        except NOT_ABOUT_THE_STEP:
            raise
        except REFUSALS as error:
            if command is None:
                await self._failures.record_lost_result(run, node, context, error)
                return
            failure = refusal_of(error)
            log_failure(context, "record", failure, error)
            await self._record_refused_command(run, node, success, failure)
            return
        except BaseException as error:
            raise trouble_of(node.name, "record", error, answer.json) from error
        if defect is not None:
            raise defect

    async def _record_refused_command(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        success: Success,
        failure: StepFailure,
    ) -> None:
        """Record a step that took effect, but whose command the store refused."""
        if node.kind is not StepKind.COMPENSATABLE or node.otherwise is not None:
            await self._failures.record(run, node, _doubted(failure))
            return
        events, reached = run.decide(RefusedSuccess(success, failure))
        try:
            await self._journal.commit(run, events, reached)
        except NOT_ABOUT_THE_STEP:
            raise
        except Exception as error:  # noqa: BLE001 - the store may refuse the result itself
            await self._failures.record(run, node, unrecordable(error))

    async def _record_late_answer(
        self, run: Run[Any], node: Step[Any, Any], result: object
    ) -> None:
        """Record an answer that arrived after the saga had continued without it.

        An answer that can't be recorded is dropped; the compensation of the step then
        receives `StepInDoubt`.
        """
        while node.name not in run.state.progress.results:
            try:
                answer = node.result.encode(result)
                late = LateAnswer(node.name, answer)
                await self._journal.commit(run, *run.decide(late))
            except VersionConflict:
                await self._journal.reload(run)
            except NOT_ABOUT_THE_STEP:
                raise
            except Exception as error:  # noqa: BLE001 - the answer is not needed
                SAGA.warning(
                    "the late answer of step %r of saga %r can't be recorded: %s",
                    node.name,
                    run.id,
                    text_of(error),
                )
                return


def _command_of(
    run: Run[Any],
    node: Step[Any, Any],
    context: StepContext[Any],
    answer: Encoded[Any],
) -> AnyCommand | None:
    if node.record is None:
        return None
    try:
        return node.record(renewed(context, run), answer.read())
    except BaseException as error:
        raise trouble_of(node.name, "record", error, answer.json) from error


def _data_after(
    run: Run[Any], node: Step[Any, Any], answer: Encoded[Any]
) -> tuple[Encoded[Any], Defect | None]:
    """Return the data after a step, or the data before it with the bug in ``then``."""
    try:
        return fold_result(run.saga, node, run.state.data, answer.read), None
    except BaseException as error:
        trouble = trouble_of(node.name, "then", error)
        if isinstance(trouble, Outage):
            raise Outage(node.name, "then", trouble.error, answer.json) from error
        trouble.__cause__ = error
        return run.state.data, trouble


def _doubted(failure: StepFailure) -> StepFailure:
    message = f"it happened, but its command was refused: {failure.message}"
    return StepFailure(failure.code, message, failure.facts, doubt="lost")
