"""Moves backward: the attempts to undo steps, and what is recorded of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from msgspec import structs

from eventbraid.saga._attempt import attempted, refusal_of
from eventbraid.saga._context import Done, StepContext, StepFailure, Unknown
from eventbraid.saga._follow import undo_failed, undone
from eventbraid.saga._journal import parked
from eventbraid.saga._keys import forward_key, undo_key
from eventbraid.saga._trouble import NOT_ABOUT_THE_STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.saga._handle import Run
    from eventbraid.saga._journal import Journal
    from eventbraid.saga._node import AnyCommand, Node
    from eventbraid.saga._step import Local, Step, Undo


class Backward:
    """Makes the attempts to undo steps."""

    __slots__ = ("_draw", "_journal")

    def __init__(self, journal: Journal, draw: Callable[[], float]) -> None:
        """Record by a journal, with a draw from 0 to 1 for the jitter."""
        self._journal = journal
        self._draw = draw

    async def execute(self, run: Run[Any], node: Local[Any], attempt: int) -> None:
        """Execute the command that undoes a local step, with the record of it.

        Raises:
            VersionConflict: Somebody else wrote to the saga's stream.
        """
        make = node.undo
        if make is None:
            raise AssertionError(node.name)
        context = _context(run, node, attempt)
        try:
            await self._commit(run, context, make(context))
        except NOT_ABOUT_THE_STEP:
            raise
        except Exception as error:  # noqa: BLE001 - recorded as the compensation's failure
            await self._fail(run, refusal_of(error))

    async def call(self, run: Run[Any], node: Step[Any, Any], attempt: int) -> None:
        """Make an attempt to undo an external step.

        Neither a cancellation from outside nor the saga's deadline ends it.

        Raises:
            VersionConflict: Somebody else wrote to the saga's stream.
        """
        undo = node.undo
        if undo is None:
            raise AssertionError(node.name)
        context = _context(run, node, attempt)
        did = _what_is_known(run, node)
        with anyio.CancelScope(shield=True):
            outcome = await attempted(
                lambda: undo.action(context, did), undo.retry, undo.timeout
            )
            if isinstance(outcome, StepFailure):
                await self._fail(run, outcome)
            else:
                await self._undone(run, undo, context, outcome.result)

    async def _undone(
        self,
        run: Run[Any],
        undo: Undo[Any, Any],
        context: StepContext[Any],
        answer: object,
    ) -> None:
        try:
            command: AnyCommand | None = None
            if undo.record is not None:
                renewed = structs.replace(context, state=run.state.read())
                command = undo.record(renewed, answer)
            await self._commit(run, context, command)
        except NOT_ABOUT_THE_STEP:
            raise
        except Exception as error:  # noqa: BLE001 - recorded as the compensation's failure
            refused = refusal_of(error)
            message = f"it is undone, but its command was refused: {refused.message}"
            await self._fail(run, StepFailure(refused.code, message, doubt="lost"))

    async def _commit(
        self, run: Run[Any], context: StepContext[Any], command: AnyCommand | None
    ) -> None:
        events = undone(run.progress)
        if command is None:
            await self._journal.commit(run, events, run.state)
        else:
            await self._journal.execute(
                run, command, events, run.state, cause=context.idempotency_key
            )

    async def _fail(self, run: Run[Any], failure: StepFailure) -> None:
        events = undo_failed(
            run.saga, run.progress, failure, run.clock.now(), chance=self._draw()
        )
        await self._journal.commit(run, events, run.state)


def _what_is_known(run: Run[Any], node: Step[Any, Any]) -> Done[Any] | Unknown:
    result = run.progress.results.get(node.name)
    if result is None:
        return Unknown(run.progress.doubt or "lost")
    try:
        return Done(node.result.decode(result))
    except ValueError as error:
        reason = f"{node.result.what} can't be read back ({error})"
        raise parked(run.progress, f"{reason}; correct the program") from error


def _context(run: Run[Any], node: Node[Any], attempt: int) -> StepContext[Any]:
    return StepContext(
        state=run.state.read(),
        saga_id=run.id,
        step=node.name,
        attempt=attempt,
        idempotency_key=undo_key(run.progress, node.name),
        forward_key=forward_key(run.progress, node.name),
        deadline=run.progress.deadline,
        failure=run.progress.failure,
    )
