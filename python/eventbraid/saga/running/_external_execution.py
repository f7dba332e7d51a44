"""Executes an external step: calls its receiver, and clears up a doubtful outcome.

The start of the call is recorded before the call is made. So if the process is killed
during the call, the log shows that the call may have taken effect. The next process
asks the receiver for the outcome, or makes the call again with the same idempotency
key. At a receiver that honours the key, any number of such calls have one effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from eventbraid.saga._defect_classification import Bug, Defect
from eventbraid.saga._text import shown
from eventbraid.saga.definition._context import StepCompleted, StepContext, StepFailure
from eventbraid.saga.running._attempt import make_attempt
from eventbraid.saga.running._step_context import renewed, step_context
from eventbraid.saga.running._success_recorder import SuccessRecorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.saga._cancellation import Host
    from eventbraid.saga.definition._step import Step
    from eventbraid.saga.running._failure_recorder import FailureRecorder
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._outage_pause import OutagePause
    from eventbraid.saga.running._run import Run


class ExternalExecution:
    """Makes the calls of external steps."""

    __slots__ = ("_failures", "_host", "_successes")

    def __init__(
        self,
        journal: Journal,
        failures: FailureRecorder,
        outages: OutagePause,
        host: Host,
        draw: Callable[[], float],
    ) -> None:
        """Write records through a journal.

        Args:
            journal: Writes the sagas' streams.
            failures: Records failures.
            outages: Waits for the end of outages.
            host: Reports whether the coordinator is cancelled.
            draw: Draws a number from 0 to 1, for the jitter.
        """
        self._host = host
        self._failures = failures
        self._successes = SuccessRecorder(journal, failures, outages, draw)

    async def call(self, run: Run[Any], node: Step[Any, Any], attempt: int) -> None:
        """Make an attempt of an external step; its start is recorded already.

        Raises:
            Defect: The step's code has a bug.
            VersionConflict: Another writer appended to the saga's stream.
        """
        context = step_context(run, node, attempt)
        if run.state.progress.branch(node.name).attempts.crashes:
            # The previous attempt may have taken effect, so ask the receiver. The
            # question, too, may crash this process. It is part of this attempt, whose
            # start is recorded, so that such a crash is counted.
            answered = await self._ask_receiver(run, node, context)
            if answered is not None:
                await self._successes.record(
                    run, node, context, answered.result, None, asked=True
                )
                return
            context = renewed(context, run)
        defects = node.defects
        outcome = await make_attempt(
            lambda: node.action(context),
            context,
            "action",
            rules=node.attempt_rules,
            timeout=node.timeout,
            defects=run.saga.defects if defects is None else defects,
            host=self._host,
        )
        if isinstance(outcome, StepCompleted):
            await self._successes.record(run, node, context, outcome.result, None)
        else:
            await self._settle(run, node, context, outcome)

    async def record(self, run: Run[Any], node: Step[Any, Any], attempt: int) -> None:
        """Record the success of a step whose answer was recorded with a defect.

        Raises:
            Defect: The step's code still has a bug.
            VersionConflict: Another writer appended to the saga's stream.
        """
        answer = run.state.progress.branch(node.name).answer
        if answer is None:
            raise AssertionError(node.name)
        context = step_context(run, node, attempt)
        try:
            result = node.result.decode(answer)
        except ValueError as error:
            raise Defect(node.name, "record", error, answer) from error
        await self._successes.record(run, node, context, result, None)

    async def _settle(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        outcome: StepFailure | Bug,
    ) -> None:
        """Record a failed attempt; if its effect is in doubt, ask the receiver first.

        A proven failure had no effect, so the receiver needn't be asked.
        """
        if isinstance(outcome, Bug):
            raise Defect(node.name, "action", outcome.error) from outcome.error
        answered = None
        if outcome.doubt is not None:
            answered = await self._ask_receiver(run, node, renewed(context, run))
        if answered is None:
            await self._record_failure(run, node, outcome)
        else:
            await self._successes.record(
                run, node, context, answered.result, outcome, asked=True
            )

    async def _record_failure(
        self, run: Run[Any], node: Step[Any, Any], failure: StepFailure
    ) -> None:
        async with run.turn():
            # While the call ran, the compensation of the saga may have begun.
            if run.state.progress.awaits(node.name):
                await self._failures.record(run, node, failure)

    async def _ask_receiver(
        self, run: Run[Any], node: Step[Any, Any], context: StepContext[Any]
    ) -> StepCompleted[Any] | None:
        """Ask the receiver for the result under the key; None if there is none."""
        ask = node.ask
        if ask is None:
            return None
        answer = await make_attempt(
            lambda: ask(context),
            context,
            "ask",
            rules=node.attempt_rules,
            timeout=node.timeout,
            defects=run.saga.defects if node.defects is None else node.defects,
            host=self._host,
        )
        if isinstance(answer, Bug):
            raise Defect(node.name, "ask", answer.error) from answer.error
        if not isinstance(answer, StepCompleted) or answer.result is None:
            return None
        known = cast("object", answer.result)
        if isinstance(known, StepCompleted):
            return answer.result
        wrong = TypeError(
            f"`ask` of step {node.name!r} returned {shown(known)}; expected "
            "StepCompleted(result) if the receiver knows the key, None if it doesn't"
        )
        raise Defect(node.name, "ask", wrong)
