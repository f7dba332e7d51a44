"""Long streams are decoded once; what is remembered never shows in what is decided."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import sys
import tracemalloc
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

import eventbraid as eb
from eventbraid.command._memory import MINIMUM_STREAM_LENGTH, EventMemory
from eventbraid.command._shared_state import folds_without_fields
from eventbraid.event._decoder import EventDecoder
from eventbraid.event._frozen import is_frozen_class
from eventbraid.event._registry import default_registry
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
    Transfer,
    Withdrawn,
    raw,
)

A, B, GROUP = "account-a", "account-b", "group-1"
LONG = 40


class Positions(eb.StatefulCommand[list[int], AccountEvent]):
    """Decides on nothing; its state is the positions in the order of the fold."""

    accounts: eb.DeclaredMany[Account]

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

    class OnlyDeposits(eb.StatefulCommand[None, Deposited]):
        account: eb.Declared[Narrow]

        def initial(self): ...
        def apply(self, state, recorded, /): ...
        def decide(self, state, /):
            return ()

    executor = eb.Executor(store)
    executor.execute(OnlyDeposits(account=A))
    store.inner.append([raw(A, Withdrawn(Money(1)))])
    executor.execute(Positions(accounts=[A]))
    with pytest.raises(eb.errors.EventDecodeError, match="Withdrawn"):
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

    class Spoil(eb.StatefulCommand[int, Listed]):
        stream: eb.Declared[Lists]

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


@eb.value_object
class Holds:
    inner: Changeable


@eb.value_object
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
    generation = default_registry.generation
    memory = EventMemory(1000, 2**20, default_registry)
    with eb.open("memory:") as store:
        store.append([raw(A, Deposited(Money(1))) for _ in range(LONG)])
        events = [*EventDecoder().decode_all(store.read_stream(A, after=20))]
    memory.add({A: 20}, {A: LONG}, events, generation)
    assert memory.find([A]) == {}


def test_memory_is_bounded_by_the_bytes_that_it_keeps_alive():
    @eb.event("test_memory.noted")
    class Noted:
        text: str

    class Notes(eb.Stream[Noted], category="notes"): ...

    class Read(eb.StatefulCommand[int, Noted]):
        notes: eb.DeclaredMany[Notes]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + 1

        def decide(self, state, /):
            return ()

    bound = 2**20
    with eb.open("memory:") as store:
        executor = eb.Executor(store, remembered_bytes=bound)
        memory = executor._engine._memory.get()
        large = [raw("notes-large", Noted("x" * 10_000)) for _ in range(100)]
        small = [raw("notes-small", Noted("x")) for _ in range(100)]
        store.append([*large, *small])
        for stream in ("notes-large", "notes-small"):
            executor.execute(Read(notes=[stream]))
            assert 0 < memory.size <= bound
        # Of the large one there is only a beginning, which serves all the same.
        tracemalloc.start()
        executor.execute(Read(notes=["notes-large"]))
        [remembered] = memory.find(["notes-large"]).values()
        assert 10 < len(remembered.events) < 100
        assert tracemalloc.get_traced_memory()[0] < bound
        tracemalloc.stop()
        assert executor.execute(Read(notes=["notes-large"])).attempts == 1


def test_the_beginning_of_a_stream_is_remembered_where_the_whole_has_no_room(store):
    executor = eb.Executor(store, remembered_events=LONG - 1)
    for _ in range(2):
        executor.execute(Positions(accounts=[A]))
        assert seen == list(range(1, 2 * LONG + 1, 2))
    assert store.read[-1] == ([A], None, {A: LONG - 1})


def defined_again() -> type:
    """Run a notebook's cell, which defines an event, its stream and a command."""
    cell = """
import eventbraid as eb

@eb.event("test_memory.cell")
class Happened:
    number: int

class Happenings(eb.Stream[Happened], category="happening"): ...

class Count(eb.StatefulCommand[int, Happened]):
    stream: eb.Declared[Happenings]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        assert type(recorded.event) is Happened
        return state + 1

    def decide(self, state, /):
        yield self.stream.write(Happened(state))
"""
    notebook = sys.modules.setdefault("notebook", types.ModuleType("notebook"))
    exec(compile(cell, "cell", "exec", dont_inherit=True), vars(notebook))
    kind = notebook.Count
    assert isinstance(kind, type)
    return kind


@pytest.mark.parametrize("length", [1, 15, 16, 17, 100])
def test_decoded_events_belong_to_the_class_that_is_registered_now(length):
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        for number in range(3):
            command = defined_again()(stream="happening-1")
            for _ in range(length):
                executor.execute(command)
            assert store.version("happening-1") == (number + 1) * length


def test_a_class_that_is_defined_again_during_a_conflict_costs_nothing_but_time():
    """What was decoded before is read and decoded again, and nothing counts twice."""

    class Meddling(Deposit):
        def decide(self, state, /):
            states.append(state)
            if state < LONG + 2:
                store.append([raw(A, Deposited(Money(1)))])
                defined_again()
            return super().decide(state)

    states: list[int] = []
    defined_again()
    with eb.open("memory:") as store:
        store.append([raw(A, Deposited(Money(1))) for _ in range(LONG)])
        executor = eb.Executor(store)
        assert executor.execute(Meddling(account=A, amount=Money(1))).attempts == 3
        assert states == [LONG, LONG + 1, LONG + 2]


class AllReadBeforeOneAppends:
    """Delays the first appends until a number of commands have reached them."""

    def __init__(self, inner: eb.AsyncEventStore, commands: int) -> None:
        self._inner = inner
        self._left = commands
        self._all_have_read = asyncio.Event()
        self.committed = inner.committed
        self.read_streams = inner.read_streams
        self.read_all = inner.read_all

    async def append(self, events, **options):
        self._left -= 1
        if not self._left:
            self._all_have_read.set()
        await self._all_have_read.wait()
        return await self._inner.append(events, **options)


def herd(commands: list[Deposit]) -> None:
    """Execute commands that conflict with each other, all at once."""

    async def main() -> None:
        async with eb.open_async("memory:") as store:
            executor = eb.AsyncExecutor(AllReadBeforeOneAppends(store, len(commands)))
            async with asyncio.timeout(30):
                await asyncio.gather(*map(executor.execute, commands))
            assert await store.version(A) == len(commands)

    asyncio.run(main())


def test_what_others_wrote_is_decoded_once_for_all_commands_that_wait(monkeypatch):
    decodings = []

    class CountingDecoder(EventDecoder):
        def pair(self, recorded):
            decodings.append(recorded.position)
            return super().pair(recorded)

    monkeypatch.setattr(
        "eventbraid.command._executor_base.EventDecoder", CountingDecoder
    )
    herd([Uses(account=A, amount=Money(1)) for _ in range(300)])
    # The first ones of a stream are decoded again while it is short.
    assert len(decodings) < 300 + MINIMUM_STREAM_LENGTH**2


def test_what_others_wrote_is_folded_once_for_all_commands_that_wait():
    class Counting(Deposit):
        def apply(self, state, recorded, /):
            folded.append(recorded.version)
            return state + 1

    folded: list[int] = []
    herd([Counting(account=A, amount=Money(n)) for n in range(300)])
    assert len(folded) < 2 * 300


class Uses(Deposit):
    """Its state depends on a field."""

    def apply(self, state, recorded, /):
        return state + int(self.amount)


class UsesInside(Deposit):
    def apply(self, state, recorded, /):
        return sum(int(self.amount) for _ in range(state))


class UsesBase(Deposit):
    def apply(self, state, recorded, /):
        return super().apply(state, recorded)


class UsesLocals(Deposit):
    def apply(self, state, recorded, /):
        return state + int(locals()["self"].amount)


class UsesInInitial(Deposit):
    def initial(self):
        return int(self.amount)


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        (Deposit, True),
        (Positions, True),
        (Uses, False),
        (UsesInside, False),
        (UsesBase, False),
        (UsesLocals, False),
        (UsesInInitial, False),
    ],
)
def test_states_are_shared_only_where_no_field_counts(kind, shared):
    assert folds_without_fields(kind) is shared


def test_commands_whose_states_depend_on_their_fields_decide_on_their_own():
    class Sums(Uses):
        def decide(self, state, /):
            eb.require(state % int(self.amount) == 0, "foreign", state=state)
            return super().decide(state)

    herd([Sums(account=A, amount=Money(n % 7 + 1)) for n in range(100)])


def test_a_state_that_becomes_mutable_on_the_way_is_folded_from_all_events(store):
    """Nothing of the events is kept for a state that can't have changed, at first."""

    class Collects(eb.StatefulCommand[tuple[int, ...] | list[int], AccountEvent]):
        account: eb.Declared[Account]

        def initial(self):
            return ()

        def apply(self, state, recorded, /):
            if isinstance(state, tuple) and len(state) < 3:
                return (*state, recorded.version)
            return [*state, recorded.version]

        def decide(self, state, /):
            states.append(list(state))
            if len(states) < 5:
                store.inner.append([raw("account-c", Deposited(Money(1)))])
            if isinstance(state, list):
                state.clear()
            yield self.account.write(Deposited(Money(1)))

    states: list[list[int]] = []
    store.inner.append([raw("account-c", Deposited(Money(1)))])
    done = eb.Executor(store).execute(Collects(account="account-c"))
    assert states == [list(range(1, n + 2)) for n in range(5)]
    assert done.attempts == 5


# --- what an execution leaves behind ---------------------------------------------------


@pytest.fixture
def collector_off():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("conflicts", [0, 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Deposit(account=A, amount=Money(1)),
        lambda: PayAll(group=GROUP, amount=Money(1)),
        lambda: Transfer(source=A, target=B, limit="limit-eu", amount=Money(10_000)),
    ],
    ids=["declared", "discovered", "rejected"],
)
def test_an_executed_command_is_freed_without_the_garbage_collector(
    store, make, conflicts
):
    store.inner.append([raw(GROUP, Joined(A))])
    store.before.extend([[raw(A, Deposited(Money(1)))]] * conflicts)
    executor = eb.Executor(store)
    command = make()
    freed = weakref.ref(command)
    with contextlib.suppress(eb.CommandRejected):
        executor.execute(command)
    del command
    assert freed() is None


@pytest.mark.usefixtures("collector_off")
def test_a_command_with_lost_answers_is_freed_without_the_garbage_collector(store):
    command = Deposit(account=A, amount=Money(1))
    freed = weakref.ref(command)
    store.failing = 1
    eb.Executor(store).execute(command, idempotency_key="key")
    del command
    assert freed() is None
