"""Retries of commands: the queues after a conflict, and races between threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import anyio
import anyio.to_thread
import pytest

import eventbraid as eb
from eventbraid.command import _immutable
from eventbraid.command._immutable import is_immutable
from eventbraid.command._queue import (
    TURN_SECONDS,
    Hold,
    Place,
    StreamQueues,
    Turns,
    queues_of,
)
from tests.commands import (
    Account,
    AccountEvent,
    Deposit,
    Deposited,
    Money,
    SyncMeddled,
)

A, B = "account-a", "account-b"
ONE = Deposit(account=A, amount=Money(1))
MS = timedelta(milliseconds=1)


class Claim(eb.StatefulCommand[int, AccountEvent]):
    """Writes one account after a look at all the others."""

    written: eb.Declared[Account]
    checked: eb.DeclaredMany[Account]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + 1

    def decide(self, state, /):
        eb.require(state == 0, "taken")
        yield self.written.write(Deposited(Money(1)))


# --- states that can be used again ---------------------------------------------------


@eb.value_object
class Frozen:
    inner: object = None


def test_what_cannot_have_changed_is_known():
    fine = [1, "a", None, 1.5, b"x", Money(3), (1, "a"), frozenset({1}), timedelta(1)]
    for value in [*fine, Frozen(), Frozen(tuple(fine)), Frozen(Frozen(1))]:
        assert is_immutable(value), value


def test_what_may_have_changed_is_not_trusted():
    class Sub(tuple):  # noqa: SLOT001 - the dictionary is the point
        ...

    marked = Frozen()
    object.__setattr__(marked, "cached", [1])
    for value in [
        [],
        {},
        set(),
        ([],),
        Frozen([]),
        Frozen(([],)),
        Sub(),
        object(),
        marked,
    ]:
        assert not is_immutable(value), value


def test_parts_that_are_known_to_be_immutable_are_not_examined_again(monkeypatch):
    """A large state is examined after each event, so only what is new may count."""
    before = Frozen(tuple(Frozen(number) for number in range(10_000)))
    assert is_immutable(before)
    members = before.inner
    changed = (Frozen(-1), *members[5:])
    examined = []
    examine = _immutable._parts
    monkeypatch.setattr(
        _immutable,
        "_parts",
        lambda value, same: examined.append(value) or examine(value, same),
    )
    for after in [
        Frozen((*members, Frozen(0))),
        Frozen((*members[:500], Frozen(0), *members[501:])),
        Frozen(members[:-1]),
        Frozen(changed),
        Frozen(frozenset(members)),
    ]:
        known = before if isinstance(after.inner, tuple) else Frozen(frozenset(members))
        assert is_immutable(after, known)
        assert len(examined) < 5
        examined.clear()


def test_a_mutable_part_is_found_next_to_known_ones():
    members = tuple(Frozen(number) for number in range(100))
    known = Frozen(members)
    for position in (0, 50, 99):
        changed = list(members)
        changed[position] = Frozen([])
        assert not is_immutable(Frozen(tuple(changed)), known)
    assert not is_immutable(Frozen((*members, [])), known)
    assert not is_immutable(Frozen(([], *reversed(members))), known)
    assert not is_immutable([], known)
    assert not is_immutable(Frozen(Frozen([])), known)
    assert is_immutable(known, known)


# --- queues --------------------------------------------------------------------------


class Noted:
    """A waiter that notes how often it was woken."""

    blocked: tuple[object, ...] = ()

    def __init__(self, runner: object = None, *, urgent: bool = False) -> None:
        self.runner = runner or object()
        self.is_urgent = urgent
        self.woken = 0
        self.runs = True

    def can_run(self) -> bool:
        return self.runs

    def wake(self) -> bool:
        self.woken += 1
        return self.runs

    async def wait(self, seconds: float) -> bool:
        return bool(self.woken)


def place(waiter: Noted | None = None, *, writes: bool = True) -> Place:
    return Place(waiter or Noted(), writes, Hold())


def queued(*writes: bool) -> tuple[StreamQueues, list[Place], list[bool]]:
    """A queue of commands that write or only read, and which have a turn at once."""
    queues, places = StreamQueues(), [place(writes=wants) for wants in writes]
    return queues, places, [not queues.join(A, one, 0.0) for one in places]


def woken(places: list[Place]) -> list[int]:
    return [one.waiter.woken for one in places]


def test_a_queue_is_first_come_first_served():
    queues, places, turns = queued(True, True, True)
    assert turns == [True, False, False]
    assert queues.contended([B, A]) == [A]
    queues.leave(A, places[0], 0.0)
    assert woken(places) == [0, 1, 0]
    queues.leave(A, places[1], 0.0)
    queues.leave(A, places[2], 0.0)
    assert queues.contended([A]) == []


def test_a_command_that_leaves_early_wakes_none_but_its_turn_is_passed_on():
    queues, places, _ = queued(True, True, True)
    queues.leave(A, places[1], 0.0)
    assert woken(places) == [0, 0, 0]
    queues.leave(A, places[0], 0.0)
    assert woken(places) == [0, 0, 1]
    queues.leave(A, places[0], 0.0)


def test_commands_that_only_read_share_their_turn():
    queues, places, turns = queued(False, False, True, False, False)
    assert turns == [True, True, False, False, False]
    queues.leave(A, places[0], 0.0)
    assert woken(places) == [0, 0, 0, 0, 0]
    queues.leave(A, places[1], 0.0)
    assert woken(places) == [0, 0, 1, 0, 0]
    queues.leave(A, places[2], 0.0)
    assert woken(places) == [0, 0, 1, 1, 1]


def test_readers_after_a_writer_that_gave_up_need_not_wait():
    queues, places, turns = queued(False, True, False)
    assert turns == [True, False, False]
    queues.leave(A, places[1], 0.0)
    assert woken(places) == [0, 0, 1]


def test_newcomers_do_not_queue_for_a_stream_that_others_only_read():
    """Or one change of a stream that all commands read would make all of them queue."""
    queues, places, _ = queued(False, False)
    assert queues.contended([A]) == []
    queues.join(A, place(), 0.0)
    assert queues.contended([A]) == [A]
    queues.leave(A, places[0], 0.0)


def test_a_turn_whose_holder_is_late_goes_to_the_next():
    queues, places, _ = queued(True, True)
    places[0].hold.expires_at = 1.0
    assert queues.check(A, places[1], 0.9)
    assert woken(places) == [0, 0]
    assert queues.check(A, places[1], 1.0)
    assert woken(places) == [1, 1]
    queues.leave(A, places[0], 1.0)
    assert woken(places) == [1, 1], "the turn is the next one's"


def test_a_turn_whose_event_loop_is_gone_goes_to_the_next_at_once():
    queues, places, _ = queued(True, True, True)
    places[0].waiter.runs = False
    newcomer = place()
    assert queues.join(A, newcomer, 0.0)
    assert woken(places) == [0, 1, 0]
    places[2].waiter.runs = False
    queues.leave(A, places[1], 0.0)
    assert woken([*places, newcomer]) == [0, 1, 1, 1]


def test_an_event_loop_that_hangs_is_waited_for_once_not_for_each_of_its_commands():
    queues, loop = StreamQueues(), object()
    hung = [place(Noted(loop)) for _ in range(100)]
    for one in hung:
        queues.join(A, one, 0.0)
    last = place()
    queues.join(A, last, 0.0)
    queues.leave(A, hung[0], 0.0)
    assert hung[1].waiter.woken, "and it doesn't run"
    assert queues.check(A, last, TURN_SECONDS)
    assert last.waiter.woken == 1
    assert not queues.check(A, hung[50], TURN_SECONDS), "it needn't wait any more"


def test_a_command_that_blocks_the_holder_of_the_turn_does_not_wait_for_it():
    queues, loop = StreamQueues(), object()
    queues.join(A, place(Noted(loop)), 0.0)
    beside = Noted(urgent=True)
    beside.blocked = (loop,)
    assert not queues.join(A, place(beside), 0.0)


def test_a_command_that_blocks_an_event_loop_is_the_next():
    queues, places, _ = queued(True, True, True)
    urgent = place(Noted(urgent=True))
    assert queues.join(A, urgent, 0.0)
    queues.leave(A, places[0], 0.0)
    assert woken([*places, urgent]) == [0, 0, 0, 1]


@pytest.mark.anyio
async def test_turns_are_taken_in_the_order_of_names_and_given_back():
    class World:
        def waiter(self):
            return Noted()

        def now(self):
            return 0.0

    class Watched(StreamQueues):
        joined: list[tuple[str, bool]]

        def join(self, stream, place, now):
            self.joined.append((stream, place.writes))
            return super().join(stream, place, now)

    queues = Watched()
    queues.joined = []
    turns = Turns(queues, World())
    await turns.take({"c": True, "a": True, "b": False}, 1.0)
    assert queues.joined == [("a", True), ("b", False), ("c", True)]
    turns.give_back()
    assert queues.contended(["a", "b", "c"]) == []


def test_all_executors_of_a_store_share_its_queues():
    with eb.open("memory:") as store, eb.open("memory:") as other:
        assert queues_of(store.coordination) is queues_of(store.coordination)
        assert queues_of(store.coordination) is not queues_of(other.coordination)


# --- many at once --------------------------------------------------------------------


def test_threads_that_race_for_a_stream_all_get_through():
    with eb.open("memory:") as store, ThreadPoolExecutor(16) as pool:
        executor = eb.Executor(store)
        done = list(pool.map(lambda _: executor.execute(ONE), range(200)))
        assert store.version(A) == 200
        assert sorted(one.versions[A] for one in done) == list(range(1, 201))
        assert queues_of(store.coordination).get().contended([A]) == []


@pytest.mark.anyio
async def test_tasks_that_race_for_a_stream_all_get_through():
    async with eb.open_async("memory:") as store:
        executor = eb.AsyncExecutor(store)
        versions: list[int] = []

        async def deposit() -> None:
            versions.append((await executor.execute(ONE)).versions[A])

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(deposit)
        assert sorted(versions) == list(range(1, 101))
        assert queues_of(store.coordination).get().contended([A]) == []


@pytest.mark.anyio
async def test_commands_that_conflicted_wait_for_their_turn():
    """Without the queue, a slow command would lose to the quick ones again and again."""
    async with eb.open_async("memory:") as store:
        slow = SlowAppends(store)
        executor = eb.AsyncExecutor(slow, retry=eb.RetryPolicy(maximum_attempts=4))
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(executor.execute, ONE)
        assert await store.version(A) == 30
        assert slow.conflicts < 60


class SlowAppends:
    """Lets other writers append between read and append."""

    def __init__(self, store: eb.AsyncEventStore) -> None:
        self._store = store
        self.conflicts = 0
        self.committed = store.committed
        self.read_streams = store.read_streams
        self.read_all = store.read_all

    async def append(self, events, **options):
        await anyio.sleep(0.001)
        try:
            return await self._store.append(events, **options)
        except eb.VersionConflict:
            self.conflicts += 1
            raise


@pytest.mark.anyio
async def test_a_cancelled_command_leaves_the_queue():
    async with eb.open_async("memory:") as store:
        queues, first = queues_of(store.coordination).get(), place()
        queues.join(A, first, 0.0)
        with anyio.move_on_after(0.05) as scope:
            await eb.AsyncExecutor(store).execute(ONE)
        assert scope.cancelled_caught
        queues.leave(A, first, 0.0)
        assert queues.contended([A]) == []
        assert (await eb.AsyncExecutor(store).execute(ONE)).attempts == 1


@pytest.mark.anyio
async def test_a_deadline_ends_the_wait_for_a_turn():
    async with eb.open_async("memory:") as store:
        queues, holder = queues_of(store.coordination).get(), place()
        queues.join(A, holder, 0.0)
        with pytest.raises(eb.errors.DeadlineExceeded):
            await eb.AsyncExecutor(store).execute(ONE, deadline=20 * MS)
        assert await store.version(A) == 0
        queues.leave(A, holder, 0.0)


@pytest.mark.anyio
async def test_a_turn_can_be_passed_on_from_another_thread():
    async with eb.open_async("memory:") as store:
        queues, holder = queues_of(store.coordination).get(), place()
        queues.join(A, holder, 0.0)

        async def release() -> None:
            await anyio.sleep(0.02)
            await anyio.to_thread.run_sync(queues.leave, A, holder, 0.0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release)
            with anyio.fail_after(60):
                await eb.AsyncExecutor(store).execute(ONE)
        assert await store.version(A) == 1


def test_a_thread_that_waits_is_woken():
    with eb.open("memory:") as store:
        queues, holder = queues_of(store.coordination).get(), place()
        queues.join(A, holder, 0.0)
        timer = threading.Timer(0.02, queues.leave, (A, holder, 0.0))
        timer.start()
        assert eb.Executor(store).execute(ONE).attempts == 1
        timer.join()


def test_several_loops_in_several_threads_share_the_queues():
    async def deposits(store: eb.AsyncEventStore) -> None:
        executor = eb.AsyncExecutor(SlowAppends(store))
        await asyncio.gather(*(executor.execute(ONE) for _ in range(10)))

    async def main() -> None:
        async with eb.open_async("memory:") as store:
            await asyncio.gather(
                *(asyncio.to_thread(asyncio.run, deposits(store)) for _ in range(3))
            )
            assert await store.version(A) == 30

    asyncio.run(main())


# --- true races: everybody has read before anybody appends ---------------------------


class AtTheBarrier(SyncMeddled):
    """Holds the first append of each thread until all threads have read."""

    def __init__(self, inner: eb.EventStore, threads: int) -> None:
        super().__init__(inner)
        self._barrier = threading.Barrier(threads)
        self._arrived: set[int] = set()

    def append(self, events, **options):
        if threading.get_ident() not in self._arrived:
            self._arrived.add(threading.get_ident())
            self._barrier.wait(60)
        return self.inner.append(events, **options)


def race(store: eb.EventStore, commands: list[eb.Command]) -> list[object]:
    executor = eb.Executor(
        AtTheBarrier(store, len(commands)), retry=eb.RetryPolicy(maximum_attempts=1)
    )

    def execute(command: eb.Command) -> object:
        try:
            return executor.execute(command)
        except eb.errors.RetriesExhausted as lost:
            return lost

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(execute, commands))


@pytest.mark.parametrize("threads", [2, 8])
def test_of_those_who_write_one_stream_exactly_one_wins(threads):
    with eb.open("memory:") as store:
        for number in range(10):
            answers = race(store, [ONE] * threads)
            winners = [one for one in answers if isinstance(one, eb.Executed)]
            assert len(winners) == 1
            assert store.version(A) == number + 1


@pytest.mark.parametrize("threads", [2, 8])
def test_of_those_who_write_what_the_others_check_exactly_one_wins(threads):
    """Write skew: no stream is written twice, and still only one may win."""
    for _ in range(10):
        with eb.open("memory:") as store:
            names = [f"account-{n}" for n in range(threads)]
            answers = race(store, [Claim(written=n, checked=names) for n in names])
            winners = [one for one in answers if isinstance(one, eb.Executed)]
            assert len(winners) == 1
            assert [store.version(name) for name in winners[0].versions] == [1]
            assert store.head() == 1


def test_races_with_retries_lose_nothing():
    with eb.open("memory:") as store:
        executor = eb.Executor(AtTheBarrier(store, 4))
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(executor.execute, [ONE] * 4))
        assert sorted(one.versions[A] for one in done) == [1, 2, 3, 4]
