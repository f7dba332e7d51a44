"""Moves forward: the attempts of steps, and what is recorded of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import structs

from eventbraid.errors import OutcomeUnknown, RetriesExhausted, VersionConflict
from eventbraid.saga._attempt import attempted, refusal_of
from eventbraid.saga._context import Done, StepContext, StepFailure
from eventbraid.saga._event import (
    SagaEvent,
    StepAnsweredLate,
    StepSucceeded,
    StepUnknown,
)
from eventbraid.saga._executed import own_part
from eventbraid.saga._facts import encode_facts
from eventbraid.saga._follow import (
    Verdict,
    failed,
    refused_after_success,
    succeeded,
)
from eventbraid.saga._journal import fold_result, parked
from eventbraid.saga._keys import forward_key
from eventbraid.saga._node import Kind, Node
from eventbraid.saga._plan import advance_if_possible
from eventbraid.saga._step import Local, Step, external
from eventbraid.saga._text import described, text_of
from eventbraid.saga._transition import after
from eventbraid.saga._trouble import NOT_ABOUT_THE_STEP, breather

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command import Executed
    from eventbraid.saga._codec import Encoded
    from eventbraid.saga._handle import Run
    from eventbraid.saga._journal import Journal
    from eventbraid.saga._node import AnyCommand

_log = logging.getLogger("eventbraid.saga")


class Forward:
    """Makes the attempts of steps."""

    __slots__ = ("_draw", "_journal")

    def __init__(self, journal: Journal, draw: Callable[[], float]) -> None:
        """Record by a journal, with a draw from 0 to 1 for the jitter."""
        self._journal = journal
        self._draw = draw

    async def execute(self, run: Run[Any], node: Local[Any], attempt: int) -> None:
        """Commit a local step's command with the record of it and what follows.

        Raises:
            VersionConflict: Somebody else wrote to the saga's stream.
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
            commit = await self._journal.execute(
                run, node.make(context), events, run.state, cause=key
            )
        except NOT_ABOUT_THE_STEP:
            raise
        except Exception as error:  # noqa: BLE001 - it is recorded as the step's failure
            await self._fail(run, node, refusal_of(error))
            return
        if node.then is not None:
            run.state = _folded(run, node, own_part(commit, run.id))

    async def call(self, run: Run[Any], node: Step[Any, Any], attempt: int) -> None:
        """Make the attempt of an external step whose start is recorded.

        Raises:
            VersionConflict: Somebody else wrote to the saga's stream.
        """
        context = _call_context(run, node, attempt)
        outcome = await attempted(
            lambda: node.action(context), node.retry, node.timeout
        )
        await self._settle(run, node, context, outcome)

    async def resolve(self, run: Run[Any], failure: StepFailure) -> None:
        """Find out about the attempt that was under way when the process died."""
        node = external(run.saga.steps[run.progress.cursor])
        context = _call_context(run, node, run.progress.attempt)
        await self._settle(run, node, context, failure)

    async def _settle(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        outcome: Done[Any] | StepFailure,
    ) -> None:
        if isinstance(outcome, Done):
            await self._happened(run, node, context, outcome.result, None)
            return
        doubted = outcome.doubt is not None
        known = await _asked(node, _renewed(context, run)) if doubted else None
        if known is None:
            await self._fail(run, node, outcome)
        else:
            await self._happened(run, node, context, known.result, outcome)

    async def _happened(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        result: object,
        doubted: StepFailure | None,
    ) -> None:
        """Record a success, however often others write to the stream meanwhile.

        The receiver has answered, so it isn't called again for contention in the store.
        """
        while True:
            try:
                await self._record_success(run, node, context, result, doubted)
            except VersionConflict:
                await self._journal.reload(run)
            except (OutcomeUnknown, RetriesExhausted):
                await anyio.sleep(breather(self._draw()))
                await self._journal.reload(run)
            else:
                return
            if not run.progress.awaits(node.name):
                await self._answer_late(run, node, result)
                return

    async def _record_success(
        self,
        run: Run[Any],
        node: Step[Any, Any],
        context: StepContext[Any],
        result: object,
        doubted: StepFailure | None,
    ) -> None:
        command: AnyCommand | None = None
        try:
            answer = node.result.record(result)
            state = fold_result(run.saga, node, run.state, answer.read)
            if node.record is not None:
                command = node.record(_renewed(context, run), answer.read())
        except Exception as error:  # noqa: BLE001 - recorded: the effect stands, its record doesn't
            await self._fail(run, node, _unrecordable(error))
            return
        asked = doubted is not None
        done = StepSucceeded(node.name, run.progress.attempt, answer.json, asked=asked)
        doubt = _doubt_record(node, run, doubted)
        reached = after(run.progress, (*doubt, done))
        follow = advance_if_possible(run.saga, reached, state, run.clock.now())
        events = (*doubt, done, *follow)
        try:
            if command is None:
                await self._journal.commit(run, events, state)
            else:
                await self._journal.execute(
                    run, command, events, state, cause=context.idempotency_key
                )
        except NOT_ABOUT_THE_STEP:
            raise
        except Exception as error:  # noqa: BLE001 - recorded as what undoes the saga
            if command is None:
                await self._fail(run, node, _unrecordable(error))
            else:
                await self._refused(run, node, done, doubt, state, refusal_of(error))

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
                _log.warning(
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
        except NOT_ABOUT_THE_STEP:
            raise
        except Exception as error:  # noqa: BLE001 - recorded with the step's failure
            both = _with_refusal(failure, refusal_of(error))
            verdict = self._verdict(run, both, replaceable=False)
            await self._journal.commit(run, verdict.events, run.state)

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
        command = otherwise(context, failure)
        given_up = after(run.progress, events)
        events += advance_if_possible(run.saga, given_up, run.state, run.clock.now())
        cause = f"{key}/otherwise"
        await self._journal.execute(run, command, events, run.state, cause=cause)

    def _verdict(
        self, run: Run[Any], failure: StepFailure, *, replaceable: bool = True
    ) -> Verdict:
        return failed(
            run.saga,
            run.progress,
            failure,
            run.clock.now(),
            facts=encode_facts(failure.facts),
            chance=self._draw(),
            replaceable=replaceable,
        )


async def _asked(node: Step[Any, Any], context: StepContext[Any]) -> Done[Any] | None:
    """Ask the receiver whether it knows the key; no answer is no knowledge."""
    ask = node.ask
    if ask is None:
        return None
    answer = await attempted(lambda: ask(context), node.retry, node.timeout)
    return answer.result if isinstance(answer, Done) else None


def _folded(run: Run[Any], node: Local[Any], executed: Executed) -> Encoded[Any]:
    try:
        return fold_result(run.saga, node, run.state, lambda: executed)
    except Exception as error:
        reason = f"`then` of step {node.name!r} raised {described(error)}"
        raise parked(run.progress, f"{reason}; correct the program") from error


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
    node: Step[Any, Any], run: Run[Any], doubted: StepFailure | None
) -> tuple[SagaEvent, ...]:
    """Give the record of the doubt that asking the receiver has resolved."""
    if doubted is None or doubted.doubt is None or not run.progress.in_flight:
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
