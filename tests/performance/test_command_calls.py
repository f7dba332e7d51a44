"""The Python functions that the execution of a command calls.

The number of calls shows what a command costs without a clock. If it grows, the
executions became slower; a lower ceiling may then no longer be lifted by accident.
Commands of the form that folds all its streams needed 101 to 132 calls for one stream
and 170 to 243 for two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

import eventbraid as eb
from eventbraid.command import ExecutionHooks


class Money(eb.Int, ge=0): ...


@eb.event("calls.paid_in")
class PaidIn:
    amount: Money


@eb.event("calls.paid_out")
class PaidOut:
    amount: Money


class Account(eb.Stream[PaidIn | PaidOut, Money], category="account"):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: PaidIn | PaidOut, /) -> Money:
        match event:
            case PaidIn(amount):
                return state + amount
            case PaidOut(amount):
                return state - amount


class Count(eb.StatefulCommand[int, PaidIn | PaidOut]):
    account: eb.Declared[Account]

    def initial(self) -> int:
        return 0

    def apply(self, state: int, recorded: eb.Recorded[PaidIn | PaidOut], /) -> int:
        return state + 1

    def decide(self, state: int, /) -> Iterator[eb.Write]:
        yield self.account.write(PaidIn(Money(1)))


class PayIn(eb.Command):
    account: eb.Declared[Account]
    amount: Money

    def decide(self) -> Iterator[eb.Write]:
        yield self.account.write(PaidIn(self.amount))


class Transfer(eb.Command):
    source: eb.Declared[Account]
    target: eb.Declared[Account]
    amount: Money

    def decide(self) -> Iterator[eb.Write]:
        eb.require(self.source.state >= self.amount, "insufficient_funds")
        yield self.source.write(PaidOut(self.amount))
        yield self.target.write(PaidIn(self.amount))


class PayAll(eb.Command):
    accounts: eb.DeclaredMany[Account]
    amount: Money

    def decide(self) -> Iterator[eb.Write]:
        for account in self.accounts:
            yield account.write(PaidIn(self.amount))


ONE = PayIn(account="account-a", amount=Money(1))
TWO = Transfer(source="account-a", target="account-b", amount=Money(1))
WARM_UP = Transfer(source="account-x", target="account-y", amount=Money(0))


@pytest.fixture
def store():
    with eb.open("memory:") as opened:
        fill(opened, 3, "account-a", "account-b", "account-x", "account-y")
        yield opened


def fill(store, count, *streams):
    for stream in streams:
        store.append([eb.new_event(stream, PaidIn(Money(5)))] * count)


def calls_of(function):
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count - 1


@pytest.mark.parametrize(
    ("command", "cold", "cached"),
    [pytest.param(ONE, 52, 30, id="one"), pytest.param(TWO, 89, 49, id="two")],
)
def test_an_execution_makes_few_calls(store, command, cold, cached):
    executor = eb.Executor(store)
    executor.execute(PayIn(account="account-y", amount=Money(0)))
    executor.execute(WARM_UP)
    assert calls_of(lambda: executor.execute(command)) <= cold
    assert calls_of(lambda: executor.execute(command)) <= cached


def test_a_commit_with_further_writes_makes_few_calls(store):
    """So do the commands of sagas, which contain the records of their sagas."""
    executor = eb.Executor(store)
    executor.execute(WARM_UP)
    command = PayAll(accounts=["account-a", "account-b"], amount=Money(1))
    further = eb.Write("note-1", PaidIn(Money(1)))
    executor.execute(command, also=[further], expect={"note-1": 0})
    version = 1

    def execute():
        executor.execute(command, also=[further], expect={"note-1": version})

    assert calls_of(execute) <= 57


def instructions_of(function):
    """Count the instructions of the interpreter that a function executes."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("count", [calls_of, instructions_of])
def test_the_length_of_a_cached_stream_makes_no_difference(store, count):
    executor = eb.Executor(store)
    executor.execute(WARM_UP)
    counts = set()
    for length in (10, 1_000, 100_000):
        stream = f"account-{length}"
        for start in range(0, length, 10_000):
            fill(store, min(10_000, length - start), stream)
        command = PayIn(account=stream, amount=Money(1))
        executor.execute(command)
        counts.add(count(lambda command=command: executor.execute(command)))
    [each] = counts
    assert each > 0


class Unused(ExecutionHooks): ...


HOOK_MODULES = (
    "_execution_trace.py",
    "_hook_calls.py",
    "_hooks.py",
    "_observed_port.py",
)


def hook_calls_of(function):
    """Return the names of the functions for hooks that a function calls."""
    called = set()

    def note(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.endswith(HOOK_MODULES):
            called.add(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return called


@pytest.mark.parametrize("hooks", [(), [Unused()]], ids=["without", "with"])
def test_without_hooks_an_execution_makes_no_call_for_them(store, hooks):
    executor = eb.Executor(store, hooks=hooks)
    executions = [
        lambda: executor.execute(ONE),
        lambda: executor.execute(ONE, idempotency_key="k"),
        lambda: executor.execute(TWO, deadline=timedelta(seconds=30)),
        lambda: executor.execute(Count(account="account-a")),
        lambda: executor.load(Account("account-a")),
    ]
    for execute in executions:
        assert bool(hook_calls_of(execute)) is bool(hooks)


@pytest.mark.parametrize(
    ("command", "ceiling"),
    [pytest.param(ONE, 58, id="one"), pytest.param(TWO, 77, id="two")],
)
def test_a_hook_adds_few_calls(store, command, ceiling):
    executor = eb.Executor(store, hooks=[Unused()])
    executor.execute(WARM_UP)
    executor.execute(command)
    assert calls_of(lambda: executor.execute(command)) <= ceiling
