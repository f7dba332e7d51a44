"""Long streams are decoded once; what is remembered never shows in what is decided."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

import eventbraid as eb
from eventbraid.command._memory import EventMemory
from eventbraid.event._frozen import is_frozen_class
from tests.commands import (
    Account,
    AccountEvent,
    Deposit,
    Deposited,
    Joined,
    LimitSet,
    Money,
    PayAll,
    SyncMeddled,
    Withdrawn,
    raw,
)

A, B, GROUP = "account-a", "account-b", "group-1"
LONG = 40


class Positions(eb.Command[list[int], AccountEvent]):
    """Decides on nothing; its state is the positions in the order of the fold."""

    accounts: eb.DeclaredMany[AccountEvent] = eb.streams(Account)

    def initial(self):
        seen.clear()
        return seen

    def apply(self, state, recorded, /):
        state.append(recorded.position)
        return state

    def decide(self, state, /):
        return ()


seen: list[int] = []


@pytest.fixture
def store():
    with eb.open("memory:") as inner:
        both = [
            raw(stream, Deposited(Money(1))) for _ in range(LONG) for stream in (A, B)
        ]
        inner.append(both)
        yield SyncMeddled(inner)


def test_what_was_read_once_is_not_read_again(store):
    executor = eb.Executor(store)
    for _ in range(2):
        executor.execute(Deposit(account=A, amount=Money(1)))
    assert store.read == [([A], None, None), ([A], None, {A: LONG})]
    assert store.inner.version(A) == LONG + 2


def test_short_streams_are_not_remembered(store):
    executor = eb.Executor(store)
    for _ in range(3):
        executor.execute(Deposit(account="account-new", amount=Money(1)))
    assert {after for _, _, after in store.read} == {None}


def test_the_fold_is_the_same_with_and_without_memory(store):
    executor = eb.Executor(store)
    everything = list(range(1, 2 * LONG + 1))
    executor.execute(Positions(accounts=[A]))
    assert seen == everything[::2]
    executor.execute(Positions(accounts=[A, B]))
    assert seen == everything
    store.inner.append([raw(B, Deposited(Money(1))), raw(A, Deposited(Money(1)))])
    executor.execute(Positions(accounts=[B, A]))
    assert seen == [*everything, 2 * LONG + 1, 2 * LONG + 2]


def test_discovery_sees_no_more_than_there_was_at_its_position(store):
    """What another command has read meanwhile is beyond the pinned position."""
    executor = eb.Executor(store)
    folds: list[list[int]] = []

    class Watching(PayAll):
        def initial(self):
            folds.append([])
            return super().initial()

        def discover(self, state, /):
            if len(folds) == 1:
                store.inner.append([raw(A, Deposited(Money(1)))])
                executor.execute(Positions(accounts=[A]))
            return super().discover(state)

        def apply(self, state, recorded, /):
            folds[-1].append(recorded.position)
            return super().apply(state, recorded)

    store.inner.append([raw(GROUP, Joined(A))])
    done = executor.execute(Watching(group=GROUP, amount=Money(1)))
    pinned = 2 * LONG + 1
    assert folds[0] == [pinned]
    assert folds[1][: LONG + 1] == [*range(1, pinned, 2), pinned]
    assert folds[1][LONG + 1 :] == [pinned + 1], "what is new after the conflict"
    assert done.attempts == 2
    assert done.versions[A] == LONG + 2


def test_a_command_that_does_not_apply_what_is_remembered_is_stopped(store):
    class Narrow(eb.Stream[Deposited], category="account"): ...

    class OnlyDeposits(eb.Command[None, Deposited]):
        account: eb.Declared[Deposited] = eb.stream(Narrow)

        def initial(self): ...
        def apply(self, state, recorded, /): ...
        def decide(self, state, /):
            return ()

    executor = eb.Executor(store)
    executor.execute(OnlyDeposits(account=A))
    store.inner.append([raw(A, Withdrawn(Money(1)))])
    executor.execute(Positions(accounts=[A]))
    with pytest.raises(eb.EventDecodeError, match="Withdrawn"):
        executor.execute(OnlyDeposits(account=A))


def test_memory_is_bounded_and_forgets_what_was_used_least_recently():
    with eb.open("memory:") as inner:
        names = [f"account-{n}" for n in range(4)]
        inner.append([raw(n, Deposited(Money(1))) for n in names for _ in range(20)])
        store = SyncMeddled(inner)
        executor = eb.Executor(store, remembered_events=60)
        for name in (0, 1, 2, 0, 3, 0, 1):
            executor.execute(Positions(accounts=[names[name]]))
    remembered = [after is not None for _, _, after in store.read]
    assert remembered == [False, False, False, True, False, True, False]


def test_memory_can_be_switched_off(store):
    executor = eb.Executor(store, remembered_events=0)
    for _ in range(2):
        executor.execute(Positions(accounts=[A]))
    assert {after for _, _, after in store.read} == {None}


def test_a_stream_larger_than_the_memory_is_read_all_the_same(store):
    executor = eb.Executor(store, remembered_events=LONG - 1)
    for _ in range(2):
        executor.execute(Positions(accounts=[A]))
        assert len(seen) == LONG


def test_many_threads_may_read_the_same_streams(store):
    executor = eb.Executor(store)
    with ThreadPoolExecutor(8) as pool:
        commands = [Deposit(account=[A, B][n % 2], amount=Money(1)) for n in range(100)]
        list(pool.map(executor.execute, commands))
    executor.execute(Positions(accounts=[A, B]))
    assert seen == list(range(1, 2 * LONG + 101))


def test_events_that_somebody_could_change_are_not_shared():
    @eb.event("test_memory.listed")
    class Listed:
        items: list[int]

    class Lists(eb.Stream[Listed], category="listed"): ...

    class Spoil(eb.Command[int, Listed]):
        stream: eb.Declared[Listed] = eb.stream(Lists)

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            recorded.event.items.append(1)
            return state + len(recorded.event.items)

        def decide(self, state, /):
            eb.require(state == LONG, "spoilt", state=state)
            return ()

    with eb.open("memory:") as store:
        store.append([raw("listed-1", Listed([])) for _ in range(LONG)])
        executor = eb.Executor(store)
        for _ in range(3):
            executor.execute(Spoil(stream="listed-1"))


@dataclasses.dataclass
class Changeable:
    number: int


@eb.value
class Holds:
    inner: Changeable


@eb.value
class Tree:
    children: tuple[Tree, ...] = ()


@eb.register_event("test_memory.struct")
class FrozenStruct(msgspec.Struct, frozen=True):
    number: Money


@pytest.mark.parametrize(
    ("kind", "frozen"),
    [
        (Deposited, True),
        (LimitSet, True),
        (Tree, True),
        (FrozenStruct, True),
        (Changeable, False),
        (Holds, False),
        (object, False),
    ],
)
def test_frozen_classes_are_known(kind, frozen):
    assert is_frozen_class(kind) is frozen


def test_a_memory_ignores_streams_whose_first_events_are_missing():
    memory = EventMemory(1000)
    memory.learn({}, {A: 100}, [])
    assert memory.recall([A]) == {}
