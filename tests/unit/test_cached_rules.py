"""Rules 21 to 27 of the store's semantics, for commands on cached states of streams.

`test_command_execution` has the same rules for commands that fold their streams. Every test
runs without an event loop and on asyncio and trio. Before each test, the states of all
streams are cached, and other writers append without the cache, as other processes do.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import eventbraid as eb
from tests.commands import AsyncMeddled, Bank, SyncMeddled, raw

pytestmark = pytest.mark.anyio

A, B, C = "account-a", "account-b", "account-c"
ONCE = eb.RetryPolicy(maximum_attempts=1)


class Money(eb.Int): ...


@eb.event("cached_rules.moved")
class Moved:
    amount: Money


@eb.event("cached_rules.noted")
class Noted: ...


folded: list[Moved] = []
decided: list[tuple[int, ...]] = []


class Account(eb.Stream[Moved, Money], category="account"):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: Moved, /) -> Money:
        folded.append(event)
        return state + event.amount


class Amounts(eb.Stream[Moved, list[int]], category="amounts"):
    """A kind whose state is mutable."""

    def initial(self) -> list[int]:
        return []

    def apply(self, state: list[int], event: Moved, /) -> list[int]:
        return [*state, int(event.amount)]


class Transfer(eb.Command):
    source: eb.Declared[Account]
    target: eb.Declared[Account]
    amount: Money = Money(10)

    def decide(self) -> Iterator[eb.Write]:
        left = self.source.state
        decided.append((int(left), int(self.target.state)))
        eb.require(left >= self.amount, "insufficient_funds", left=int(left))
        yield self.source.write(Moved(-self.amount))
        yield self.target.write(Moved(self.amount))


class GuardedDeposit(eb.Command):
    """Deposits if another account, which is only read, has money."""

    account: eb.Declared[Account]
    guard: eb.Declared[Account]

    def decide(self) -> Iterator[eb.Write]:
        decided.append((int(self.account.state), int(self.guard.state)))
        eb.require(self.guard.state > Money(0), "guard_is_empty")
        yield self.account.write(Moved(Money(1)))


class Follow(eb.Command):
    """Deposits into an account that the state of another one determines."""

    account: eb.Declared[Account]

    def discover(self) -> list[Account]:
        state = int(self.account.state)
        return [Account(f"account-d{state}"), Account(f"account-e{state}")][:state]

    def decide(self) -> Iterator[eb.Write]:
        for found in self.discover():
            handle = self.discovered(found)
            decided.append((int(self.account.state), int(handle.state)))
            yield handle.write(Moved(Money(1)))


class Look(eb.Command):
    """Decides on nothing."""

    account: eb.Declared[Account]

    def decide(self) -> list[eb.Write]:
        decided.append((int(self.account.state),))
        return []


TRANSFER = Transfer(source=A, target=B)


async def settled(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


@pytest.fixture(params=["sync", "async"])
async def bank(request):
    """A bank whose accounts have 100, 0 and 0; all states are cached."""
    if request.param == "sync":
        with eb.open("memory:") as store:
            yield await cached(Bank(SyncMeddled(store), eb.Executor, settled))
    else:
        async with eb.open_async("memory:") as store:
            yield await cached(Bank(AsyncMeddled(store), eb.AsyncExecutor, settled))


async def cached(bank):
    await bank.given((A, Moved(Money(100))))
    for account in (A, B, C):
        await bank.execute(Look(account=account))
    decided.clear()
    folded.clear()
    bank.store.asked.clear()
    return bank


def another_writer(bank, *events):
    """Let another process append right before the next append."""
    bank.store.before.append([raw(stream, event) for stream, event in events])


async def test_21_a_write_to_an_undeclared_stream_is_refused(bank):
    class Stray(Transfer):
        def decide(self):
            yield eb.Write(C, Moved(Money(1)))

    with pytest.raises(eb.errors.UndeclaredStream):
        await bank.execute(Stray(source=A, target=B))
    assert await bank.head() == 1


async def test_21_a_handle_of_another_command_is_refused(bank):
    class Stray(Transfer):
        def decide(self):
            yield TRANSFER.source.write(Moved(Money(1)))

    with pytest.raises(eb.errors.InvalidArgument, match="another command"):
        await bank.execute(Stray(source=A, target=B))
    assert await bank.head() == 1


async def test_21_a_foreign_event_changes_no_cached_state(bank):
    class Stray(Transfer):
        def decide(self):
            yield self.source.write(Moved(Money(1)))
            yield self.source.write(Noted())

    with pytest.raises(eb.errors.InvalidArgument, match="Noted"):
        await bank.execute(Stray(source=A, target=B))
    await bank.execute(TRANSFER)
    assert decided == [(100, 0)]


async def test_22_a_stream_that_is_only_read_is_checked_at_its_cached_version(bank):
    another_writer(bank, (A, Moved(Money(5))))
    done = await bank.execute(GuardedDeposit(account=B, guard=A))
    assert decided == [(0, 100), (0, 105)]
    assert done.attempts == 2
    another_writer(bank, (A, Moved(Money(-105))))
    with pytest.raises(eb.CommandRejected, match="guard_is_empty"):
        await bank.execute(GuardedDeposit(account=B, guard=A))
    assert len(await bank.events(B)) == 1


async def test_22_cached_states_of_discovered_streams_are_checked(bank):
    await bank.given((B, Moved(Money(1))))
    await bank.execute(Follow(account=B))
    decided.clear()
    another_writer(bank, ("account-d1", Moved(Money(7))))
    assert (await bank.execute(Follow(account=B))).attempts == 2
    assert decided == [(1, 1), (1, 8)]


async def test_23_discovery_on_an_outdated_state_is_repeated(bank):
    """The streams of the second attempt are those that the present state asks for."""
    another_writer(bank, (C, Moved(Money(2))))
    await bank.given((C, Moved(Money(-1))))
    done = await bank.execute(Follow(account=C))
    # The cached state, 0, discovers nothing, and the check of its version fails. Then
    # -1 was read, and before the append it became 1.
    assert set(done.versions) == {"account-d1"}
    assert decided[-1] == (1, 0)


async def test_23_the_states_of_a_rejection_are_of_one_position(bank):
    """One stream is cached at an older moment than the other one."""
    for _ in range(3):
        # Both accounts are always changed together.
        await bank.given((B, Moved(Money(1))), (C, Moved(Money(1))))

    class Compare(Transfer):
        def decide(self):
            decided.append((int(self.source.state), int(self.target.state)))
            eb.require(self.source.state == self.target.state, "torn")
            yield self.source.write(Moved(Money(1)))
            yield self.target.write(Moved(Money(1)))

    await bank.execute(Look(account=C))
    assert decided[-1] == (3,)
    await bank.execute(Compare(source=B, target=C))
    assert decided[-1] == (3, 3)


async def test_24_after_a_conflict_only_the_new_events_are_folded(bank):
    another_writer(bank, *[(A, Moved(Money(1)))] * 3)
    done = await bank.execute(TRANSFER)
    assert (done.attempts, decided) == (2, [(100, 0), (103, 0)])
    # Three new events, and the two of the command.
    assert len(folded) == 5


async def test_24_a_rejection_on_an_outdated_state_is_decided_again(bank):
    await bank.given((C, Moved(Money(50))))
    done = await bank.execute(Transfer(source=C, target=B))
    # The short way leaves a rejection to the general one, which decides once more.
    assert decided == [(0, 0), (0, 0), (50, 0)]
    assert done.attempts == 1


async def test_24_a_rejection_on_the_present_state_is_not_retried(bank):
    with pytest.raises(eb.CommandRejected) as rejected:
        await bank.execute(Transfer(source=C, target=B))
    assert rejected.value.facts == {"left": 0}
    assert set(decided) == {(0, 0)}
    assert bank.store.asked.count("read_streams") == 1
    assert "append" not in bank.store.asked


async def test_24_a_state_that_decide_changed_is_not_used_again(bank):
    class Vandal(eb.Command):
        amounts: eb.Declared[Amounts]

        def decide(self):
            decided.append(tuple(self.amounts.state))
            self.amounts.state.clear()
            yield self.amounts.write(Moved(Money(1)))

    await bank.execute(Vandal(amounts="amounts-1"))
    another_writer(bank, ("amounts-1", Moved(Money(5))))
    await bank.execute(Vandal(amounts="amounts-1"))
    assert decided == [(), (1,), (1, 5)]


async def test_24_attempts_are_limited(bank):
    for _ in range(3):
        another_writer(bank, (A, Moved(Money(1))))
    with pytest.raises(eb.errors.RetriesExhausted) as exhausted:
        await bank.execute(TRANSFER, retry=eb.RetryPolicy(maximum_attempts=3))
    assert exhausted.value.attempts == 3
    assert decided == [(100, 0), (101, 0), (102, 0)]


async def test_24_an_append_that_failed_leaves_no_event_in_a_cached_state(bank):
    """The state after the command's events is cached after the commit, not before."""
    another_writer(bank, (B, Moved(Money(1))))
    with pytest.raises(eb.errors.RetriesExhausted):
        await bank.execute(TRANSFER, retry=ONCE)
    bank.store.failing = 1
    with pytest.raises(eb.OutcomeUnknown):
        await bank.execute(TRANSFER)
    decided.clear()
    await bank.execute(TRANSFER)
    assert decided[-1] == (100, 1)


async def test_24_an_unknown_outcome_is_found_in_the_next_state(bank):
    bank.store.losing = 1
    with pytest.raises(eb.OutcomeUnknown):
        await bank.execute(TRANSFER)
    await bank.execute(TRANSFER)
    assert decided == [(100, 0), (100, 0), (90, 10)]


async def test_25_the_key_is_looked_up_before_a_cached_state_is_used(bank):
    first = await bank.execute(TRANSFER, idempotency_key="k")
    again = await bank.execute(TRANSFER, idempotency_key="k")
    assert decided == [(100, 0)]
    assert again.replayed
    assert (again.first_position, again.versions) == (
        first.first_position,
        first.versions,
    )
    await bank.execute(TRANSFER)
    assert decided[-1] == (90, 10)


async def test_25_a_lost_result_is_found_by_the_key(bank):
    bank.store.losing = 1
    done = await bank.execute(TRANSFER, idempotency_key="k")
    assert (done.replayed, decided) == (True, [(100, 0)])
    await bank.execute(TRANSFER)
    assert decided[-1] == (90, 10)


async def test_25_the_key_of_another_command_is_refused(bank):
    await bank.execute(TRANSFER, idempotency_key="k")
    other = Transfer(source=A, target=B, amount=Money(11))
    with pytest.raises(eb.errors.IdempotencyMismatch):
        await bank.execute(other, idempotency_key="k")
    assert len(decided) == 1


async def test_25_a_rejection_is_not_recorded(bank):
    transfer = Transfer(source=C, target=B)
    with pytest.raises(eb.CommandRejected):
        await bank.execute(transfer, idempotency_key="k")
    await bank.given((C, Moved(Money(50))))
    done = await bank.execute(transfer, idempotency_key="k")
    assert not done.replayed


async def test_26_a_command_without_events_is_checked_at_its_cached_version(bank):
    await bank.given((A, Moved(Money(5))))
    done = await bank.execute(Look(account=A))
    assert decided == [(100,), (105,)]
    assert (done.events, done.attempts) == ((), 2)
    assert await bank.head() == 2


async def test_27_further_events_are_part_of_the_cached_state(bank):
    also = [eb.Write(A, Moved(Money(1000))), eb.Write(C, Moved(Money(7)))]
    await bank.execute(TRANSFER, also=also)
    await bank.execute(TRANSFER)
    assert decided == [(100, 0), (1090, 10)]
    await bank.execute(Look(account=C))
    assert decided[-1] == (7,)


async def test_27_a_conflict_in_an_expectation_is_raised_at_once(bank):
    await bank.given((C, Moved(Money(1))))
    with pytest.raises(eb.VersionConflict) as conflict:
        await bank.execute(TRANSFER, expect={C: eb.NO_STREAM})
    [failure] = conflict.value.failures
    assert (failure.stream, failure.actual) == (C, 1)
    assert (decided, await bank.head()) == ([(100, 0)], 2)


async def test_27_an_expectation_is_compared_with_the_present_version(bank):
    """The cached version of the command's own stream is outdated."""
    await bank.given((A, Moved(Money(1))))
    await bank.execute(TRANSFER, expect={A: 2})
    assert decided[-1] == (101, 0)
    with pytest.raises(eb.VersionConflict):
        await bank.execute(TRANSFER, expect={A: 2})
