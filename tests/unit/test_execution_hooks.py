"""Hooks get the facts of each execution, and have no effect on it.

The hazards: an execution whose end is reported twice or never, so that a span stays
open; a fact that differs between the paths of an execution; a hook whose exception
reaches the caller of the command; and a value of an event in a fact.

Every test runs without an event loop and on asyncio and trio.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import logging
import sys
import threading
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from eventbraid.command import (
    AttemptEnd,
    AttemptStart,
    ExecutionEnd,
    ExecutionHooks,
    ExecutionStart,
    _execution_trace,
    _stream_loading,
)
from eventbraid.testing import (
    AsyncFaultyStore,
    Conflict,
    Delay,
    Failure,
    FaultyStore,
    RecordingHooks,
    UnknownOutcome,
    on,
)

pytestmark = pytest.mark.anyio

NO_WAIT = eb.RetryPolicy(initial_delay=timedelta(), maximum_delay=timedelta())
LONG = timedelta(seconds=30)
"""A deadline that is never reached. A command with a deadline takes the general path."""


class Money(eb.Int, ge=0): ...


@eb.event("hooks.deposited")
class Deposited:
    amount: Money
    note: str = ""


@eb.event("hooks.withdrawn")
class Withdrawn:
    amount: Money


AccountEvent = Deposited | Withdrawn


class Account(eb.Stream[AccountEvent, Money], category="account"):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: AccountEvent, /) -> Money:
        clock.advance(100)
        match event:
            case Deposited(amount):
                return state + amount
            case Withdrawn(amount):
                return state - amount


class Snapshotted(
    eb.Stream[AccountEvent, Money], category="snapshotted", snapshot_every=1
):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: AccountEvent, /) -> Money:
        return state + event.amount


class Transfer(eb.Command):
    source: eb.Declared[Account]
    target: eb.Declared[Account]
    amount: Money

    def decide(self) -> Iterator[eb.Write]:
        clock.advance(1_000)
        eb.require(self.source.state >= self.amount, "insufficient_funds")
        yield self.source.write(Withdrawn(self.amount))
        yield self.target.write(Deposited(self.amount))


class Deposit(eb.Command):
    account: eb.Declared[Account]
    amount: Money = Money(1)
    note: str = ""

    def decide(self) -> Iterator[eb.Write]:
        clock.advance(1_000)
        yield self.account.write(Deposited(self.amount, self.note))


class Fill(eb.Command):
    target: eb.Declared[Snapshotted]

    def decide(self) -> Iterator[eb.Write]:
        yield self.target.write(Deposited(Money(1)))


class Nothing(eb.Command):
    account: eb.Declared[Account]

    def decide(self) -> Iterable[eb.Write]:
        return ()


class Faulty(eb.Command):
    account: eb.Declared[Account]

    def decide(self) -> Iterable[eb.Write]:
        raise ZeroDivisionError


class Found(eb.Command):
    """Deposits on the account whose number the balance of the first one has."""

    account: eb.Declared[Account]

    def discover(self) -> Iterable[Account]:
        return [Account(f"account-{self.account.state}")]

    def decide(self) -> Iterator[eb.Write]:
        clock.advance(1_000)
        found = self.discovered(Account(f"account-{self.account.state}"))
        yield found.write(Deposited(Money(1)))


class Collect(eb.Command):
    """Deposits what all other accounts have."""

    target: eb.Declared[Account]

    def discover(self) -> Iterable[type[Account]]:
        return [Account]

    def decide(self) -> Iterator[eb.Write]:
        clock.advance(1_000)
        others = [one for one in self.discovered(Account) if one != self.target]
        for other in others:
            yield other.write(Withdrawn(other.state))
            yield self.target.write(Deposited(other.state))


class Count(eb.StatefulCommand[int, AccountEvent]):
    account: eb.Declared[Account]

    def initial(self) -> int:
        return 0

    def apply(self, state: int, recorded: eb.Recorded[AccountEvent], /) -> int:
        clock.advance(100)
        return state + 1

    def decide(self, state: int, /) -> Iterator[eb.Write]:
        clock.advance(1_000)
        yield self.account.write(Deposited(Money(1)))


A, B = Account("account-a"), Account("account-b")
TRANSFER = Transfer(source=A, target=B, amount=Money(5))


class Clock:
    """A clock that shows the costs of the operations so far, so that tests are exact."""

    def __init__(self) -> None:
        self.now = 0.0

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


clock = Clock()
COSTS = {"read_streams": 1, "append": 10, "committed": 10_000}


def costs_of_calls() -> list[Delay]:
    """Return faults that never apply, but advance the clock at each call."""
    return [
        Delay(operation=name, where=lambda _, cost=cost: clock.advance(cost))
        for name, cost in COSTS.items()
    ]


@pytest.fixture
def exact_times(monkeypatch):
    """Durations are those of the costs, not of the machine."""
    monkeypatch.setattr(_execution_trace, "perf_counter", clock)


async def settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


class Face:
    """A store with faults, and executors on it, with or without an event loop."""

    def __init__(self, store: Any, make: type[Any]) -> None:
        self.store = store
        self.hooks = RecordingHooks()
        self._make = make

    def executor(self, *hooks: ExecutionHooks, **options: Any) -> Any:
        return self._make(
            self.store, **{"retry": NO_WAIT, "hooks": [*hooks, self.hooks], **options}
        )

    async def given(self, stream: eb.Stream[Any, Any], *amounts: int) -> None:
        """Append deposits as another writer."""
        events = [eb.new_event(stream, Deposited(Money(one))) for one in amounts]
        await settled(self.store.inner.append(events))

    async def execute(
        self, command: Any, *hooks: ExecutionHooks, **options: Any
    ) -> Any:
        return await settled(self.executor(*hooks).execute(command, **options))

    @property
    def last(self) -> Any:
        """The facts of the last execution, which has ended once."""
        execution = self.hooks.executions[-1]
        ends = [
            one
            for one in self.hooks.facts
            if isinstance(one, ExecutionEnd) and one.execution is execution.start
        ]
        assert ends == [execution.end]
        numbers = [one.number for one in execution.attempts]
        assert numbers == [one.number for one in execution.attempt_starts]
        assert numbers == list(range(1, execution.end.attempts + 1))
        assert execution.end.seconds >= sum(one.seconds for one in execution.attempts)
        for one in execution.attempts:
            assert one.seconds >= sum(one.phases.values())
            assert (one.outcome == "conflict") >= bool(one.conflicts)
        return execution


@pytest.fixture(params=["sync", "async"])
async def face(request, anyio_backend):
    if request.param == "sync":
        with eb.open("memory:") as store:
            yield Face(FaultyStore(store), eb.Executor)
    else:
        async with eb.open_async("memory:") as store:
            yield Face(AsyncFaultyStore(store), eb.AsyncExecutor)


# --- the order of the calls ----------------------------------------------------------


class Nested(ExecutionHooks):
    """Notes its calls in a list that several hooks share."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def execution_started(self, execution: ExecutionStart, /) -> None:
        self.calls.append(f"{self.name} execution {{")

    def attempt_started(self, attempt: AttemptStart, /) -> None:
        self.calls.append(f"{self.name} attempt {{")

    def attempt_ended(self, attempt: AttemptEnd, /) -> None:
        self.calls.append(f"{self.name} attempt }}")

    def execution_ended(self, end: ExecutionEnd, /) -> None:
        self.calls.append(f"{self.name} execution }}")


async def test_several_hooks_are_nested(face):
    calls: list[str] = []
    face.store.inject(Conflict(at=1))
    await face.execute(Deposit(account=A), Nested("1", calls), Nested("2", calls))
    attempt = ["1 attempt {", "2 attempt {", "2 attempt }", "1 attempt }"]
    assert calls == [
        *("1 execution {", "2 execution {"),
        *attempt,
        *attempt,
        *("2 execution }", "1 execution }"),
    ]


variable = contextvars.ContextVar("variable", default="outside")


class Contextual(ExecutionHooks):
    """Sets a context variable for the duration of each execution and attempt."""

    def __init__(self) -> None:
        self.tokens: list[contextvars.Token[str]] = []

    def execution_started(self, execution: ExecutionStart, /) -> ExecutionHooks:
        observer = Contextual()
        observer.tokens.append(variable.set(execution.name))
        return observer

    def attempt_started(self, attempt: AttemptStart, /) -> None:
        assert variable.get() == attempt.execution.name
        self.tokens.append(variable.set(f"attempt {attempt.number}"))

    def attempt_ended(self, attempt: AttemptEnd, /) -> None:
        variable.reset(self.tokens.pop())

    def execution_ended(self, end: ExecutionEnd, /) -> None:
        assert variable.get() == end.execution.name
        variable.reset(self.tokens.pop())
        assert not self.tokens


class Observed(eb.Command):
    account: eb.Declared[Account]

    def decide(self) -> Iterator[eb.Write]:
        seen.append(variable.get())
        yield self.account.write(Deposited(Money(1)))


seen: list[str] = []


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
async def test_a_context_variable_lasts_from_a_start_to_its_end(face, options, caplog):
    seen.clear()
    face.store.inject(Conflict(at=1))
    await face.execute(Observed(account=A), Contextual(), **options)
    assert seen == ["attempt 1", "attempt 2"]
    assert variable.get() == "outside"
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


async def test_an_observer_gets_the_facts_of_one_execution(face):
    class Factory(ExecutionHooks):
        def execution_started(self, execution: ExecutionStart, /) -> ExecutionHooks:
            observers.append(RecordingHooks())
            return observers[-1]

    observers: list[RecordingHooks] = []
    await face.execute(Deposit(account=A), Factory())
    await face.execute(Nothing(account=A), Factory())
    assert [[type(fact) for fact in one.facts] for one in observers] == [
        [AttemptStart, AttemptEnd, ExecutionEnd]
    ] * 2
    executions = [one for observer in observers for one in observer.executions]
    assert [one.start.name for one in executions] == ["Deposit", "Nothing"]
    assert [one.end.outcome for one in executions] == ["succeeded"] * 2
    observers[0].clear()
    assert observers[0].executions == []


async def test_an_execution_outside_of_the_sample_is_not_measured(face, monkeypatch):
    class Sample(ExecutionHooks):
        def execution_started(self, execution: ExecutionStart, /) -> ExecutionHooks:
            return ExecutionHooks()

    def refuse(*_: Any) -> None:
        raise AssertionError("the execution was measured")

    monkeypatch.setattr(_execution_trace.ExecutionTrace, "begin_attempt", refuse)
    executor = face.executor(hooks=[Sample()])
    assert (await settled(executor.execute(Deposit(account=A)))).versions == {A.id: 1}
    assert (await settled(executor.load(A))).version == 1


# --- the facts, on each path ---------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
async def test_the_durations_and_the_cache_of_a_command(face, options, exact_times):
    face.store.inject(*costs_of_calls())
    await face.given(A, 3, 4)
    await face.execute(TRANSFER, **options)
    [attempt], end = face.last.attempts, face.last.end
    # One event of each stream is folded after the commit.
    assert attempt.phases == {
        "read": 1,
        "fold": 200 + 200,
        "decide": 1_000,
        "append": 10,
    }
    assert (attempt.outcome, attempt.error_type) == ("succeeded", None)
    assert attempt.seconds == end.seconds == 1_411
    assert attempt.streams == (A.id, B.id)
    assert (attempt.cache_hits, attempt.cache_misses, attempt.events_read) == (0, 2, 2)
    assert (end.outcome, end.events_appended, end.last_position) == ("succeeded", 2, 4)
    assert face.last.start is attempt.execution is end.execution
    assert (face.last.start.operation, face.last.start.name) == ("execute", "Transfer")
    assert face.last.start.subject is Transfer
    assert not face.last.start.is_keyed

    await face.execute(Deposit(account=A), **options)
    [attempt] = face.last.attempts
    assert attempt.phases == {"fold": 100, "decide": 1_000, "append": 10}
    assert (attempt.cache_hits, attempt.cache_misses, attempt.events_read) == (1, 0, 0)


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
@pytest.mark.parametrize("location", ["memory:", "path"])
@pytest.mark.parametrize("has_loop", [False, True], ids=["sync", "async"])
async def test_each_event_of_a_long_stream_is_read_and_folded_once(
    anyio_backend, exact_times, options, location, has_loop, tmp_path
):
    """The fast path leaves a long stream to the general one, with the state so far."""
    path = tmp_path / "store" if location == "path" else location
    async with eb.open_async(path) as store:
        await store.append([eb.new_event(A, Deposited(Money(1)))] * 3_000)
        hooks = RecordingHooks()
        deposit = Deposit(account=A)
        if has_loop:
            executor = eb.AsyncExecutor(store, hooks=[hooks])
            await executor.execute(deposit, **options)
        else:
            eb.Executor(store.as_sync(), hooks=[hooks]).execute(deposit, **options)
    [execution] = hooks.executions
    [attempt] = execution.attempts
    assert (attempt.cache_hits, attempt.cache_misses) == (0, 1)
    assert attempt.events_read == 3_000
    assert attempt.fold_seconds == 3_000 * 100 + 100


async def test_the_facts_of_a_command_with_a_key(face, exact_times):
    face.store.inject(*costs_of_calls())
    await face.execute(Deposit(account=A), idempotency_key="k")
    [attempt] = face.last.attempts
    assert face.last.start.is_keyed
    assert attempt.outcome == "succeeded"
    assert attempt.phases == {
        "lookup": 10_000,
        "read": 1,
        "fold": 100,
        "decide": 1_000,
        "append": 10,
    }
    await face.execute(Deposit(account=A), idempotency_key="k")
    [attempt], end = face.last.attempts, face.last.end
    assert attempt.phases == {"lookup": 10_000}
    assert (attempt.outcome, attempt.streams) == ("replayed", ())
    assert (end.outcome, end.events_appended, end.last_position) == ("replayed", 0, 1)


async def test_the_facts_of_a_command_with_discovery(face, exact_times):
    face.store.inject(*costs_of_calls())
    await face.given(A, 2)
    await face.execute(Found(account=A))
    [attempt] = face.last.attempts
    assert attempt.phases == {
        "read": 2,
        "fold": 100 + 100,
        "decide": 1_000,
        "append": 10,
    }
    assert attempt.streams == (A.id, "account-2")
    assert (attempt.cache_hits, attempt.events_read) == (0, 1)
    await face.execute(Found(account=A))
    [attempt] = face.last.attempts
    assert (attempt.cache_hits, attempt.cache_misses, attempt.events_read) == (2, 0, 0)


async def test_the_facts_of_a_command_that_discovers_a_category(face, exact_times):
    face.store.inject(*costs_of_calls())
    await face.given(B, 2)
    face.store.inject(
        Conflict(by=[on(Account("account-c"), Deposited(Money(3)))], at=1)
    )
    await face.execute(Collect(target=A))
    first, second = face.last.attempts
    assert (first.outcome, first.streams) == ("conflict", (A.id, B.id))
    assert first.conflicts == (eb.errors.ConflictedCategory("account", 1, 2),)
    assert first.conflict_categories == {"account": 1}
    assert second.streams == (A.id, B.id, "account-c")
    assert (second.cache_hits, second.cache_misses, second.events_read) == (2, 1, 1)
    assert (first.decide_seconds, second.decide_seconds) == (1_000, 1_000)
    assert face.last.end.events_appended == 4


async def test_the_facts_of_a_command_with_a_state_of_its_own(face, exact_times):
    face.store.inject(*costs_of_calls())
    await face.given(A, *[1] * 20)
    executor = face.executor()
    await settled(executor.execute(Count(account=A)))
    [attempt] = face.last.attempts
    # Its own fold, and that of the state of the stream.
    assert attempt.phases == {
        "read": 2,
        "fold": 2_000 + 2_000,
        "decide": 1_000,
        "append": 10,
    }
    assert (attempt.streams, attempt.cache_hits) == ((A.id,), 0)
    await settled(executor.execute(Count(account=A)))
    [attempt] = face.last.attempts
    assert (attempt.cache_hits, attempt.cache_misses) == (1, 0)
    # The new event, for either fold.
    assert attempt.events_read == 2


async def test_a_retry_of_a_command_with_a_state_of_its_own_reads_new_events(face):
    await face.given(A, 1, 2)
    face.store.inject(Conflict(by=[on(A, Deposited(Money(1)))], at=1))
    await face.execute(Count(account=A))
    first, second = face.last.attempts
    assert (first.outcome, first.cache_hits) == ("conflict", 0)
    assert (second.outcome, second.cache_hits) == ("succeeded", 1)


async def test_the_facts_of_a_load(face, exact_times):
    face.store.inject(*costs_of_calls())
    await face.given(A, 3, 4)
    await settled(face.executor().load(A))
    [attempt], end = face.last.attempts, face.last.end
    assert (face.last.start.operation, face.last.start.subject) == ("load", Account)
    assert attempt.phases == {"read": 1, "fold": 200}
    assert (attempt.outcome, attempt.streams) == ("succeeded", (A.id,))
    assert (attempt.cache_hits, attempt.cache_misses, attempt.events_read) == (0, 1, 2)
    assert (end.outcome, end.attempts, end.events_appended) == ("succeeded", 1, 0)
    await settled(face.executor().load(A))
    [attempt] = face.last.attempts
    assert attempt.phases == {"read": 1}
    assert (attempt.cache_hits, attempt.cache_misses, attempt.events_read) == (1, 0, 0)


async def test_a_load_of_nothing_fails_without_an_attempt(face):
    with pytest.raises(eb.errors.InvalidArgument):
        await settled(face.executor().load("account-a"))
    assert (face.last.end.outcome, face.last.end.attempts) == ("failed", 0)
    assert face.last.end.error_type is eb.errors.InvalidArgument
    assert face.last.start.subject is str


async def test_snapshots_have_a_duration_of_their_own(face, exact_times):
    face.store.inject(*costs_of_calls())
    for _ in range(2):
        await face.execute(Fill(target=Snapshotted("snapshotted-1")))
        [attempt] = face.last.attempts
        assert attempt.phases["append"] == 10
        assert attempt.phases["snapshot"] == 10
    assert (await face.execute(Fill(target=Snapshotted("snapshotted-1")))).versions


async def test_a_decision_without_events(face):
    await face.execute(Nothing(account=A))
    [attempt], end = face.last.attempts, face.last.end
    assert (attempt.outcome, attempt.streams) == ("succeeded", (A.id,))
    assert (end.outcome, end.events_appended, end.last_position) == (
        "succeeded",
        0,
        None,
    )


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
async def test_a_conflict_names_its_streams_and_the_delay_of_the_retry(face, options):
    retry = eb.RetryPolicy(initial_delay=timedelta(milliseconds=2), jitter="none")
    face.store.inject(Conflict(by=[on(A, Deposited(Money(1)))], at=1))
    await settled(face.executor(retry=retry).execute(Deposit(account=A), **options))
    first, second = face.last.attempts
    assert (first.outcome, first.error_type) == ("conflict", eb.VersionConflict)
    assert first.conflicts == (eb.errors.ConflictedStream(A.id, 0, 1),)
    assert first.conflict_categories == {"account": 1}
    assert first.retry_delay_seconds == 0.002
    assert (second.outcome, second.conflicts) == ("succeeded", ())
    assert second.retry_delay_seconds is None
    # The state of the first attempt was cached, and the rival's event was read.
    assert (second.cache_hits, second.events_read) == (1, 1)
    assert face.last.attempt_starts[1].waited_seconds >= 0.002
    assert (face.last.end.outcome, face.last.end.attempts) == ("succeeded", 2)
    assert face.last.end.error_type is None


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
async def test_the_last_conflict_has_no_retry(face, options):
    retry = eb.RetryPolicy(maximum_attempts=3, initial_delay=timedelta())
    face.store.inject(Conflict())
    with pytest.raises(eb.errors.RetriesExhausted):
        await settled(face.executor(retry=retry).execute(Deposit(account=A), **options))
    assert [one.outcome for one in face.last.attempts] == ["conflict"] * 3
    assert [one.retry_delay_seconds for one in face.last.attempts] == [0, 0, None]
    assert face.last.attempts[-1].error_type is eb.VersionConflict
    assert face.last.end.outcome == "retries_exhausted"
    assert face.last.end.error_type is eb.errors.RetriesExhausted


async def test_a_conflict_of_the_callers_expectation_is_not_retried(face):
    with pytest.raises(eb.VersionConflict):
        await face.execute(Deposit(account=A), expect={"limit-eu": eb.EXISTS})
    [attempt] = face.last.attempts
    assert (attempt.outcome, attempt.retry_delay_seconds) == ("conflict", None)
    assert attempt.conflict_categories == {"limit": 1}
    assert face.last.end.outcome == "conflict"


async def test_a_conflict_of_a_category_is_counted_for_the_category(face):
    category = eb.errors.ConflictedCategory("account", expected=3, actual=4)
    streams = [eb.errors.ConflictedStream(name, 0, 1) for name in (A.id, "limit-eu")]
    for failures in ([], streams):
        error = eb.VersionConflict(failures, [category])
        face.store.inject(Failure(error=error, times=1))
        with suppress(eb.VersionConflict):
            await face.execute(Deposit(account=A))
        first = face.last.attempts[0]
        assert first.outcome == "conflict"
        assert first.conflicts == (*failures, category)
    assert first.conflict_categories == {"account": 2, "limit": 1}


async def test_a_conflict_of_another_store_is_a_failure_of_the_command(face):
    class Elsewhere(Deposit):
        def decide(self) -> Iterable[eb.Write]:
            raise eb.VersionConflict([eb.errors.ConflictedStream("other-1", 1, 2)])

    with pytest.raises(eb.VersionConflict):
        await face.execute(Elsewhere(account=A))
    [attempt] = face.last.attempts
    assert (attempt.outcome, attempt.conflicts) == ("failed", ())
    assert face.last.end.outcome == "failed"
    assert face.last.end.error_type is eb.VersionConflict


@pytest.mark.parametrize("committed", [True, False])
async def test_an_unknown_outcome_that_the_key_resolves(face, committed):
    face.store.inject(UnknownOutcome(committed=committed, at=1))
    done = await face.execute(Deposit(account=A), idempotency_key="k")
    outcomes = [one.outcome for one in face.last.attempts]
    assert done.replayed is committed
    if committed:
        assert outcomes == ["replayed"]
    else:
        assert outcomes == ["outcome_unknown", "succeeded"]
        assert face.last.attempts[0].retry_delay_seconds == 0
    assert face.last.end.outcome == outcomes[-1]


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
async def test_an_unknown_outcome_without_a_key(face, options):
    face.store.inject(UnknownOutcome(committed=True, at=1))
    with pytest.raises(eb.OutcomeUnknown):
        await face.execute(Deposit(account=A), **options)
    [attempt] = face.last.attempts
    assert attempt.outcome == face.last.end.outcome == "outcome_unknown"
    assert attempt.retry_delay_seconds is None
    assert face.last.end.events_appended == 0


async def test_an_attempt_after_an_unknown_outcome_has_an_outcome_of_its_own(face):
    await face.given(A, 5)
    face.store.inject(UnknownOutcome(committed=False, at=1))
    command = Transfer(source=A, target=B, amount=Money(5))
    rival = Transfer(source=A, target=B, amount=Money(1))
    pending = [rival]

    class Rival(ExecutionHooks):
        """Empties the account before the second attempt."""

        def attempt_ended(self, attempt: AttemptEnd, /) -> None:
            if pending:
                sync = face.store.inner
                sync = sync.as_sync() if hasattr(sync, "as_sync") else sync
                eb.Executor(sync).execute(pending.pop())

    with pytest.raises(eb.OutcomeUnknown):
        await face.execute(command, Rival(), idempotency_key="k")
    first, second = face.last.attempts
    assert (first.outcome, second.outcome) == ("outcome_unknown", "rejected")
    assert second.rejection_code == "insufficient_funds"
    assert face.last.end.outcome == "outcome_unknown"
    assert face.last.end.rejection_code is None


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
async def test_a_rejection_has_a_code(face, options):
    await face.given(A, 3)
    with pytest.raises(eb.CommandRejected):
        await face.execute(TRANSFER, **options)
    [attempt], end = face.last.attempts, face.last.end
    assert attempt.outcome == end.outcome == "rejected"
    assert attempt.rejection_code == end.rejection_code == "insufficient_funds"
    assert attempt.error_type is end.error_type is eb.CommandRejected
    # The stream was looked up once, although a rejection is confirmed by a read.
    assert (attempt.cache_hits, attempt.cache_misses, attempt.events_read) == (0, 2, 1)


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
async def test_a_bug_of_a_command_is_a_failure(face, options):
    with pytest.raises(ZeroDivisionError):
        await face.execute(Faulty(account=A), **options)
    [attempt] = face.last.attempts
    assert attempt.outcome == face.last.end.outcome == "failed"
    assert attempt.error_type is face.last.end.error_type is ZeroDivisionError


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
@pytest.mark.parametrize("operation", ["read_streams", "append"])
async def test_a_failure_of_the_store_is_reported(face, options, operation):
    face.store.inject(Failure(error=OSError, operation=operation))
    with pytest.raises(OSError):
        await face.execute(Deposit(account=A), **options)
    [attempt] = face.last.attempts
    assert attempt.outcome == face.last.end.outcome == "failed"
    assert attempt.error_type is face.last.end.error_type is OSError


async def test_a_deadline_in_the_past_leaves_no_attempt(face):
    with pytest.raises(eb.errors.DeadlineExceeded):
        await face.execute(Deposit(account=A), deadline=timedelta(seconds=-1))
    end = face.last.end
    assert (end.outcome, end.attempts) == ("deadline_exceeded", 0)


async def test_a_deadline_after_a_conflict(face):
    retry = eb.RetryPolicy(initial_delay=timedelta(minutes=1), jitter="none")
    face.store.inject(Conflict())
    with pytest.raises(eb.errors.DeadlineExceeded):
        await settled(
            face.executor(retry=retry).execute(Deposit(account=A), deadline=LONG)
        )
    [attempt] = face.last.attempts
    assert (attempt.outcome, attempt.retry_delay_seconds) == ("conflict", None)
    assert (face.last.end.outcome, face.last.end.attempts) == ("deadline_exceeded", 1)


async def test_an_invalid_argument_is_reported(face):
    with pytest.raises(eb.errors.InvalidArgument):
        await face.execute(Deposit(account=A), deadline=timedelta.max, also=[3])
    assert (face.last.end.outcome, face.last.end.attempts) == ("failed", 0)
    with pytest.raises(TypeError, match="is no command"):
        await face.execute("Deposit")
    assert face.last.start.subject is str


# --- what a hook can't do ------------------------------------------------------------

METHODS = (
    "execution_started",
    "attempt_started",
    "attempt_ended",
    "execution_ended",
)


def hook_with(method: str, body: Any) -> ExecutionHooks:
    """Return a hook one of whose methods calls a function."""
    return type("Broken", (ExecutionHooks,), {method: lambda self, fact: body()})()


def raising(error: BaseException) -> Any:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize("error", [ValueError("SECRET"), asyncio.CancelledError()])
@pytest.mark.parametrize("method", METHODS)
async def test_an_exception_of_a_hook_changes_nothing(face, method, error, caplog):
    broken = hook_with(method, raising(error))
    face.store.inject(Conflict(at=1))
    with caplog.at_level(logging.DEBUG, "eventbraid.command"):
        done = await face.execute(Deposit(account=A), broken)
    assert (dict(done.versions), done.attempts) == ({A.id: 1}, 2)
    assert [one.outcome for one in face.last.attempts] == ["conflict", "succeeded"]
    logged = [one for one in caplog.records if "the hook" in one.message]
    assert logged[0].levelno == logging.ERROR
    assert f"Broken.{method} raised an exception" in logged[0].message
    assert "has no effect on the command" in logged[0].message
    assert logged[0].exc_info[1] is error
    # The methods of attempts were called twice.
    assert [one.levelno for one in logged[1:]] == (
        [logging.DEBUG] if "attempt" in method else []
    )
    assert (await settled(face.executor(broken).load(A))).version == 1


async def test_each_method_of_a_hook_is_logged_once(face, caplog):
    broken = Broken()
    executor = face.executor(broken)
    with caplog.at_level(logging.ERROR, "eventbraid.command"):
        for _ in range(3):
            await settled(executor.execute(Deposit(account=A)))
    assert len(caplog.records) == len(METHODS)
    assert broken.calls == 3 * len(METHODS)


class Broken(ExecutionHooks):
    """A hook each of whose methods raises an exception."""

    calls = 0

    def _fail(self, _: object) -> Any:
        self.calls += 1
        raise ValueError

    execution_started = attempt_started = attempt_ended = execution_ended = _fail


async def test_a_hook_does_not_find_the_exception_of_the_command(face):
    """Its text and its frames have values of events and states."""
    found: list[BaseException | None] = []

    class Curious(ExecutionHooks):
        def attempt_ended(self, attempt: AttemptEnd, /) -> None:
            found.append(sys.exception())

        def execution_ended(self, end: ExecutionEnd, /) -> None:
            found.append(sys.exception())

    for options in ({}, {"deadline": LONG}):
        with pytest.raises(ZeroDivisionError):
            await face.execute(Faulty(account=A), Curious(), **options)
    for fault, options in [
        (Conflict(times=1), {}),
        (Conflict(times=1), {"deadline": LONG}),
        (UnknownOutcome(committed=False, times=1), {"idempotency_key": "k"}),
    ]:
        face.store.inject(fault)
        await face.execute(Deposit(account=A), Curious(), **options)
        assert len(face.last.attempts) == 2
    assert found == [None] * (2 * 2 + 3 * 3)


async def test_an_error_of_the_command_passes_a_broken_hook(face):
    await face.given(A, 3)
    for options in ({}, {"deadline": LONG}, {"idempotency_key": "k"}):
        with pytest.raises(eb.CommandRejected) as rejected:
            await face.execute(TRANSFER, Broken(), **options)
        assert rejected.value.code == "insufficient_funds"
        assert rejected.value.__context__ is None


@pytest.mark.parametrize("method", METHODS)
async def test_an_asynchronous_method_is_refused_with_a_remedy(face, method, caplog):
    async def body() -> None: ...

    await face.execute(Deposit(account=A), hook_with(method, body))
    [logged] = [one for one in caplog.records if "the hook" in one.message]
    assert logged.levelno == logging.ERROR
    assert "define it with `def`" in logged.message
    assert face.last.end.outcome == "succeeded"


async def test_another_object_than_a_hook_is_refused(face, caplog):
    await face.execute(Deposit(account=A), hook_with("execution_started", lambda: 3))
    [logged] = [one for one in caplog.records if "the hook" in one.message]
    assert "execution_started returned 3: return an" in logged.message
    assert "return an instance of ExecutionHooks, or None" in logged.message


class Interrupted(RecordingHooks):
    """Records its facts, and is interrupted in one of its methods."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__()
        record = getattr(self, method)

        def interrupt(fact: Any) -> None:
            record(fact)
            raise error

        setattr(self, method, interrupt)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", METHODS)
async def test_ctrl_c_in_a_hook_is_raised_and_each_hook_gets_the_end(
    face, interruption, method
):
    hooks = [RecordingHooks(), Interrupted(method, interruption()), RecordingHooks()]
    with pytest.raises(interruption) as raised:
        await face.execute(Deposit(account=A), *hooks)
    # The command is committed before its end is reported.
    is_committed = method.endswith("ended")
    assert getattr(raised.value, "outcome_unknown", False) is is_committed
    for one in (*hooks, face.hooks):
        facts = Counter(map(type, one.facts))
        assert facts[ExecutionStart] == facts[ExecutionEnd]
        assert facts[AttemptStart] == facts[AttemptEnd]
    assert hooks[0].facts
    assert hooks[1].facts


async def test_ctrl_c_in_a_hook_keeps_the_mark_of_an_earlier_interruption(face):
    """The caller has to find out that the command may have been committed."""
    earlier = KeyboardInterrupt()
    earlier.__dict__["outcome_unknown"] = True
    face.store.inject(Failure(error=earlier))
    broken = Interrupted("execution_ended", SystemExit())
    with pytest.raises(SystemExit) as raised:
        await face.execute(Deposit(account=A), broken)
    assert raised.value.outcome_unknown is True


def test_invalid_hooks_are_refused_with_a_remedy(anyio_backend):
    with eb.open("memory:") as store:
        for hooks, remedy in [
            (RecordingHooks(), r"give a list: hooks=\[...\]"),
            (RecordingHooks, r"give a list with an instance: hooks=\[RecordingHooks"),
            ([RecordingHooks], r"give an instance: RecordingHooks\(\)"),
            (["x"], "derive the class of the hook from eventbraid.command"),
            (print, "give a list of hooks; derive the class"),
            (None, "give a list of hooks"),
        ]:
            with pytest.raises(eb.errors.InvalidArgument, match=remedy):
                eb.Executor(store, hooks=hooks)


async def test_no_fact_refers_to_a_value_of_an_event_or_of_a_command(face):
    secret = Money(987_654_321)
    text = "-".join(("the", "secret"))  # noqa: FLY002 - an object of its own

    class Refuse(Deposit):
        def decide(self) -> Iterator[eb.Write]:
            eb.require(self.note == "", "refused", self.note, value=self.amount)
            yield self.account.write(Deposited(self.amount))

    options: list[dict[str, Any]] = [
        {},
        {"deadline": LONG},
        {"idempotency_key": text},
        {"metadata": {"key": text}},
        {"also": [eb.Write("account-z", Deposited(secret, text))]},
    ]
    face.store.inject(Conflict(at=(1, 3)))
    for one in options:
        await face.execute(Deposit(account=A, amount=secret, note=text), **one)
        # The key was used for the other command.
        error = eb.EventbraidError if "idempotency_key" in one else eb.CommandRejected
        with pytest.raises(error):
            await face.execute(Refuse(account=A, amount=secret, note=text), **one)
    await settled(face.executor().load(A))
    assert len(face.hooks.executions) == 2 * len(options) + 1
    reachable = reachable_from(face.hooks.facts)
    assert id(secret) not in reachable
    assert id(text) not in reachable
    assert text not in repr(face.hooks.facts)
    assert str(secret) not in repr(face.hooks.facts)


def reachable_from(thing: object) -> set[int]:
    """Return the ids of all objects that an object refers to, except by its class."""
    left, found = [thing], set[int]()
    while left:
        one = left.pop()
        if id(one) not in found and not isinstance(one, type | types.ModuleType):
            found.add(id(one))
            left += gc.get_referents(one)
    return found


@pytest.mark.parametrize("options", [{}, {"deadline": LONG}], ids=["fast", "general"])
@pytest.mark.parametrize("kind", [Deposit, Faulty, Nothing])
async def test_a_command_is_freed_without_the_garbage_collector(face, kind, options):
    """The traceback of an exception refers to frames, and must not refer to itself."""
    face.store.inject(Conflict(at=1))
    executor = face.executor()
    gc.disable()
    try:
        command = kind(account=A)
        freed = weakref.ref(command)
        with suppress(ZeroDivisionError):
            await settled(executor.execute(command, **options))
        del command
        assert freed() is None
    finally:
        gc.enable()


# --- cancellation: each end is reported once -----------------------------------------


@pytest.fixture
async def in_loop(anyio_backend):
    async with eb.open_async("memory:") as store:
        yield Face(AsyncFaultyStore(store), eb.AsyncExecutor)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the hooks have no event to wait for
        await anyio.sleep(0.001)


SLOW = timedelta(seconds=60)
SLOW_RETRY = eb.RetryPolicy(initial_delay=SLOW, maximum_delay=SLOW, jitter="none")


@pytest.mark.parametrize(
    ("fault", "options", "outcomes"),
    [
        (Delay(duration=SLOW), {}, ["cancelled"]),
        (Delay(duration=SLOW), {"deadline": 2 * SLOW}, ["cancelled"]),
        (Delay(duration=SLOW, operation="read_streams"), {}, ["cancelled"]),
        (Delay(duration=SLOW, operation="committed"), {"idempotency_key": "k"}, ...),
        (Conflict(), {}, ["conflict"]),
        (
            UnknownOutcome(committed=False),
            {"idempotency_key": "k"},
            ["outcome_unknown"],
        ),
    ],
    ids=["append", "general append", "read", "lookup", "backoff", "backoff in doubt"],
)
async def test_a_cancelled_command_ends_once(in_loop, fault, options, outcomes):
    in_loop.store.inject(fault)
    executor = in_loop.executor(retry=SLOW_RETRY, retry_timeout=2 * SLOW)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: executor.execute(Deposit(account=A), **options))
        await until(lambda: in_loop.store.injected)
        await anyio.sleep(0.01)
        assert in_loop.hooks.executions[0].end is None
        tasks.cancel_scope.cancel()
    assert in_loop.last.end.outcome == "cancelled"
    assert not issubclass(in_loop.last.end.error_type, Exception)
    expected = ["cancelled"] if outcomes is ... else outcomes
    assert [one.outcome for one in in_loop.last.attempts] == expected


async def test_a_command_that_is_cancelled_while_it_waits_for_its_turn(in_loop):
    in_loop.store.inject(Delay(duration=SLOW, operation="read_streams"))
    executor = in_loop.executor(retry_timeout=2 * SLOW)
    async with anyio.create_task_group() as tasks:
        # Both wait for one cold stream: one reads it, the other one waits for its turn.
        for _ in range(3):
            tasks.start_soon(executor.execute, Deposit(account=A))
        await until(lambda: len(in_loop.hooks.executions) == 3)
        await until(lambda: in_loop.store.injected)
        tasks.cancel_scope.cancel()
    ends = [one.end for one in in_loop.hooks.executions]
    assert [one.outcome for one in ends] == ["cancelled"] * 3
    assert min(one.attempts for one in ends) == 0


async def test_a_cancelled_load_ends_once(in_loop):
    in_loop.store.inject(Delay(duration=SLOW, operation="read_streams"))
    with anyio.move_on_after(0.02):
        await in_loop.executor().load(A)
    assert [one.outcome for one in in_loop.last.attempts] == ["cancelled"]


def test_a_closed_coroutine_ends_once(anyio_backend):
    async def main() -> None:
        async with eb.open_async("memory:") as store:
            face = Face(AsyncFaultyStore(store), eb.AsyncExecutor)
            face.store.inject(Delay(duration=SLOW))
            coroutine = face.executor().execute(Deposit(account=A))
            coroutine.send(None)
            coroutine.close()
            assert face.last.end.outcome == "cancelled"
            assert face.last.end.error_type is GeneratorExit
            assert [one.outcome for one in face.last.attempts] == ["cancelled"]
            # A coroutine that was never started is no execution.
            face.executor().execute(Deposit(account=A)).close()
            assert len(face.hooks.executions) == 1

    asyncio.run(main())


async def test_ctrl_c_in_the_store_ends_once(face):
    face.store.inject(Failure(error=KeyboardInterrupt, at=1))
    with pytest.raises(KeyboardInterrupt):
        await face.execute(Deposit(account=A))
    assert face.last.end.outcome == "cancelled"
    assert face.last.end.error_type is KeyboardInterrupt


# --- the time of other tasks ---------------------------------------------------------


async def test_the_pauses_of_a_fold_are_not_its_duration(
    in_loop, exact_times, monkeypatch
):
    monkeypatch.setattr(_stream_loading, "TURN_SECONDS", 0)
    await in_loop.given(A, *[1] * 300)

    async def other_task() -> None:
        while True:
            clock.advance(1_000_000)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other_task)
        await in_loop.execute(Deposit(account=A), deadline=LONG)
        tasks.cancel_scope.cancel()
    [attempt] = in_loop.last.attempts
    assert attempt.fold_seconds == 300 * 100 + 100
    assert attempt.seconds > 4_000_000


async def test_a_wait_for_a_turn_is_no_part_of_a_phase(in_loop, exact_times):
    """The fast path reads too many events to fold at once, and has to wait then."""
    await in_loop.given(A, *[1] * 70)
    in_loop.store.inject(
        # The second command has the turn, and the first one, whose read has ended,
        # waits for it while the second one reads and appends.
        Delay(operation="read_streams", at=1, duration=timedelta(milliseconds=20)),
        Delay(operation="read_streams", at=2, duration=timedelta(milliseconds=100)),
        Delay(where=lambda call: call.number == 1 and clock.advance(1_000_000)),
    )
    executor = in_loop.executor()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(executor.execute, Deposit(account=A))
    attempts = [at for one in in_loop.hooks.executions for at in one.attempts]
    [waited] = [at for at in attempts if at.append_seconds < 1_000_000]
    assert waited.seconds >= 1_000_000 > sum(waited.phases.values())


# --- concurrency ---------------------------------------------------------------------


def validate_all(hooks: RecordingHooks, count: int, end: int) -> None:
    """Validate the facts of concurrent deposits on one stream."""
    executions = hooks.executions
    assert len(executions) == count
    facts = Counter(type(one) for one in hooks.facts)
    assert facts[ExecutionStart] == facts[ExecutionEnd] == count
    assert facts[AttemptStart] == facts[AttemptEnd]
    for one in executions:
        assert one.end.outcome == "succeeded"
        assert [at.number for at in one.attempts] == [*range(1, one.end.attempts + 1)]
        retried, last = one.attempts[:-1], one.attempts[-1]
        assert all(at.outcome == "conflict" and at.conflicts for at in retried)
        assert all(at.retry_delay_seconds is not None for at in retried)
        assert (last.outcome, last.retry_delay_seconds) == ("succeeded", None)
    assert sum(one.end.events_appended for one in executions) == end


async def test_the_facts_of_concurrent_tasks_are_kept_apart(in_loop):
    executor = in_loop.executor()
    async with anyio.create_task_group() as tasks:
        for number in range(60):
            options = {"idempotency_key": str(number)} if number % 3 == 0 else {}
            tasks.start_soon(
                lambda o=options: executor.execute(Deposit(account=A), **o)
            )
    validate_all(in_loop.hooks, 60, await in_loop.store.inner.version(A.id))


@pytest.mark.parametrize("location", ["memory:", "path"])
async def test_a_command_that_builds_on_a_pending_append_reports_its_phases(
    anyio_backend, exact_times, location, tmp_path
):
    """On a contended stream, a command folds its events before its append is durable."""
    path = tmp_path / "store" if location == "path" else location
    async with eb.open_async(path) as store:
        hooks = RecordingHooks()
        executor = eb.AsyncExecutor(store, hooks=[hooks])
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(executor.execute, Deposit(account=A))
        validate_all(hooks, 60, await store.version(A.id))
    for execution in hooks.executions:
        for one in execution.attempts:
            assert one.streams == (A.id,)
            # No other task runs in these phases.
            assert (one.decide_seconds, one.snapshot_seconds) == (1_000, 0)
            assert one.outcome == "conflict" or one.fold_seconds >= 100
            assert one.fold_seconds % 100 == 0
    # One command reads the stream, and the others wait for it.
    assert sum(at.cache_misses for one in hooks.executions for at in one.attempts) == 1


async def test_commands_that_conflict_with_another_writer_report_each_attempt(
    anyio_backend,
):
    async with eb.open_async("memory:") as store:
        hooks = RecordingHooks()
        executor = eb.AsyncExecutor(store, hooks=[hooks])
        rival = [eb.new_event(A, Deposited(Money(1)))]
        rivals = 0

        async def work() -> None:
            for _ in range(5):
                await executor.execute(Deposit(account=A))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(work)
            while len([one for one in hooks.executions if one.end]) < 90:
                await store.append(rival)
                rivals += 1
        validate_all(hooks, 100, await store.version(A.id) - rivals)
    attempts = [at for one in hooks.executions for at in one.attempts]
    conflicts = sum(at.conflict_categories.get("account", 0) for at in attempts)
    assert conflicts == len(attempts) - 100 > 0


def test_the_facts_of_concurrent_threads_are_kept_apart(anyio_backend):
    with eb.open("memory:") as store:
        hooks = RecordingHooks()
        broken = Broken()
        executors = [eb.Executor(store, hooks=[broken, hooks]) for _ in range(2)]

        def work(number: int) -> None:
            for _ in range(20):
                executors[number % 2].execute(Deposit(account=A))

        threads = [threading.Thread(target=work, args=(one,)) for one in range(6)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        validate_all(hooks, 120, store.version(A.id))


def test_threads_that_fail_at_once_log_one_error(anyio_backend, caplog):
    with eb.open("memory:") as store:
        executor = eb.Executor(store, hooks=[Broken()])
        barrier = threading.Barrier(8)

        def work(number: int) -> None:
            barrier.wait()
            executor.execute(Deposit(account=f"account-{number}"))

        threads = [threading.Thread(target=work, args=(one,)) for one in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    errors = [one for one in caplog.records if "the hook" in one.message]
    assert len([one for one in errors if one.levelno == logging.ERROR]) == 4
