"""Wrong hooks of executors, which both type checkers refuse."""

from __future__ import annotations

import eventbraid as eb
from eventbraid.command import AttemptEnd, ExecutionEnd, ExecutionHooks, ExecutionStart


class Asynchronous(ExecutionHooks):
    async def execution_ended(self, end: ExecutionEnd, /) -> None: ...  # refused


class OfAnotherFact(ExecutionHooks):
    def attempt_ended(self, attempt: ExecutionEnd, /) -> None: ...  # refused


class WithoutHook(ExecutionHooks):
    def execution_started(self, execution: ExecutionStart, /) -> str:  # refused
        return execution.name


class Outcomes(ExecutionHooks):
    def attempt_ended(self, attempt: AttemptEnd, /) -> None:
        print(attempt.outcome == "won")  # refused
        attempt.seconds = 0.0  # refused
        print(attempt.command)  # refused


def executors(store: eb.EventStore) -> None:
    eb.Executor(store, hooks=Outcomes())  # refused
    eb.Executor(store, hooks=[Outcomes])  # refused
    eb.Executor(store, hooks=[print])  # refused
