"""Commands decide on the states of their streams, which are cached.

The hazards: a decision on a state that the stream never had, a state that another
command changed, an exception that an outdated state caused, and a stream that is folded
again and again.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from eventbraid.command import StreamState
from eventbraid.command._immutable import is_immutable
from eventbraid.command._state_cache import ENTRY_BYTES, StateCache
from eventbraid.event import EventRegistry, UndecodedEvent


class Money(eb.Int, ge=0): ...


@eb.event("states.deposited")
class Deposited:
    amount: Money


@eb.event("states.withdrawn")
class Withdrawn:
    amount: Money


@eb.event("states.closed")
class Closed: ...


AccountEvent = Deposited | Withdrawn
folded: list[Any] = []


class Account(eb.Stream[AccountEvent, Money], category="account"):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: AccountEvent, /) -> Money:
        folded.append(event)
        match event:
            case Deposited(amount):
                return state + amount
            case Withdrawn(amount):
                return state - amount


class Log(eb.Stream[AccountEvent, list[int]], category="log"):
    """A kind whose state is mutable."""

    def initial(self) -> list[int]:
        return []

    def apply(self, state: list[int], event: AccountEvent, /) -> list[int]:
        state.append(int(event.amount))
        return state


class Count(eb.Stream[AccountEvent, int], category="account"):
    """Another kind of the same streams."""

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: AccountEvent, /) -> int:
        return state + 1


class Door(eb.Stream[Closed], category="door"): ...


@eb.event("states.note_taken")
class Noted:
    note: str


class Text(eb.Stream[Noted, str], category="text"):
    def initial(self) -> str:
        return ""

    def apply(self, state: str, event: Noted, /) -> str:
        return state + event.note


class Notes(eb.Stream[Noted, list[str]], category="notes"):
    def initial(self) -> list[str]:
        return []

    def apply(self, state: list[str], event: Noted, /) -> list[str]:
        return [*state, event.note]


class Deposit(eb.Command):
    account: eb.Declared[Account]
    amount: Money = Money(1)

    def decide(self) -> Iterator[eb.Write]:
        yield self.account.write(Deposited(self.amount))


class Transfer(eb.Command):
    source: eb.Declared[Account]
    target: eb.Declared[Account]
    amount: Money

    def decide(self) -> Iterator[eb.Write]:
        left = self.source.state
        eb.require(left >= self.amount, "insufficient_funds", left=left)
        yield self.source.write(Withdrawn(self.amount))
        yield self.target.write(Deposited(self.amount))


@pytest.fixture
def store():
    folded.clear()
    with eb.open("memory:") as opened:
        yield opened


@pytest.fixture
def two(tmp_path):
    """Two sessions of one store: each has a cache of its own."""
    folded.clear()
    with eb.open(tmp_path / "s") as one, eb.open(tmp_path / "s") as other:
        yield one, other


def deposit(store, account, *amounts):
    store.append([eb.new_event(account, Deposited(Money(one))) for one in amounts])


class TakeNote(eb.Command):
    notes: eb.Declared[Notes]
    note: str

    def decide(self) -> Iterator[eb.Write]:
        yield self.notes.write(Noted(self.note))


def test_a_command_decides_on_the_states_of_its_streams(store):
    deposit(store, "account-a", 5, 7)
    executor = eb.Executor(store)
    done = executor.execute(
        Transfer(source="account-a", target="account-b", amount=Money(10))
    )
    assert done.events == (Withdrawn(Money(10)), Deposited(Money(10)))
    assert dict(done.versions) == {"account-a": 3, "account-b": 1}
    assert (done.attempts, done.replayed, done.read_position) == (1, False, 2)
    assert executor.load(Account("account-a")) == StreamState(Money(2), 3)
    assert executor.load(Account("account-b")) == StreamState(Money(10), 1)
    with pytest.raises(eb.CommandRejected) as rejected:
        executor.execute(
            Transfer(source="account-a", target="account-b", amount=Money(3))
        )
    assert rejected.value.facts == {"left": Money(2)}
    assert store.head() == 4


def test_a_transfer_to_the_same_account_leaves_its_state(store):
    deposit(store, "account-a", 5)
    executor = eb.Executor(store)
    for _ in range(3):
        executor.execute(
            Transfer(source="account-a", target="account-a", amount=Money(4))
        )
    assert executor.load(Account("account-a")) == StreamState(Money(5), 7)


def test_each_event_is_folded_once_whatever_executor_needs_its_state(store):
    deposit(store, "account-a", *range(200))
    for _ in range(10):
        eb.Executor(store).execute(Deposit(account="account-a"))
    assert len(folded) == 210
    eb.Executor(store).load(Account("account-a"))
    assert len(folded) == 210


def test_a_cached_command_reads_nothing(store):
    reads = []

    class Counting:
        coordination = store.coordination
        append = store.append
        committed = store.committed

        def read_streams(self, streams, **options):
            reads.append(list(streams))
            return store.read_streams(streams, **options)

    executor = eb.Executor(Counting())
    deposit(store, "account-a", 5)
    executor.execute(Deposit(account="account-a"))
    assert reads == [["account-a"]]
    for _ in range(3):
        executor.execute(Deposit(account="account-a"))
    assert reads == [["account-a"]]


def test_what_other_sessions_wrote_is_found_by_a_conflict_and_read_once(two):
    one, other = two
    mine, theirs = eb.Executor(one), eb.Executor(other)
    mine.execute(Deposit(account="account-a", amount=Money(1)))
    for _ in range(5):
        theirs.execute(Deposit(account="account-a", amount=Money(10)))
    folded.clear()
    done = mine.execute(Deposit(account="account-a", amount=Money(1)))
    assert done.attempts == 2
    assert len(folded) == 6
    assert mine.load(Account("account-a")) == StreamState(Money(52), 7)


def test_a_rejection_on_an_outdated_state_is_decided_again(two):
    one, other = two
    mine = eb.Executor(one)
    transfer = Transfer(source="account-a", target="account-b", amount=Money(4))
    with pytest.raises(eb.CommandRejected):
        mine.execute(transfer)
    deposit(other, "account-a", 5)
    assert mine.execute(transfer).events[0] == Withdrawn(Money(4))
    with pytest.raises(eb.CommandRejected):
        mine.execute(transfer)


def test_a_defect_that_an_outdated_state_causes_is_not_reported(two):
    one, other = two

    class Divide(eb.Command):
        account: eb.Declared[Account]

        def decide(self) -> Iterator[eb.Write]:
            yield self.account.write(Deposited(Money(60 // int(self.account.state))))

    mine = eb.Executor(one)
    with pytest.raises(ZeroDivisionError):
        mine.execute(Divide(account="account-a"))
    deposit(other, "account-a", 5)
    assert mine.execute(Divide(account="account-a")).events == (Deposited(Money(12)),)


def test_states_of_two_moments_lead_to_no_rejection(two):
    one, other = two

    class Compare(eb.Command):
        """Both accounts are always changed together, so their states are equal."""

        first: eb.Declared[Account]
        second: eb.Declared[Account]

        def decide(self) -> Iterator[eb.Write]:
            eb.require(self.first.state == self.second.state, "torn")
            yield self.first.write(Deposited(Money(1)))
            yield self.second.write(Deposited(Money(1)))

    compare = Compare(first="account-a", second="account-b")
    mine, theirs = eb.Executor(one), eb.Executor(other)
    mine.execute(compare)
    for _ in range(3):
        theirs.execute(compare)
        # Only the first one's state becomes newer.
        mine.load(Account("account-a"))
        mine.execute(compare)
    assert mine.load(Account("account-b")) == StreamState(Money(7), 7)


def test_a_mutable_state_is_copied_for_each_command(store):
    class Vandal(eb.Command):
        log: eb.Declared[Log]

        def decide(self) -> Iterator[eb.Write]:
            yield self.log.write(Deposited(Money(len(self.log.state))))
            self.log.state.clear()

    executor = eb.Executor(store)
    for count in range(4):
        assert executor.execute(Vandal(log="log-a")).events == (
            Deposited(Money(count)),
        )
    assert executor.load(Log("log-a")) == StreamState([0, 1, 2, 3], 4)
    executor.load(Log("log-a")).state.clear()
    assert executor.load(Log("log-a")).state == [0, 1, 2, 3]


def test_a_mutable_state_is_copied_twice_for_each_command(store):
    """Once for the command, and once for the state after its events."""
    copies = []

    class Tally:
        def __init__(self) -> None:
            self.events = 0

        def __deepcopy__(self, memo: dict[int, Any], /) -> Tally:
            copies.append(self.events)
            copied = Tally()
            copied.events = self.events
            return copied

    class Tallied(eb.Stream[AccountEvent, Tally], category="account"):
        def initial(self) -> Tally:
            return Tally()

        def apply(self, state: Tally, event: AccountEvent, /) -> Tally:
            state.events += 1
            return state

    class Count(eb.Command):
        account: eb.Declared[Tallied]

        def decide(self) -> Iterator[eb.Write]:
            self.account.state.events += 0
            yield self.account.write(Deposited(Money(1)))

    executor = eb.Executor(store)
    executor.execute(Count(account="account-a"))
    copies.clear()
    for _ in range(3):
        executor.execute(Count(account="account-a"))
    assert copies == [1, 1, 2, 2, 3, 3]
    assert executor.load(Tallied("account-a")).state.events == 4


@pytest.mark.parametrize("key", [None, "k"])
def test_a_command_keeps_attributes_in_slots(store, key):
    class WithNote:
        __slots__ = ("note",)
        note: Money

    class DepositNote(WithNote, eb.Command):
        account: eb.Declared[Account]

        def decide(self) -> Iterator[eb.Write]:
            yield self.account.write(Deposited(self.note))

    command = DepositNote(account="account-a")
    object.__setattr__(command, "note", Money(7))
    done = eb.Executor(store).execute(command, idempotency_key=key)
    assert done.events == (Deposited(Money(7)),)


class Amounts:
    """An immutable collection of a class that the library doesn't have.

    Its copy is the object itself, unless its class has another `copier`.
    """

    copier: Any = None

    def __init__(self, members: tuple[int, ...] = ()) -> None:
        self.members = members

    def __deepcopy__(self, memo: dict[int, Any], /) -> Amounts:
        return self if self.copier is None else self.copier()


@dataclass(frozen=True)
class Held:
    amounts: Amounts


def kind_with_amounts(collection):
    class Book(eb.Stream[AccountEvent, Held], category="account"):
        def initial(self) -> Held:
            return Held(collection())

        def apply(self, state: Held, event: AccountEvent, /) -> Held:
            return Held(collection((*state.amounts.members, int(event.amount))))

    return Book


def states_in_two_commands(store, kind):
    """Return the state that each of two commands gets, without an event in between."""
    seen: list[Any] = []

    class Look(eb.Command):
        account: eb.Declared[kind]

        def decide(self) -> Iterable[eb.Write]:
            seen.append(self.account.state)
            return ()

    executor = eb.Executor(store)
    for _ in range(2):
        executor.execute(Look(account="account-a"))
    return seen[0], seen[-1]


def test_a_state_with_a_collection_that_copies_to_itself_is_shared(store):
    deposit(store, "account-a", 5, 7)
    one, other = states_in_two_commands(store, kind_with_amounts(Amounts))
    assert one.amounts.members == (5, 7)
    assert one is other


@pytest.mark.parametrize("raised", [None, TypeError, RecursionError])
def test_a_state_with_another_collection_belongs_to_one_command(store, raised):
    def copier():
        if raised is not None:
            raise raised
        return Copied((5, 7))

    class Copied(Amounts):
        pass

    Copied.copier = staticmethod(copier)
    deposit(store, "account-a", 5, 7)
    one, other = states_in_two_commands(store, kind_with_amounts(Copied))
    assert one.amounts.members == other.amounts.members == (5, 7)
    assert one.amounts is not other.amounts


def test_a_class_whose_instances_are_copied_is_tried_once():
    copies: list[int] = []

    class Copied(Amounts):
        pass

    def copier():
        copies.append(1)
        return Copied()

    Copied.copier = staticmethod(copier)
    assert [is_immutable(Copied()) for _ in range(3)] == [False, False, False]
    assert len(copies) == 1
    assert is_immutable(Amounts())
    assert not is_immutable(Amounts)


def test_one_stream_may_be_declared_as_two_kinds(store):
    class Both(eb.Command):
        money: eb.Declared[Account]
        count: eb.Declared[Count]

        def decide(self) -> Iterator[eb.Write]:
            assert self.money.version == self.count.version == self.count.state
            yield self.count.write(Deposited(Money(2)))

    executor = eb.Executor(store)
    for _ in range(3):
        executor.execute(Deposit(account="account-a", amount=Money(1)))
        executor.execute(Both(money="account-a", count="account-a"))
    assert executor.load(Account("account-a")).state == Money(9)
    assert executor.load(Count("account-a")).state == 6


def test_streams_may_be_declared_as_a_list_and_discovered(store):
    class Collect(eb.Command):
        sources: eb.DeclaredMany[Account]

        def discover(self) -> Iterable[eb.Stream[Any, Any]]:
            for source in self.sources:
                if source.state == Money(7):
                    yield Account("account-found")

        def decide(self) -> Iterator[eb.Write]:
            found = self.discovered(Account("account-found"))
            yield found.write(
                Deposited(found.state + sum([s.state for s in self.sources], Money(0)))
            )

    deposit(store, "account-a", 3)
    deposit(store, "account-b", 7)
    deposit(store, "account-found", 100)
    executor = eb.Executor(store)
    command = Collect(sources=["account-a", "account-b"])
    assert executor.execute(command).events == (Deposited(Money(110)),)
    assert executor.execute(command).events == (Deposited(Money(220)),)
    with pytest.raises(eb.errors.InvalidArgument, match=r"return it from discover\(\)"):
        executor.execute(Collect(sources=["account-a"]))


def test_a_kind_without_state_is_only_checked(store):
    class Close(eb.Command):
        door: eb.Declared[Door]
        account: eb.Declared[Account]

        def decide(self) -> Iterator[eb.Write]:
            eb.require(self.door.version < 2, "closed")
            yield self.door.write(Closed())

    executor = eb.Executor(store)
    close = Close(door="door-1", account="account-a")
    for version in (1, 2):
        assert executor.execute(close).versions["door-1"] == version
    with pytest.raises(eb.CommandRejected):
        executor.execute(close)

    class Ask(eb.Command):
        door: eb.Declared[Door]

        def decide(self) -> Iterator[eb.Write]:
            yield self.door.write(self.door.state)

    with pytest.raises(eb.errors.InvalidArgument, match="Door has no state; define"):
        executor.execute(Ask(door="door-1"))
    with pytest.raises(eb.errors.InvalidArgument, match="Door has no state; define"):
        executor.load(Door("door-1"))
    with pytest.raises(eb.errors.InvalidArgument, match="give it by its kind"):
        executor.load("account-a")


def test_a_state_is_known_only_during_an_execution():
    command = Deposit(account="account-a")
    for read in (lambda: command.account.state, lambda: command.account.version):
        with pytest.raises(eb.errors.InvalidArgument, match="known only during"):
            read()


def test_a_stateful_command_may_use_the_states_of_its_streams_too(store):
    class Both(eb.StatefulCommand[int, AccountEvent]):
        account: eb.Declared[Account]

        def initial(self) -> int:
            return 0

        def apply(self, state: int, recorded: eb.Recorded[AccountEvent], /) -> int:
            return state + recorded.version

        def decide(self, state: int, /) -> Iterator[eb.Write]:
            assert state == sum(range(self.account.version + 1))
            yield self.account.write(Deposited(self.account.state + Money(1)))

    executor = eb.Executor(store)
    events = [executor.execute(Both(account="account-a")).events for _ in range(4)]
    assert events == [(Deposited(Money(one)),) for one in (1, 2, 4, 8)]


def test_an_old_event_that_the_fold_refuses_is_named(store):
    class Strict(eb.Stream[AccountEvent, Money], category="account"):
        def initial(self) -> Money:
            return Money(0)

        def apply(self, state: Money, event: AccountEvent, /) -> Money:
            return state - event.amount

    class Touch(eb.Command):
        account: eb.Declared[Strict]

        def decide(self) -> Iterator[eb.Write]:
            yield self.account.write(Deposited(Money(0)))

    deposit(store, "account-a", 0, 5)
    executor = eb.Executor(store)
    for call in (
        lambda: executor.execute(Touch(account="account-a")),
        lambda: executor.load(Strict("account-a")),
    ):
        with pytest.raises(eb.errors.FoldError) as found:
            call()
        error = found.value
        assert (error.kind, error.type) == ("Strict", "states.deposited")
        assert (error.stream, error.version, error.position) == ("account-a", 2, 2)
        assert isinstance(error.__cause__, eb.InvalidValue)
    assert store.head() == 2


def test_a_fold_that_refuses_its_own_new_event_fails_only_the_next_command(store):
    class Spend(eb.Command):
        account: eb.Declared[Account]

        def decide(self) -> Iterator[eb.Write]:
            yield self.account.write(Withdrawn(Money(1)))

    executor = eb.Executor(store)
    executor.execute(Spend(account="account-a"))
    with pytest.raises(eb.errors.FoldError, match="version 1 of 'account-a'"):
        executor.execute(Spend(account="account-a"))


def test_a_fold_that_returns_none_is_refused(store):
    class Broken(eb.Stream[AccountEvent, Money], category="account"):
        def initial(self) -> Money:
            return Money(0)

        def apply(self, state: Money, event: AccountEvent, /) -> Money:
            return None  # type: ignore[return-value]

    deposit(store, "account-a", 5)
    with pytest.raises(eb.errors.InvalidArgument, match="returned None for Deposited"):
        eb.Executor(store).load(Broken("account-a"))


def test_a_foreign_event_is_named(store):
    store.append([eb.new_event("account-a", Closed())])
    with pytest.raises(
        eb.errors.EventDecodeError, match="Account doesn't apply Closed"
    ):
        eb.Executor(store).execute(Deposit(account="account-a"))


@pytest.mark.parametrize(
    ("methods", "missing"),
    [
        ({"initial": lambda self: 0}, "apply"),
        ({"apply": lambda self, state, event: 0}, "initial"),
        ({}, "initial and apply"),
    ],
)
def test_a_kind_with_a_state_has_both_methods(methods, missing):
    with pytest.raises(TypeError, match=rf"Half lacks {missing}\(\): a kind"):
        types.new_class(
            "Half",
            (eb.Stream[AccountEvent, int],),
            {"category": "half"},
            lambda namespace: namespace.update(methods),
        )


def test_the_events_of_further_writes_are_part_of_the_state(store):
    executor = eb.Executor(store)
    also = [eb.Write("account-a", Deposited(Money(100)))]
    executor.execute(Deposit(account="account-a"), also=also)
    assert executor.load(Account("account-a")) == StreamState(Money(101), 2)
    executor.execute(
        Deposit(account="account-b"), also=[eb.Write("account-b", Closed())]
    )
    with pytest.raises(eb.errors.EventDecodeError):
        executor.load(Account("account-b"))


def test_an_event_that_its_writer_may_still_change_is_not_folded_as_it_is(store):
    @eb.register_event("states.noted")
    @dataclass
    class Noted:
        texts: list[str]

    class Notes(eb.Stream[Noted, int], category="notes"):
        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Noted, /) -> int:
            return state + len(event.texts)

    class Note(eb.Command):
        notes: eb.Declared[Notes]

        def decide(self) -> Iterator[eb.Write]:
            yield self.notes.write(Noted(["a"]))

    executor = eb.Executor(store)
    for _ in range(3):
        executor.execute(Note(notes="notes-1")).events[0].texts.append("b")
    assert executor.load(Notes("notes-1")) == StreamState(3, 3)


def test_idempotency_keys_deadlines_and_expectations_take_the_general_way(store):
    executor = eb.Executor(store)
    command = Deposit(account="account-a", amount=Money(3))
    first = executor.execute(command, idempotency_key="k")
    again = executor.execute(command, idempotency_key="k")
    assert (again.replayed, again.events) == (True, first.events)
    executor.execute(command, expect={"account-x": eb.NO_STREAM})
    assert executor.load(Account("account-a")) == StreamState(Money(6), 2)


@pytest.mark.parametrize("expected", [4, eb.EXISTS])
def test_an_expectation_is_compared_with_the_present_version(two, expected):
    """A cached version that is outdated must not be reported as the actual one."""
    one, other = two
    mine = eb.Executor(one)
    with pytest.raises(eb.CommandRejected):
        mine.execute(Transfer(source="account-a", target="account-b", amount=Money(1)))
    deposit(other, "account-a", 1, 2, 3, 4)
    done = mine.execute(Deposit(account="account-a"), expect={"account-a": expected})
    assert done.versions["account-a"] == 5


def test_a_failed_expectation_names_the_present_version(two):
    one, other = two
    mine = eb.Executor(one)
    mine.execute(Deposit(account="account-a"))
    deposit(other, "account-a", 1, 2, 3)
    with pytest.raises(eb.VersionConflict) as conflict:
        mine.execute(Deposit(account="account-a"), expect={"account-a": 9})
    [failure] = conflict.value.failures
    assert (failure.expected, failure.actual) == (9, 4)


@dataclass(frozen=True)
class Link:
    amount: int = 0
    previous: Link | None = None


class Chain(eb.Stream[AccountEvent, Link], category="chain"):
    """A kind whose state is nested as deeply as the stream has events."""

    def initial(self) -> Link:
        return Link()

    def apply(self, state: Link, event: AccountEvent, /) -> Link:
        return Link(int(event.amount), state)


class Extend(eb.Command):
    chain: eb.Declared[Chain]

    def decide(self) -> Iterator[eb.Write]:
        for number in range(300):
            yield self.chain.write(Deposited(Money(number)))


def test_a_deeply_nested_state_fails_no_command(store):
    executor = eb.Executor(store)
    for count in range(1, 11):
        done = executor.execute(Extend(chain="chain-1"))
        assert (done.versions["chain-1"], done.attempts) == (300 * count, 1)
    assert executor.load(Chain("chain-1")).version == 3000


def test_an_interruption_after_the_commit_says_that_it_may_have_happened(store):
    interrupted = False

    class Slow(eb.Stream[AccountEvent, int], category="slow"):
        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: AccountEvent, /) -> int:
            if interrupted:
                raise KeyboardInterrupt
            return state + 1

    class Add(eb.Command):
        slow: eb.Declared[Slow]

        def decide(self) -> Iterator[eb.Write]:
            yield self.slow.write(Deposited(Money(1)))

    executor = eb.Executor(store)
    executor.execute(Add(slow="slow-1"))
    interrupted = True
    with pytest.raises(KeyboardInterrupt) as interruption:
        executor.execute(Add(slow="slow-1"))
    assert store.head() == 2
    assert interruption.value.__dict__["outcome_unknown"] is True
    interrupted = False
    assert executor.load(Slow("slow-1")) == StreamState(2, 2)


def test_threads_and_sessions_lose_no_update(two):
    stores = two
    count = 60

    def work(store):
        executor = eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=1_000))
        for number in range(count):
            executor.execute(
                Transfer(
                    source=f"account-{number % 2}",
                    target=f"account-{1 - number % 2}",
                    amount=Money(1),
                )
            )

    deposit(stores[0], "account-0", 1_000)
    deposit(stores[0], "account-1", 1_000)
    threads = [threading.Thread(target=work, args=(stores[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        executor = eb.Executor(store)
        loaded = [executor.load(Account(f"account-{n}")) for n in (0, 1)]
        assert [one.state for one in loaded] == [Money(1_000)] * 2
        assert [one.version for one in loaded] == [1 + 4 * count] * 2


def test_the_cache_is_bounded_and_keeps_what_is_used(store):
    size = ENTRY_BYTES + sys.getsizeof(Money(1))
    cache = StateCache(store.registry, limit=100 * size)
    generation = store.registry.generation
    for number in range(10_000):
        cache.put(Account, f"account-{number}", 1, Money(number), generation)
        assert cache.find(Account, "account-0") is not None
        assert cache.size <= 50 * size
    kept = [n for n in range(10_000) if cache.find(Account, f"account-{n}") is not None]
    assert 50 <= len(kept) <= 101
    assert min(kept[1:]) >= 9_890


def test_a_large_state_counts_with_its_size(store):
    cache = StateCache(store.registry, limit=10 * 2**20)
    generation = store.registry.generation
    for number in range(100):
        cache.put(Log, f"log-{number}", 1, ["x" * 2**20], generation)
    assert sum(cache.find(Log, f"log-{n}") is not None for n in range(100)) <= 11


def test_a_long_text_counts_with_its_size(store):
    """A state of a built-in type is immutable, but need not be small."""
    cache = StateCache(store.registry, limit=10 * 2**20)
    generation = store.registry.generation
    for number in range(100):
        cache.put(Text, f"text-{number}", 1, "x" * 2**20, generation)
    assert sum(cache.has(Text, f"text-{n}") for n in range(100)) <= 11


def test_large_events_count_with_their_size_until_the_state_is_measured(store):
    executor = eb.Executor(store)
    for _ in range(64):
        executor.execute(TakeNote(notes="notes-1", note="x" * 2**16))
    _, cache = executor._engine._shared.get()
    assert 2**21 <= cache.size <= 2**23


def test_a_state_that_cannot_be_copied_takes_no_room_in_the_cache(store):
    cache = StateCache(store.registry, limit=10 * 2**20)
    generation = store.registry.generation
    cache.put(Account, "account-a", 1, Money(1), generation)
    size = cache.size
    for _ in range(10):
        cache.put(Log, "log-1", 1, [threading.Lock()], generation)
        assert cache.find(Log, "log-1") is None
    assert cache.size == size


def test_a_state_of_an_earlier_generation_is_not_cached(store):
    """While a command runs, another thread may define a class of events."""
    registry = EventRegistry()
    registry.add(Deposited, "states.deposited", 1)

    class Raw(eb.Stream[Deposited | UndecodedEvent | Closed, int], category="raw"):
        """A kind whose state is the number of events that can be decoded."""

        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: object, /) -> int:
            return state + (not isinstance(event, UndecodedEvent))

    class Add(eb.Command):
        raw: eb.Declared[Raw]

        def decide(self) -> Iterator[eb.Write]:
            if self.raw.version == 1:
                registry.add(Closed, "states.closed", 1)
                eb.Executor(store, registry=registry, on_undecodable="raw").load(
                    Raw("raw-1")
                )
            yield self.raw.write(Deposited(Money(1)))

    store.append([eb.new_event("raw-1", Closed())])
    executor = eb.Executor(store, registry=registry, on_undecodable="raw")
    executor.execute(Add(raw="raw-1"))
    assert executor.load(Raw("raw-1")) == StreamState(2, 2)


def test_executors_with_policies_of_their_own_leave_no_cache(store):
    """A function that is made for one executor must not keep its states alive."""
    for _ in range(20):
        executor = eb.Executor(store, on_undecodable=lambda undecoded: None)
        executor.execute(Deposit(account="account-a"))
        cache = weakref.ref(executor._engine._shared.get()[1])
        assert cache() is not None
        del executor
        gc.collect()
        assert cache() is None


def test_without_a_cache_every_command_reads(store):
    executor = eb.Executor(store, state_cache_bytes=0)
    for _ in range(3):
        executor.execute(Deposit(account="account-a"))
    assert executor.load(Account("account-a")) == StreamState(Money(3), 3)


def test_without_a_cache_no_command_waits_for_the_commit_of_another(store):
    """It would not find the state afterwards, so the wait would be for nothing."""
    held = []

    class Watching:
        coordination = store.coordination
        committed = store.committed
        read_streams = store.read_streams

        def append(self, events, **options):
            queues, _ = executor._engine._shared.get()
            held.append(queues.contended(["account-a", "account-b"]))
            return store.append(events, **options)

    deposit(store, "account-a", *range(100))
    executor = eb.Executor(Watching(), state_cache_bytes=0)
    transfer = Transfer(source="account-a", target="account-b", amount=Money(1))
    assert executor.execute(transfer).attempts == 1
    assert held == [[]]


async def execute_in_loop(store, count, commands):
    executor = eb.AsyncExecutor(store, retry=eb.RetryPolicy(maximum_attempts=1_000))
    done = []
    async with anyio.create_task_group() as tasks:

        async def run(number):
            done.append(await executor.execute(commands[number % len(commands)]))

        for number in range(count):
            tasks.start_soon(run, number)
    return done


@pytest.mark.anyio
async def test_many_tasks_on_one_stream_lose_no_update(anyio_backend):
    async with eb.open_async("memory:") as store:
        executor = eb.AsyncExecutor(store)
        await store.append([eb.new_event("account-a", Deposited(Money(100)))])
        commands = [
            Transfer(source="account-a", target="account-b", amount=Money(1)),
            Deposit(account="account-b", amount=Money(1)),
        ]
        done = await execute_in_loop(store, 100, commands)
        assert len(done) == 100
        assert await executor.load(Account("account-a")) == StreamState(Money(50), 51)
        assert await executor.load(Account("account-b")) == StreamState(Money(100), 100)
        with pytest.raises(eb.CommandRejected):
            await executor.execute(
                Transfer(source="account-a", target="account-b", amount=Money(51))
            )


@pytest.mark.anyio
async def test_a_long_fold_lets_other_tasks_run(anyio_backend):
    async with eb.open_async("memory:") as store:
        for _ in range(4):
            await store.append([eb.new_event("account-a", Deposited(Money(1)))] * 5_000)
        turns = 0
        finished = anyio.Event()

        async def count_turns():
            nonlocal turns
            while not finished.is_set():
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            await anyio.lowlevel.checkpoint()
            began = turns
            loaded = await eb.AsyncExecutor(store).load(Account("account-a"))
            assert turns - began >= 5
            finished.set()
        assert loaded == StreamState(Money(20_000), 20_000)


@pytest.mark.anyio
async def test_the_folds_of_many_short_streams_let_other_tasks_run(anyio_backend):
    """None of the folds takes long, but together they would hold the event loop."""
    turns = 0
    seen = set()

    class Slow(eb.Stream[Deposited, int], category="slow"):
        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Deposited, /) -> int:
            time.sleep(0.0005)
            seen.add(turns)
            return state + 1

    class Sum(eb.Command):
        streams: eb.DeclaredMany[Slow]

        def decide(self) -> Iterator[eb.Write]:
            total = sum(one.state for one in self.streams)
            yield self.streams[0].write(Deposited(Money(total)))

    ids = [f"slow-{number}" for number in range(100)]
    async with eb.open_async("memory:") as store:
        await store.append([eb.new_event(one, Deposited(Money(1))) for one in ids])
        finished = anyio.Event()

        async def count_turns():
            nonlocal turns
            while not finished.is_set():
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            await eb.AsyncExecutor(store).execute(Sum(streams=ids))
            finished.set()
    # 50 ms of folds, in parts of at most 3 ms.
    assert len(seen) > 8
