"""Hooks of executors, as both type checkers accept them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_type

import eventbraid as eb
from eventbraid.command import (
    AttemptEnd,
    AttemptStart,
    ExecutionEnd,
    ExecutionHooks,
    ExecutionStart,
)
from eventbraid.testing import RecordedExecution, RecordingHooks

if TYPE_CHECKING:
    from collections.abc import Mapping


class Span:
    def __init__(self, name: str) -> None:
        self.name = name

    def end(self, attributes: Mapping[str, int | float]) -> None: ...


class ExecutionSpan(ExecutionHooks):
    def __init__(self, execution: ExecutionStart) -> None:
        self.span = Span(execution.name)

    def attempt_ended(self, attempt: AttemptEnd, /) -> None:
        assert_type(attempt.retry_delay_seconds, float | None)
        assert_type(attempt.conflict_categories, "Mapping[str, int]")
        self.span.end({"hits": attempt.cache_hits, "append": attempt.append_seconds})


class Traces(ExecutionHooks):
    def execution_started(self, execution: ExecutionStart, /) -> ExecutionSpan:
        return ExecutionSpan(execution)


class Metrics(ExecutionHooks):
    active = 0

    def execution_started(self, execution: ExecutionStart, /) -> None:
        operation: Literal["execute", "load"] = execution.operation
        self.active += operation == "execute"

    def attempt_started(self, attempt: AttemptStart, /) -> None:
        assert_type(attempt.waited_seconds, float)

    def execution_ended(self, end: ExecutionEnd, /) -> None:
        assert_type(end.execution.subject, type[object])
        if end.outcome == "rejected":
            assert_type(end.rejection_code, str | None)


def executor_of(store: eb.EventStore) -> eb.Executor:
    return eb.Executor(store, hooks=(Metrics(), Traces(), RecordingHooks()))


def async_executor_of(store: eb.AsyncEventStore) -> eb.AsyncExecutor:
    return eb.AsyncExecutor(store, hooks=[Metrics()])


assert_type(RecordingHooks().executions, list[RecordedExecution])
