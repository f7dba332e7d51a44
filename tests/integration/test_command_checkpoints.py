"""Each call of an asynchronous executor is a checkpoint, however it ends.

The hazard: reads within a command are answered from memory without one, because the
append that follows waits. A command that ends without an append must not skip it.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from tests.commands import Account, AccountEvent, Deposit, Deposited, Money, Transfer

pytestmark = pytest.mark.anyio


class Count(eb.StatefulCommand[int, AccountEvent]):
    account: eb.Declared[Account]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + 1

    def decide(self, state, /):
        return ()


async def _rejected(executor):
    with pytest.raises(eb.CommandRejected):
        await executor.execute(
            Transfer(
                source="account-none",
                target="account-1",
                limit="limit-1",
                amount=Money(1),
            )
        )


async def _undecodable(executor):
    with pytest.raises(eb.EventbraidError):
        await executor.execute(Count(account="account-foreign"))


CALLS = {
    "append": lambda executor: executor.execute(
        Deposit(account="account-1", amount=Money(1))
    ),
    "nothing decided": lambda executor: executor.execute(Nothing()),
    "rejected": _rejected,
    "undecodable": _undecodable,
    "done before": lambda executor: executor.execute(
        Deposit(account="account-1", amount=Money(1)), idempotency_key="key"
    ),
    "nothing decided before": lambda executor: executor.execute(
        Nothing(), idempotency_key="key of nothing"
    ),
}


class Nothing(eb.StatefulCommand[int, AccountEvent]):
    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state

    def decide(self, state, /):
        return ()


@pytest.fixture
async def executor():
    async with eb.open_async("memory:") as store:
        await store.append([("account-1", *eb.encode_event(Deposited(Money(1))))])
        await store.append([("account-foreign", "foreign", b"{}")])
        executor = eb.AsyncExecutor(store)
        await executor.execute(
            Deposit(account="account-1", amount=Money(1)), idempotency_key="key"
        )
        await executor.execute(Nothing(), idempotency_key="key of nothing")
        yield executor


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_other_tasks_run_during_each_command(executor, call):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await anyio.sleep(0.01)
        before = turns
        # Twice, because trio runs the tasks of one turn in any order.
        await call(executor)
        await call(executor)
        assert turns > before
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_timeout_ends_a_loop_of_commands(executor, call):
    calls = 0
    with anyio.move_on_after(0.05) as scope:
        while calls < 100_000:
            calls += 1
            await call(executor)
    assert scope.cancelled_caught
