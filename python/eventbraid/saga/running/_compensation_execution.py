"""Executes the compensation of a step: a call, or a command in one commit.

The start of each call is recorded before the call is made. So if the process is killed
during the call, the log shows that the call may have been made. The next attempt has
the same idempotency key. A compensation must have the right effect even if the action
never took effect, or takes effect only after the compensation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from eventbraid.saga._defect_classification import (
    Bug,
    Defect,
    Outage,
    call_local,
    trouble_of,
)
from eventbraid.saga.definition._context import (
    StepCompleted,
    StepContext,
    StepFailure,
    StepInDoubt,
)
from eventbraid.saga.definition._step import LocalStep, external
from eventbraid.saga.machine._outcomes import (
    CompensationFailure,
    CompensationSuccess,
)
from eventbraid.saga.running._attempt import make_attempt, refusal_of
from eventbraid.saga.running._commit_errors import NOT_ABOUT_THE_STEP, REFUSALS
from eventbraid.saga.running._failure_log import log_failure
from eventbraid.saga.running._step_context import compensation_context, renewed

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command import AnyCommand
    from eventbraid.saga._cancellation import Host
    from eventbraid.saga.definition._step import Compensation, Step
    from eventbraid.saga.definition._step_base import SagaStep
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run


class CompensationExecution:
    """Makes the attempts to compensate steps."""

    __slots__ = ("_draw", "_host", "_journal")

    def __init__(self, journal: Journal, host: Host, draw: Callable[[], float]) -> None:
        """Write records through a journal.

        Args:
            journal: Writes the sagas' streams.
            host: Reports whether the coordinator is cancelled.
            draw: Draws a number from 0 to 1, for the jitter.
        """
        self._journal = journal
        self._host = host
        self._draw = draw

    async def compensate(
        self, run: Run[Any], node: SagaStep[Any], attempt: int
    ) -> None:
        """Make an attempt to compensate a step; its start is recorded already.

        Raises:
            Defect: The step's code has a bug.
            Outage: The step's local code raised an `OSError`.
            VersionConflict: Another writer appended to the saga's stream.
        """
        if isinstance(node, LocalStep):
            async with run.turn():
                if node.name in run.state.progress.open_steps:
                    await self._execute(run, node, attempt)
        else:
            await self._call(run, external(node), attempt)

    async def _execute(self, run: Run[Any], node: LocalStep[Any], attempt: int) -> None:
        make = node.compensation
        if make is None:
            raise AssertionError(node.name)
        context = compensation_context(run, node, attempt)
        try:
            command = call_local(node.name, "compensation", lambda: make(context))
            await self._commit(run, context, command)
        except (*NOT_ABOUT_THE_STEP, Defect, Outage):
            raise
        except REFUSALS as rejection:
            failure = refusal_of(rejection)
            log_failure(context, "compensation", failure, rejection)
            await self._fail(run, node, failure)
        except BaseException as error:
            raise trouble_of(node.name, "compensation", error) from error

    async def _call(self, run: Run[Any], node: Step[Any, Any], attempt: int) -> None:
        """Make the call of a compensation.

        The call is shielded from cancellation until its result is recorded, because an
        orderly shutdown must not interrupt, for example, a refund. The time-out of the
        call still applies, but not the deadline of the saga.
        """
        compensation = node.compensation
        if compensation is None:
            raise AssertionError(node.name)
        context = compensation_context(run, node, attempt)
        step_outcome = _recorded_outcome(run, node)
        with anyio.CancelScope(shield=True):
            outcome = await make_attempt(
                lambda: compensation.action(context, step_outcome),
                context,
                "compensation",
                rules=compensation.rules,
                timeout=compensation.timeout,
                defects=run.saga.defects if node.defects is None else node.defects,
                host=self._host,
            )
            if isinstance(outcome, Bug):
                raise Defect(
                    node.name, "compensation", outcome.error
                ) from outcome.error
            async with run.turn():
                if isinstance(outcome, StepFailure):
                    await self._fail(run, node, outcome)
                else:
                    await self._record_compensated(
                        run, node, compensation, context, outcome.result
                    )

    async def _record_compensated(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        compensation: Compensation[Any, Any],
        context: StepContext[Any],
        answer: object,
    ) -> None:
        command: AnyCommand | None = None
        record = compensation.record
        try:
            if record is not None:
                own = renewed(context, run)
                command = call_local(node.name, "record", lambda: record(own, answer))
            await self._commit(run, context, command)
        except (*NOT_ABOUT_THE_STEP, Defect, Outage):
            raise
        except REFUSALS as rejection:
            refused = refusal_of(rejection)
            message = (
                f"it is compensated, but its command was refused: {refused.message}"
            )
            failure = StepFailure(refused.code, message, doubt="lost")
            log_failure(context, "record", failure, rejection)
            await self._fail(run, node, failure)
        except BaseException as error:
            raise trouble_of(node.name, "record", error) from error

    async def _commit(
        self, run: Run[Any], context: StepContext[Any], command: AnyCommand | None
    ) -> None:
        success = CompensationSuccess(context.step, run.setbacks.defects)
        events, state = run.decide(success)
        if command is None:
            await self._journal.commit(run, events, state)
        else:
            await self._journal.execute(
                run, command, events, state, cause=context.idempotency_key
            )

    async def _fail(
        self, run: Run[Any], node: SagaStep[Any], failure: StepFailure
    ) -> None:
        outcome = CompensationFailure(
            node.name, failure, self._draw(), run.setbacks.defects
        )
        await self._journal.commit(run, *run.decide(outcome))


def _recorded_outcome(
    run: Run[Any], node: Step[Any, Any]
) -> StepCompleted[Any] | StepInDoubt:
    """Return the recorded result of a step, or why its outcome is in doubt."""
    result = run.state.progress.results.get(node.name)
    if result is None:
        return StepInDoubt(
            run.state.progress.branch(node.name).attempts.doubt or "lost"
        )
    try:
        return StepCompleted(node.result.decode(result))
    except ValueError as error:
        unreadable = ValueError(f"{node.result.what} can't be read back ({error})")
        raise Defect(node.name, "compensation", unreadable) from error
