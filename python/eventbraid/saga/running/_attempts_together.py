"""Makes attempts of several steps of a saga at the same time.

The steps of parallel branches are attempted in tasks of their own. Each outcome is
decided and recorded while its task has the saga's turn (`Run.turn`). Otherwise two
outcomes could be decided on the same state, and the records of the second one would be
refused. After each outcome the next attempts are planned from the recorded state, as
for a saga without groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from eventbraid.errors import OutcomeUnknown, RetriesExhausted, VersionConflict
from eventbraid.saga.machine._next_action import (
    AwaitAttempts,
    Blocked,
    Commit,
    Terminal,
    Together,
    Wait,
    next_action,
)
from eventbraid.saga.running._saga_time import seconds_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from eventbraid.saga.machine._next_action import Action, Attempt
    from eventbraid.saga.running._attempt_dispatch import AttemptDispatch
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run


class AttemptsTogether:
    """The attempts of one saga that are made at the same time."""

    __slots__ = (
        "_changed",
        "_dispatch",
        "_journal",
        "_may_drive",
        "_run",
        "_running",
        "_trouble",
    )

    def __init__(
        self,
        run: Run[Any],
        dispatch: AttemptDispatch,
        journal: Journal,
        may_drive: Callable[[Run[Any]], bool],
    ) -> None:
        """Begin without attempts.

        Args:
            run: The saga.
            dispatch: Makes each attempt.
            journal: Reads and writes the saga's stream.
            may_drive: Returns whether the saga may take a further action here.
        """
        self._run = run
        self._dispatch = dispatch
        self._journal = journal
        self._may_drive = may_drive
        self._changed = anyio.Event()
        self._running: set[str] = set()
        self._trouble: Exception | None = None

    async def make(self, attempts: tuple[Attempt, ...]) -> None:
        """Make attempts and those that follow from them, until all have ended.

        Raises:
            Defect: The code of a step has a bug.
            Outage: The local code of a step raised an `OSError`.
            EventbraidError: The store has failed, or the lease is lost.
        """
        self._run.begin_turns(self._note_change)
        try:
            async with anyio.create_task_group() as group:
                self._start(group, attempts)
                while self._running:
                    await self._wait(await self._continue(group))
        finally:
            self._run.end_turns()
        if self._trouble is not None:
            raise self._trouble

    def _start(self, group: TaskGroup, attempts: tuple[Attempt, ...]) -> None:
        for attempt in attempts:
            self._running.add(attempt.step.name)
            group.start_soon(self._make_one, attempt)

    async def _make_one(self, attempt: Attempt) -> None:
        try:
            await self._dispatch.attempt(self._run, attempt)
        except (VersionConflict, OutcomeUnknown, RetriesExhausted):
            # Another writer has appended to the stream, or only the log shows whether
            # the commit has happened.
            self._run.mark_stale()
        except Exception as error:  # noqa: BLE001 - it is raised when the others have ended
            self._trouble = self._trouble or error
        finally:
            self._running.discard(attempt.step.name)
            self._changed.set()

    async def _continue(self, group: TaskGroup) -> float | None:
        """Start the attempts that may be made now, beside those that are running.

        Returns:
            The seconds until the next attempt is due; None if that isn't known.
        """
        while self._trouble is None and self._may_drive(self._run):
            try:
                action = await self._plan()
            except (VersionConflict, OutcomeUnknown, RetriesExhausted):
                self._run.mark_stale()
                continue
            except Exception as error:  # noqa: BLE001 - it is raised when the others have ended
                self._trouble = error
                return None
            match action:
                case Commit():
                    continue
                case Together(attempts):
                    self._start(group, attempts)
                case Wait(until):
                    return seconds_until(self._run, until)
                case AwaitAttempts() | Terminal() | Blocked():
                    return None
                case _:
                    self._start(group, (action,))
        return None

    async def _plan(self) -> Action:
        """Return the next action; if it is a commit, it has been made."""
        run = self._run
        async with run.turn():
            if self._trouble is not None or not self._may_drive(run):
                # While this task waited for the turn, another one failed to record the
                # outcome of its call. That call seems to be in flight still.
                return AwaitAttempts()
            while run.is_stale:
                await self._journal.reload(run)
            action = next_action(
                run.saga,
                run.state,
                run.clock.now(),
                run.setbacks.defects,
                self._running,
            )
            if isinstance(action, Commit):
                await self._journal.commit(run, action.events, action.state)
        return action

    def _note_change(self) -> None:
        self._changed.set()

    async def _wait(self, seconds: float | None) -> None:
        """Wait until an attempt has ended, at most for a number of seconds."""
        await self._run.clock.wait(self._changed, seconds)
        if self._changed.is_set():
            self._changed = anyio.Event()
