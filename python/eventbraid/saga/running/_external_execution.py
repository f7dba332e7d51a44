"""Moves forward: the attempts of steps, and what is recorded of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
from msgspec import structs

from eventbraid._logging import SAGA
from eventbraid.errors import (
    OutcomeUnknown,
    RetriesExhausted,
    VersionConflict,
)
from eventbraid.saga._text import shown, text_of
from eventbraid.saga.definition._context import Done, StepContext, StepFailure
from eventbraid.saga.definition._step_base import Kind, Node
from eventbraid.saga.machine._consequences import (
    Consequence,
    failed,
    refused_after_success,
    succeeded,
)
from eventbraid.saga.machine._defect import (
    Bug,
    Defect,
    Outage,
    called,
    log_outage,
    trouble_of,
)
from eventbraid.saga.machine._events import (
    SagaEvent,
    StepAnsweredLate,
    StepSucceeded,
    StepUnknown,
)
from eventbraid.saga.machine._facts import encode_facts
from eventbraid.saga.machine._idempotency_keys import forward_key
from eventbraid.saga.machine._next_action import advance_if_possible
from eventbraid.saga.machine._transitions import after
from eventbraid.saga.running._attempt import attempted, log_failure, refusal_of
from eventbraid.saga.running._error_classes import (
    MAXIMUM_OUTAGES,
    NOT_ABOUT_THE_STEP,
    REFUSALS,
    breather,
    pause_after,
)
from eventbraid.saga.running._executed import own_part
from eventbraid.saga.running._journal import fold_result

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.command import Executed
    from eventbraid.saga._cancellation import Host
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._step import Local, Step
    from eventbraid.saga.definition._step_base import AnyCommand
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run


class StepExecution:
    """Makes the attempts of steps."""

    __slots__ = ("_draw", "_host", "_journal", "_pause")

    def __init__(
        self,
        journal: Journal,
        host: Host,
        draw: Callable[[], float],
        pause: Callable[[float], Awaitable[bool]],
    ) -> None:
        """Record by a journal.

        Args:
            journal: Writes the sagas' streams.
            host: Knows whether the coordinator is cancelled.
            draw: Draws a number from 0 to 1, for the jitter.
            pause: Waits for seconds, and returns whether the coordinator is left.
        """
        self._pause = pause
        self._journal = journal
        self._host = host
        self._draw = draw

    async def execute(self, run: Run[Any], node: Local[Any], attempt: int) -> None:
        """Commit a local step's command with the record of it and what follows.

        Raises:
            Defect: The step's code has a bug.
            Outage: The system refused something to the step's code.
            VersionConflict: Another writer appended to the saga's stream.
        """
        key = forward_key(run.progress, node.name)
        context = _context(run, node, attempt, key)
        done = StepSucceeded(node.name, attempt)
        # What follows may hang on the state, which `then` gives after the commit only.
        events = (
            succeeded(run.saga, run.progress, run.state, done, run.clock.now())
            if node.then is None
            else (done,)
        )
        try:
            # By itself: whatever the function raises, it says nothing of this store.
            command = called(node.name, "command", lambda: node.make(context))
            commit = await self._journal.execute(
                run, command, events, run.state, cause=key
            )
        except (*NOT_ABOUT_THE_STEP, Defect, Outage):
            raise
        except REFUSALS as rejection:
            failure = refusal_of(rejection)
            log_failure(context, "command", failure, rejection)
            await self._fail(run, node, failure)
            return
        except BaseException as error:
            raise trouble_of(node.name, "command", error) from error
        if node.then is not None:
            await self._fold(run, node, own_part(commit, run.id))

    async def _fold(self, run: Run[Any], node: Local[Any], executed: Executed) -> None:
        """Fold what was executed; the command is committed and can't be again."""
        outages = 0
        while True:
            try:
                run.state = _folded(run, node, executed)
            except Outage as outage:
                outages += 1
                await self._sit_out(run, outage, outages)
            else:
                return

    async def call(self, run: Run[Any], node: Step[Any, Any], attempt: int) -> None:
        """Make the attempt of an external step whose start is recorded.

        Raises:
            Defect: The step's code has a bug.
            VersionConflict: Another writer appended to the saga's stream.
        """
        context = _call_context(run, node, attempt)
        if run.progress.crashes:
            # The attempt before may have had its effect. The receiver is asked here,
            # in a recorded attempt, because asking may end this process as well.
            known = await self._asked(run, node, context)
            if known is not None:
                await self._happened(run, node, context, known.result, None, asked=True)
                return
            context = _renewed(context, run)
        defects = node.defects
        outcome = await attempted(
            lambda: node.action(context),
            context,
            "action",
            retry=node.retry,
            timeout=node.timeout,
            defects=run.saga.defects if defects is None else defects,
            host=self._host,
        )
        if isinstance(outcome, Done):
            await self._happened(run, node, context, outcome.result, None)
        else:
            await self._settle(run, node, context, outcome)

    async def record(self, run: Run[Any], node: Step[Any, Any], attempt: int) -> None:
        """Record the success of a step whose answer an earlier record kept.

        Raises:
            Defect: The step's code still has a bug.
            VersionConflict: Another writer appended to the saga's stream.
        """
        answer = run.progress.answer
        if answer is None:
            raise AssertionError(node.name)
        context = _call_context(run, node, attempt)
        try:
            result = node.result.decode(answer)
        except ValueError as error:
            raise Defect(node.name, "record", error, answer) from error
        await self._happened(run, node, context, result, None)

    async def _settle(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        outcome: StepFailure | Bug,
    ) -> None:
        """Ask what has come of an attempt that didn't succeed, and record it."""
        if isinstance(outcome, Bug):
            raise Defect(node.name, "action", outcome.error) from outcome.error
        known = None
        if outcome.doubt is not None:
            known = await self._asked(run, node, _renewed(context, run))
        if known is None:
            await self._fail(run, node, outcome)
        else:
            await self._happened(run, node, context, known.result, outcome, asked=True)

    async def _asked(
        self, run: Run[Any], node: Step[Any, Any], context: StepContext[Any]
    ) -> Done[Any] | None:
        """Ask the receiver whether it knows the key; None if it is not known."""
        ask = node.ask
        if ask is None:
            return None
        answer = await attempted(
            lambda: ask(context),
            context,
            "ask",
            retry=node.retry,
            timeout=node.timeout,
            defects=_defects(run, node),
            host=self._host,
        )
        if isinstance(answer, Bug):
            raise Defect(node.name, "ask", answer.error) from answer.error
        if not isinstance(answer, Done) or answer.result is None:
            return None
        known = cast("object", answer.result)
        if isinstance(known, Done):
            return answer.result
        wrong = TypeError(
            f"`ask` of step {node.name!r} returned {shown(known)}; expected "
            "Done(result) if the receiver knows the key, None if it doesn't"
        )
        raise Defect(node.name, "ask", wrong)

    async def _happened(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        result: object,
        doubted: StepFailure | None,
        *,
        asked: bool = False,
    ) -> None:
        """Record a success, however often others write to the stream meanwhile.

        The receiver has answered, so it isn't called again for contention in the store.
        """
        outages = 0
        while True:
            try:
                await self._record_success(
                    run, node, context, result, doubted, asked=asked
                )
            except VersionConflict:
                await self._journal.reload(run)
            except (OutcomeUnknown, RetriesExhausted):
                await anyio.sleep(breather(self._draw()))
                await self._journal.reload(run)
            except Outage as outage:
                outages += 1
                await self._sit_out(run, outage, outages)
            else:
                return
            if not run.progress.awaits(node.name):
                await self._answer_late(run, node, result)
                return

    async def _sit_out(self, run: Run[Any], outage: Outage, outages: int) -> None:
        """Wait before code is called again that the system has refused something.

        Raises:
            Defect: It has been refused too often, or the coordinator is left. The
                answer is recorded with it, so the receiver isn't called again.
        """
        log_outage(run.id, outage)
        is_left = outages < MAXIMUM_OUTAGES and await self._pause(
            pause_after(outages, self._draw())
        )
        if is_left or outages >= MAXIMUM_OUTAGES:
            raise outage.as_defect() from outage.error

    async def _record_success(
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
        except Exception as error:  # noqa: BLE001 - recorded: the effect stands, its record doesn't
            await self._fail_to_record(run, node, context, error)
            return
        command = _command_of(run, node, context, answer)
        done = StepSucceeded(node.name, run.progress.attempt, answer.json, asked=asked)
        doubt = () if doubted is None else _doubt_record(node, run, doubted)
        reached = after(run.progress, (*doubt, done))
        state, defect = run.state, None
        if node.then is not None:
            # A bug in `then` must not hold back the fact that the step happened.
            state, defect = _state_after(run, node, answer)
        events: tuple[SagaEvent, ...] = (*doubt, done)
        if defect is None:
            events += advance_if_possible(run.saga, reached, state, run.clock.now())
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
                await self._fail_to_record(run, node, context, error)
                return
            failure = refusal_of(error)
            log_failure(context, "record", failure, error)
            await self._refused(run, node, done, doubt, state, failure)
            return
        except BaseException as error:
            raise trouble_of(node.name, "record", error, answer.json) from error
        if defect is not None:
            raise defect

    async def _fail_to_record(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        error: Exception,
    ) -> None:
        failure = _unrecordable(error)
        log_failure(context, "action", failure, error)
        await self._fail(run, node, failure)

    async def _refused(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        done: StepSucceeded,
        doubt: tuple[SagaEvent, ...],
        state: Encoded[Any],
        failure: StepFailure,
    ) -> None:
        """Go on from a step that happened, but whose command was refused."""
        if node.kind is not Kind.COMPENSATABLE or node.otherwise is not None:
            await self._fail(run, node, _doubted(failure))
            return
        base = after(run.progress, doubt)
        events = refused_after_success(base, done, failure)
        try:
            await self._journal.commit(run, (*doubt, *events), state)
        except NOT_ABOUT_THE_STEP:
            raise
        except Exception as error:  # noqa: BLE001 - the result itself may be what is refused
            await self._fail(run, node, _unrecordable(error))

    async def _answer_late(
        self, run: Run[Any], node: Step[Any, Any], result: object
    ) -> None:
        """Record an answer that came when the saga had moved on.

        One that can't be recorded is dropped: the step is then compensated as unknown.
        """
        while node.name not in run.progress.results:
            attempt = max(run.progress.attempt, 1)
            try:
                answer = node.result.encode(result)
                late = StepAnsweredLate(node.name, attempt, answer)
                await self._journal.commit(run, (late,), run.state)
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

    async def _fail(self, run: Run[Any], node: Node[Any], failure: StepFailure) -> None:
        verdict = self._verdict(run, failure)
        if node.otherwise is None or not verdict.is_replaced:
            await self._journal.commit(run, verdict.events, run.state)
            return
        try:
            await self._replace(run, node, node.otherwise, failure, verdict.events)
        except (*NOT_ABOUT_THE_STEP, Defect, Outage):
            raise
        except REFUSALS as rejection:
            both = _with_refusal(failure, refusal_of(rejection))
            key = forward_key(run.progress, node.name)
            context = _context(run, node, max(run.progress.attempt, 1), key)
            log_failure(context, "otherwise", both, rejection)
            verdict = self._verdict(run, both, replaceable=False)
            await self._journal.commit(run, verdict.events, run.state)
        except BaseException as error:
            raise trouble_of(node.name, "otherwise", error) from error

    async def _replace(
        self,
        run: Run[Any],
        node: Node[Any],
        otherwise: Callable[[StepContext[Any], StepFailure], AnyCommand],
        failure: StepFailure,
        events: tuple[SagaEvent, ...],
    ) -> None:
        """Commit the command that takes the place of a step that failed for good."""
        key = forward_key(run.progress, node.name)
        context = _context(run, node, max(run.progress.attempt, 1), key)
        command = called(node.name, "otherwise", lambda: otherwise(context, failure))
        given_up = after(run.progress, events)
        events += advance_if_possible(run.saga, given_up, run.state, run.clock.now())
        cause = f"{key}/otherwise"
        await self._journal.execute(run, command, events, run.state, cause=cause)

    def _verdict(
        self, run: Run[Any], failure: StepFailure, *, replaceable: bool = True
    ) -> Consequence:
        return failed(
            run.saga,
            run.progress,
            failure,
            run.clock.now(),
            facts=encode_facts(failure.facts),
            chance=self._draw(),
            replaceable=replaceable,
        )


def _command_of(
    run: Run[Any],
    node: Step[Any, Any],
    context: StepContext[Any],
    answer: Encoded[Any],
) -> AnyCommand | None:
    if node.record is None:
        return None
    try:
        is_frozen = run.saga.state_codec.is_frozen
        own = context if is_frozen else _renewed(context, run)
        return node.record(own, answer.read())
    except BaseException as error:
        raise trouble_of(node.name, "record", error, answer.json) from error


def _defects(run: Run[Any], node: Step[Any, Any]) -> tuple[type[BaseException], ...]:
    return run.saga.defects if node.defects is None else node.defects


def _state_after(
    run: Run[Any], node: Step[Any, Any], answer: Encoded[Any]
) -> tuple[Encoded[Any], Defect | None]:
    """Return the state after a step, or the state before it and why."""
    try:
        return fold_result(run.saga, node, run.state, answer.read), None
    except BaseException as error:
        trouble = trouble_of(node.name, "then", error)
        if isinstance(trouble, Outage):
            raise Outage(node.name, "then", trouble.error, answer.json) from error
        trouble.__cause__ = error
        return run.state, trouble


def _folded(run: Run[Any], node: Local[Any], executed: Executed) -> Encoded[Any]:
    try:
        return fold_result(run.saga, node, run.state, lambda: executed)
    except BaseException as error:
        raise trouble_of(node.name, "then", error) from error


def _context(
    run: Run[Any], node: Node[Any], attempt: int, key: str
) -> StepContext[Any]:
    return StepContext(
        state=run.state.read(),
        saga_id=run.id,
        step=node.name,
        attempt=attempt,
        idempotency_key=key,
        forward_key=key,
        deadline=run.progress.deadline,
    )


def _call_context(
    run: Run[Any], node: Step[Any, Any], attempt: int
) -> StepContext[Any]:
    return _context(run, node, attempt, forward_key(run.progress, node.name))


def _renewed(context: StepContext[Any], run: Run[Any]) -> StepContext[Any]:
    """Return the context for another function: none sees what the one before noted."""
    if run.saga.state_codec.is_frozen:
        return context
    return structs.replace(context, state=run.state.read())


def _doubt_record(
    node: Step[Any, Any], run: Run[Any], doubted: StepFailure
) -> tuple[SagaEvent, ...]:
    """Give the record of the doubt that asking the receiver has resolved."""
    if doubted.doubt is None or not run.progress.in_flight:
        return ()
    record = StepUnknown(
        node.name,
        doubted.doubt,
        doubted.code,
        doubted.message,
        run.progress.attempt,
    )
    return (record,)


def _with_refusal(failure: StepFailure, refused: StepFailure) -> StepFailure:
    """Tell both: why a step failed, and why nothing could take its place."""
    both = f"{failure.message}; and what should take its place: {refused}"
    return StepFailure(failure.code, both, failure.facts, failure.doubt)


def _unrecordable(error: Exception) -> StepFailure:
    message = f"it happened, but its result can't be recorded: {text_of(error)}"
    return StepFailure(type(error).__name__, message, doubt="lost")


def _doubted(failure: StepFailure) -> StepFailure:
    message = f"it happened, but its command was refused: {failure.message}"
    return StepFailure(failure.code, message, failure.facts, doubt="lost")
