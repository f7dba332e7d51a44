"""Records failed attempts together with their consequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga._defect_classification import (
    Defect,
    Outage,
    call_local,
    trouble_of,
)
from eventbraid.saga._text import text_of
from eventbraid.saga.definition._context import StepContext, StepFailure
from eventbraid.saga.machine._facts import encode_facts
from eventbraid.saga.machine._outcomes import Failure
from eventbraid.saga.machine._step_rules import gives_up
from eventbraid.saga.running._attempt import refusal_of
from eventbraid.saga.running._commit_errors import NOT_ABOUT_THE_STEP, REFUSALS
from eventbraid.saga.running._failure_log import log_failure
from eventbraid.saga.running._step_context import step_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command import AnyCommand
    from eventbraid.saga.definition._step_base import SagaStep
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._state import SagaState
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run


class FailureRecorder:
    """Records failed attempts of steps together with their consequences.

    A failed attempt leads to a retry, to another command in place of the step, to a
    compensation of the saga, or to a stuck saga.
    """

    __slots__ = ("_draw", "_journal")

    def __init__(self, journal: Journal, draw: Callable[[], float]) -> None:
        """Write records through a journal; `draw` returns 0 to 1, for the jitter."""
        self._journal = journal
        self._draw = draw

    async def record(
        self, run: Run[Any], node: SagaStep[Any], failure: StepFailure
    ) -> None:
        """Record a failed attempt and its consequence.

        Raises:
            Defect: The step's ``otherwise`` has a bug.
            Outage: ``otherwise`` raised an `OSError`.
            VersionConflict: Another writer appended to the saga's stream.
        """
        events, state = self._decide(run, node, failure)
        if node.otherwise is None or not gives_up(events):
            await self._journal.commit(run, events, state)
            return
        try:
            await self._replace(run, node, node.otherwise, failure, events, state)
        except (*NOT_ABOUT_THE_STEP, Defect, Outage):
            raise
        except REFUSALS as rejection:
            await self._fail_without_replacement(run, node, failure, rejection)
        except BaseException as error:
            raise trouble_of(node.name, "otherwise", error) from error

    async def record_lost_result(
        self,
        run: Run[Any],
        node: SagaStep[Any],
        context: StepContext[Any],
        error: Exception,
    ) -> None:
        """Record that a step took effect, but that its result can't be recorded."""
        failure = unrecordable(error)
        log_failure(context, "action", failure, error)
        await self.record(run, node, failure)

    async def _replace(
        self,
        run: Run[Any],
        node: SagaStep[Any],
        otherwise: Callable[[StepContext[Any], StepFailure], AnyCommand],
        failure: StepFailure,
        events: tuple[SagaEvent, ...],
        state: SagaState[Any],
    ) -> None:
        """Commit the command that replaces a step that failed for good."""
        context = step_context(run, node, _attempt(run, node))
        command = call_local(
            node.name, "otherwise", lambda: otherwise(context, failure)
        )
        cause = f"{context.idempotency_key}/otherwise"
        await self._journal.execute(run, command, events, state, cause=cause)

    async def _fail_without_replacement(
        self,
        run: Run[Any],
        node: SagaStep[Any],
        failure: StepFailure,
        rejection: Exception,
    ) -> None:
        """Record the failure of a step whose replacing command was refused, too."""
        both = _with_refusal(failure, refusal_of(rejection))
        context = step_context(run, node, _attempt(run, node))
        log_failure(context, "otherwise", both, rejection)
        events, state = self._decide(run, node, both, is_replaceable=False)
        await self._journal.commit(run, events, state)

    def _decide(
        self,
        run: Run[Any],
        node: SagaStep[Any],
        failure: StepFailure,
        *,
        is_replaceable: bool = True,
    ) -> tuple[tuple[SagaEvent, ...], SagaState[Any]]:
        facts = encode_facts(failure.facts)
        return run.decide(
            Failure(node.name, failure, facts, self._draw(), is_replaceable)
        )


def _attempt(run: Run[Any], node: SagaStep[Any]) -> int:
    """Return the number of the failed attempt; 1 if its start isn't recorded."""
    return max(run.state.progress.branch(node.name).attempts.number, 1)


def unrecordable(error: Exception) -> StepFailure:
    """Return the failure of a step that took effect without a recordable result."""
    message = f"it happened, but its result can't be recorded: {text_of(error)}"
    return StepFailure(type(error).__name__, message, doubt="lost")


def _with_refusal(failure: StepFailure, refused: StepFailure) -> StepFailure:
    """Return a failure with the refusal of the replacing command added to its text."""
    both = f"{failure.message}; and what should take its place: {refused}"
    return StepFailure(failure.code, both, failure.facts, failure.doubt)
