"""Hooks that record the facts of executions, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from eventbraid.command import (
    AttemptEnd,
    AttemptStart,
    ExecutionEnd,
    ExecutionHooks,
    ExecutionStart,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Fact: TypeAlias = ExecutionStart | AttemptStart | AttemptEnd | ExecutionEnd


@dataclass(slots=True)
class RecordedExecution:
    """The facts of one execution, as its hooks got them.

    Attributes:
        start: The beginning of the execution.
        attempt_starts: The beginnings of its attempts.
        attempts: The attempts that have ended.
        end: The end of the execution; None while it is in progress.

    Example:
        >>> from eventbraid.command import ExecutionStart
        >>> from eventbraid.testing import RecordedExecution
        >>> class Transfer: ...
        >>> RecordedExecution(ExecutionStart("execute", Transfer)).end is None
        True
    """

    start: ExecutionStart
    attempt_starts: list[AttemptStart] = field(default_factory=list[AttemptStart])
    attempts: list[AttemptEnd] = field(default_factory=list[AttemptEnd])
    end: ExecutionEnd | None = None


class RecordingHooks(ExecutionHooks):
    """Hooks that record everything, to test what an executor reports.

    Several executors, threads and tasks may share one instance.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import Conflict, FaultyStore, RecordingHooks
        >>> @eb.event("doc.kettle.filled")
        ... class KettleFilled: ...
        >>> class Kettle(eb.Stream[KettleFilled], category="kettle"): ...
        >>> class FillKettle(eb.Command):
        ...     kettle: eb.Declared[Kettle]
        ...
        ...     def decide(self):
        ...         yield self.kettle.write(KettleFilled())
        >>> hooks = RecordingHooks()
        >>> with eb.open("memory:") as inner:
        ...     store = FaultyStore(inner, Conflict(at=1))
        ...     executor = eb.Executor(store, hooks=[hooks])
        ...     done = executor.execute(FillKettle(kettle="kettle-1"))
        >>> [execution] = hooks.executions
        >>> [attempt.outcome for attempt in execution.attempts]
        ['conflict', 'succeeded']
        >>> execution.attempts[0].conflict_categories
        {'kettle': 1}
    """

    def __init__(self) -> None:
        """Begin without facts."""
        # A list is extended atomically, so threads need no lock.
        self._facts: list[Fact] = []

    @property
    def facts(self) -> Sequence[Fact]:
        """All facts so far, in the order of the calls."""
        return tuple(self._facts)

    @property
    def executions(self) -> list[RecordedExecution]:
        """The executions so far, in the order of their starts."""
        found: dict[ExecutionStart, RecordedExecution] = {}
        for fact in self.facts:
            start = fact if isinstance(fact, ExecutionStart) else fact.execution
            # Without its start, if another hook has returned this one for an execution.
            execution = found.setdefault(start, RecordedExecution(start))
            match fact:
                case AttemptStart():
                    execution.attempt_starts.append(fact)
                case AttemptEnd():
                    execution.attempts.append(fact)
                case ExecutionEnd():
                    execution.end = fact
                case ExecutionStart():
                    pass
        return list(found.values())

    def clear(self) -> None:
        """Drop the facts so far."""
        self._facts.clear()

    def execution_started(self, execution: ExecutionStart, /) -> None:
        """Record the start of an execution."""
        self._facts.append(execution)

    def attempt_started(self, attempt: AttemptStart, /) -> None:
        """Record the start of an attempt."""
        self._facts.append(attempt)

    def attempt_ended(self, attempt: AttemptEnd, /) -> None:
        """Record the end of an attempt."""
        self._facts.append(attempt)

    def execution_ended(self, end: ExecutionEnd, /) -> None:
        """Record the end of an execution."""
        self._facts.append(end)
