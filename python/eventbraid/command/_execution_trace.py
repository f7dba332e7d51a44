"""Measures one execution, and reports its facts to the hooks of the executor.

The stages of an execution call this object at their borders. An execution without hooks
has no trace, and makes none of these calls.

The attempt on the fast path and its continuation on the general path are one attempt:
if the fast path leaves the execution to `Execution`, the attempt stays open, and
`begin_attempt` with the same number continues it. So both paths report the same facts.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Literal, TypeAlias

from eventbraid.command._hooks import (
    AttemptEnd,
    AttemptStart,
    ExecutionEnd,
    ExecutionHooks,
    ExecutionStart,
)
from eventbraid.command._provenance import is_raised_by_command
from eventbraid.errors import (
    CommandRejected,
    DeadlineExceeded,
    OutcomeUnknown,
    RetriesExhausted,
    VersionConflict,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from eventbraid.command._executed import Executed
    from eventbraid.command._hook_calls import HookCalls
    from eventbraid.command._hooks import Outcome
    from eventbraid.errors import ConflictedCategory, ConflictedStream

Phase: TypeAlias = Literal["lookup", "read", "fold", "decide", "append", "snapshot"]
"""A part of an attempt whose duration is reported."""

_PHASES: tuple[Phase, ...] = ("lookup", "read", "fold", "decide", "append", "snapshot")


class ExecutionTrace:
    """The facts of one execution, and the observers that receive them.

    Only the execution itself calls the methods, one at a time, so there is no lock.

    Attributes:
        events_read: The number of events that the store returned in this attempt.
        phase: The phase whose time is being measured; None between two phases.
    """

    __slots__ = (
        "_attempt_began",
        "_began",
        "_calls",
        "_error",
        "_is_attempting",
        "_lookups",
        "_number",
        "_observers",
        "_phase_began",
        "_seconds",
        "_start",
        "_waiting_since",
        "events_read",
        "phase",
    )

    def __init__(self, calls: HookCalls, start: ExecutionStart) -> None:
        """Prepare to report an execution.

        Args:
            calls: Calls the hooks of the executor.
            start: The execution.
        """
        self._calls = calls
        self._start = start
        self._observers: list[ExecutionHooks] = []
        self._number = 0
        self._is_attempting = False
        self._error: BaseException | None = None
        self._lookups: dict[str, bool] = {}
        self._seconds: dict[Phase, float] = {}
        self.events_read = 0
        self.phase: Phase | None = None
        self._began = self._attempt_began = self._phase_began = perf_counter()
        self._waiting_since = self._began

    def begin(self) -> bool:
        """Report the start; return whether a hook observes the execution."""
        self._calls.started(self._start, self._observers)
        return bool(self._observers)

    def begin_attempt(self, number: int) -> None:
        """Begin an attempt, or continue the one that has this number.

        Args:
            number: The number of the attempt; the first is 1.
        """
        if self._is_attempting and number == self._number:
            return
        self._number = number
        self._is_attempting = True
        self._error = None
        self._lookups = {}
        self._seconds = dict.fromkeys(_PHASES, 0.0)
        self.events_read = 0
        self.phase = None
        self._attempt_began = perf_counter()
        waited = self._attempt_began - self._waiting_since
        self._calls.report(
            self._observers,
            "attempt_started",
            AttemptStart(
                execution=self._start, number=number, waited_seconds=max(0.0, waited)
            ),
        )

    def enter(self, phase: Phase | None) -> Phase | None:
        """End the present phase and begin another one.

        Args:
            phase: The phase; None for time that belongs to no phase.

        Returns:
            The phase that has ended, so that the caller can return to it.
        """
        now = perf_counter()
        previous = self.phase
        if previous is not None:
            self._seconds[previous] += now - self._phase_began
        self.phase, self._phase_began = phase, now
        return previous

    def note_lookup(self, stream: str, *, is_hit: bool) -> None:
        """Note whether a stream was cached.

        Only the first lookup of a stream counts. A later one of the same attempt finds
        what the attempt itself has cached.
        """
        self._lookups.setdefault(stream, is_hit)

    def note_lookups(self, streams: Iterable[str], missing: Container[str]) -> None:
        """Note which of several streams were cached.

        Args:
            streams: The streams.
            missing: Those that were not cached.
        """
        for stream in streams:
            self._lookups.setdefault(stream, stream not in missing)

    def note_error(self, error: BaseException) -> None:
        """Note the exception that ended the attempt, if it is the first one.

        The exception of the execution may be another one, such as `RetriesExhausted`.
        """
        if self._is_attempting and self._error is None:
            self._error = error

    def end_attempt(self, retry_delay: float) -> None:
        """Report the end of an attempt that is followed by a retry.

        Args:
            retry_delay: The delay before the next attempt, in seconds.
        """
        error = self._error
        outcome: Outcome = "failed" if error is None else _outcome(error)
        self._report_attempt(outcome, error, retry_delay)

    def end(self, done: Executed | None, error: BaseException | None) -> None:
        """Report the end of the execution, and of the attempt in progress.

        Args:
            done: The result; None for a load, and after an exception.
            error: The exception, if any.
        """
        reason = error
        is_replayed = done is not None and done.replayed
        success: Outcome = "replayed" if is_replayed else "succeeded"
        if error is not None and self._error is not None:
            reason = self._error
        try:
            outcome = success if reason is None else _outcome(reason)
            self._report_attempt(outcome, reason)
        finally:
            outcome = success if error is None else _outcome(error)
            self._report_end(outcome, done, error)

    def _report_attempt(
        self,
        outcome: Outcome,
        error: BaseException | None,
        retry_delay: float | None = None,
    ) -> None:
        if not self._is_attempting:
            return
        self._is_attempting = False
        self.enter(None)
        now = self._waiting_since = perf_counter()
        seconds = self._seconds
        conflicts: tuple[ConflictedStream | ConflictedCategory, ...] = ()
        if outcome == "conflict" and isinstance(error, VersionConflict):
            conflicts = (*error.failures, *error.categories)
        fact = AttemptEnd(
            execution=self._start,
            number=self._number,
            outcome=outcome,
            seconds=now - self._attempt_began,
            lookup_seconds=seconds["lookup"],
            read_seconds=seconds["read"],
            fold_seconds=seconds["fold"],
            decide_seconds=seconds["decide"],
            append_seconds=seconds["append"],
            snapshot_seconds=seconds["snapshot"],
            streams=tuple(self._lookups),
            cache_hits=sum(self._lookups.values()),
            events_read=self.events_read,
            conflicts=conflicts,
            error_type=None if error is None else type(error),
            rejection_code=error.code if isinstance(error, CommandRejected) else None,
            retry_delay_seconds=retry_delay,
        )
        # The tracebacks of the exception refer to the execution, which refers to this
        # object: the cycle would stay in memory until the garbage collector runs.
        self._error = None
        self._calls.report(reversed(self._observers), "attempt_ended", fact)

    def _report_end(
        self, outcome: Outcome, done: Executed | None, error: BaseException | None
    ) -> None:
        events_appended = 0
        if done is not None and not done.replayed:
            events_appended = len(done.events)
        fact = ExecutionEnd(
            execution=self._start,
            outcome=outcome,
            seconds=perf_counter() - self._began,
            attempts=self._number,
            events_appended=events_appended,
            last_position=None if done is None else done.last_position,
            error_type=None if error is None else type(error),
            rejection_code=error.code if isinstance(error, CommandRejected) else None,
        )
        self._calls.report(reversed(self._observers), "execution_ended", fact)


def _outcome(error: BaseException) -> Outcome:
    """Classify the exception of an attempt or an execution."""
    if isinstance(error, CommandRejected):
        return "rejected"
    if not isinstance(error, Exception):
        return "cancelled"
    if is_raised_by_command(error):
        # An error of another store, for example, isn't a conflict of this command.
        return "failed"
    if isinstance(error, VersionConflict):
        return "conflict"
    if isinstance(error, OutcomeUnknown):
        return "outcome_unknown"
    if isinstance(error, RetriesExhausted):
        return "retries_exhausted"
    if isinstance(error, DeadlineExceeded):
        return "deadline_exceeded"
    return "failed"
