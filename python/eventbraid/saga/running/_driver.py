"""Drives one saga: plans its next action and takes it, again and again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from eventbraid._logging import SAGA
from eventbraid.errors import OutcomeUnknown, RetriesExhausted, VersionConflict
from eventbraid.saga._cancellation import Host, drop_cancellation_requests
from eventbraid.saga._defect_classification import Defect, Outage, log_outage
from eventbraid.saga.machine._next_action import (
    AwaitAttempts,
    Blocked,
    Commit,
    Terminal,
    Together,
    Wait,
    next_action,
)
from eventbraid.saga.machine._outcomes import Crash
from eventbraid.saga.machine._progress import SagaStatus
from eventbraid.saga.running._attempt_dispatch import AttemptDispatch
from eventbraid.saga.running._attempts_together import AttemptsTogether
from eventbraid.saga.running._calls import Calls
from eventbraid.saga.running._defect_block import DefectBlock, blocking_defect
from eventbraid.saga.running._pauses import (
    pause_after_contention,
    pause_after_outage,
    pause_while_blocked,
)
from eventbraid.saga.running._saga_time import (
    bound_deadline,
    seconds_to_confirm,
    seconds_until,
)
from eventbraid.saga.running._takeover import first_action_after_takeover

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.saga.machine._next_action import Attempt
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._permits import Permit
    from eventbraid.saga.running._run import Run


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of a saga before it is driven further.

    Attributes:
        seconds: The length of the wait.
        resumed: Whether the attempt in flight was made by a process that has ended.
    """

    seconds: float
    resumed: bool = False


class Driver:
    """Drives sagas: each call of `drive` drives one saga until it rests or must wait.

    Attributes:
        host: The task that entered the coordinator.
        calls: The calls of the coordinator's sagas.
        is_stopping: Whether a stop was requested. Then no saga takes a further action.
    """

    __slots__ = (
        "_block",
        "_dispatch",
        "_draw",
        "_journal",
        "calls",
        "host",
        "is_stopping",
    )

    def __init__(
        self, journal: Journal, pause: Callable[[float], Awaitable[bool]]
    ) -> None:
        """Write records through a journal.

        Args:
            journal: Reads and writes the sagas' streams.
            pause: Waits for a number of seconds, and returns whether the coordinator is
                being left.
        """
        self._journal = journal
        self._draw = random.Random().random
        self.is_stopping = False
        self.host = Host()
        self.calls = Calls()
        self._block = DefectBlock(journal)
        self._dispatch = AttemptDispatch(
            journal, self.host, self.calls, self._draw, pause, self._may_drive
        )

    def stop(self) -> None:
        """Let each saga end its current action and begin no further one."""
        self.is_stopping = True

    async def drive(
        self, run: Run[Any], permit: Permit, *, resumed: bool
    ) -> Pause | Terminal | None:
        """Execute the saga's actions one by one, until it is at rest or must wait.

        Each action is planned from the log alone, and the result of an action is in the
        log before the next action is planned. So the process may be killed at any line
        of this code. The next coordinator folds the stream and plans the same action,
        or the action after it.

        Args:
            run: The saga.
            permit: The saga's permit, which is acquired here unless it is held already.
            resumed: Whether the attempt in flight was made by a process that has ended.

        Returns:
            A `Pause` if the saga must wait, a `Terminal` if it is at rest, and None if
            this coordinator must not drive it further.

        Raises:
            SagaBlocked: This program can't fold the saga's results, or the saga is
                blocked by a defect.
            LeaseLost: Another coordinator has the saga's shard.
            EventbraidError: The store has failed.
        """
        while not (self.is_stopping or run.is_leaving):
            try:
                if not permit.is_held:
                    await permit.acquire()
                    # The wait may have been long, so check again whether to continue.
                    continue
                end = await self._take_next_action(run, resumed=resumed)
                run.setbacks.end_outages()
                if end is not None:
                    return end
                resumed = False
            except VersionConflict:
                # Another writer has appended to the stream, so the store has refused
                # the records of this action.
                run.mark_stale()
            except (OutcomeUnknown, RetriesExhausted):
                # The commit may or may not have happened; only the log shows it.
                await anyio.sleep(pause_after_contention(self._draw()))
                run.mark_stale()
            except Outage as outage:
                log_outage(run.id, outage)
                return self._pause_after_outage(run, resumed=resumed)
            except anyio.get_cancelled_exc_class():
                if self.host.is_cancelled:
                    raise
                # Other code of the program cancelled the task of this saga. If that
                # cancellation request stayed pending, it would cancel the next wait,
                # too.
                SAGA.warning("the task of saga %r was cancelled; it continues", run.id)
                await drop_cancellation_requests(0)
                # The same code may cancel the task at each action. A pause before the
                # next action prevents a busy loop.
                run.setbacks.add_outage()
                return self._pause_after_outage(run, resumed=resumed)
        return None

    def seconds_until_tried_again(self, run: Run[Any]) -> float:
        """Return the pause before another try of a saga that an outage blocks."""
        return pause_while_blocked(run.setbacks.outage_blocks, self._draw())

    async def record_wait(self, run: Run[Any]) -> None:
        """Record that a call is no longer alone, because it waits for another saga."""
        await self._dispatch.record_wait(run)

    def _may_drive(self, run: Run[Any]) -> bool:
        return not (self.is_stopping or run.is_leaving)

    def _pause_after_outage(self, run: Run[Any], *, resumed: bool) -> Pause:
        run.mark_stale()
        seconds = pause_after_outage(run.setbacks.outages, self._draw())
        return Pause(seconds, resumed=resumed)

    async def _take_next_action(
        self, run: Run[Any], *, resumed: bool
    ) -> Pause | Terminal | None:
        """Execute one action; return None if the next action may follow at once."""
        # A record that is appended during the read marks the run as stale again. The
        # saga has no timer yet, so that mark is its only notification: if the saga
        # began to wait now, nothing would wake it.
        while run.is_stale:
            await self._journal.reload(run)
        if not run.clock.is_confirmed and (seconds := seconds_to_confirm(run)):
            return Pause(seconds, resumed=resumed)
        bound_deadline(run)
        try:
            if resumed and await self._record_interruption(run):
                return None
            action = next_action(
                run.saga, run.state, run.clock.now(), run.setbacks.defects
            )
            if run.is_taken_over:
                action = first_action_after_takeover(run, action)
            match action:
                case Commit(events, state):
                    await self._journal.commit(run, events, state)
                case Wait(until):
                    return Pause(seconds_until(run, until))
                case Terminal():
                    return _at_rest(run, action)
                case Blocked():
                    self._block.raise_blocked(run)
                case _:
                    await self._make_attempts(run, action)
        except (Defect, Outage) as trouble:
            await self._block.block(run, blocking_defect(run, trouble))
        return None

    def _make_attempts(
        self, run: Run[Any], action: Attempt | Together | AwaitAttempts
    ) -> Awaitable[None]:
        assert not isinstance(action, AwaitAttempts)  # noqa: S101 - narrows the type
        # Not ``async``: each coroutine around a call costs time whenever the call
        # waits.
        if not isinstance(action, Together):
            return self._dispatch.attempt(run, action)
        together = AttemptsTogether(run, self._dispatch, self._journal, self._may_drive)
        return together.make(action.attempts)

    async def _record_interruption(self, run: Run[Any]) -> bool:
        """Record the attempts that a crash ended; return whether there were any."""
        events, state = run.decide(Crash(self._draw()))
        if events:
            await self._journal.commit(run, events, state)
        return bool(events)


def _at_rest(run: Run[Any], terminal: Terminal) -> Terminal:
    if terminal.status is SagaStatus.STUCK:
        SAGA.error("saga %r is stuck: %s", run.id, run.state.progress.stuck_for)
    return terminal
