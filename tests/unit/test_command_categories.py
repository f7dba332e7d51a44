"""Commands that decide on all streams of a kind.

The hazard: a phantom. Another writer creates a stream of the kind after the command has
read the others, and the command commits a decision that doesn't include it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.testing import (
    AsyncFaultyStore,
    Conflict,
    FaultyStore,
    UnknownOutcome,
    given,
    on,
)


@eb.event("categories.opened")
class Opened: ...


@eb.event("categories.closed")
class Closed: ...


@eb.event("categories.counted")
class Counted:
    open: int


class Account(eb.Stream[Opened | Closed, bool], category="account"):
    """An account; its state is whether it is open."""

    def initial(self) -> bool:
        return False

    def apply(self, state: bool, event: Opened | Closed, /) -> bool:
        return isinstance(event, Opened)


class Report(eb.Stream[Counted], category="report"): ...


class Open(eb.Command):
    """Opens an account, if fewer than the maximum are open."""

    account: eb.Declared[Account]
    maximum: int

    def discover(self) -> Iterator[type[Account]]:
        yield Account

    def decide(self) -> Iterator[eb.Write]:
        count = sum(one.state for one in self.discovered(Account))
        eb.require(count < self.maximum, "too_many", open=count)
        yield self.account.write(Opened())


class FoldedOpen(eb.StatefulCommand[frozenset[str], Opened | Closed]):
    """The same rule, with a state of the command's own."""

    account: eb.Declared[Account]
    maximum: int

    def initial(self) -> frozenset[str]:
        return frozenset()

    def apply(
        self, state: frozenset[str], recorded: eb.Recorded[Opened | Closed], /
    ) -> frozenset[str]:
        if isinstance(recorded.event, Opened):
            return state | {recorded.stream}
        return state - {recorded.stream}

    def discover(self, state: frozenset[str], /) -> Iterator[type[Account]]:
        yield Account

    def decide(self, state: frozenset[str], /) -> Iterator[eb.Write]:
        assert state == {one for one in self.discovered(Account) if one.state}
        eb.require(len(state) < self.maximum, "too_many", open=len(state))
        yield self.account.write(Opened())


class Close(eb.Command):
    account: eb.Declared[Account]

    def decide(self) -> Iterator[eb.Write]:
        eb.require(self.account.state, "not_open")
        yield self.account.write(Closed())


class Count(eb.Command):
    report: eb.Declared[Report]

    def discover(self) -> Iterator[type[Account]]:
        yield Account

    def decide(self) -> Iterator[eb.Write]:
        count = sum(one.state for one in self.discovered(Account))
        yield self.report.write(Counted(count))


class CloseAll(eb.Command):
    def discover(self) -> Iterator[type[Account]]:
        yield Account

    def decide(self) -> Iterator[eb.Write]:
        for account in self.discovered(Account):
            if account.state:
                yield account.write(Closed())


OPENING = pytest.mark.parametrize("kind", [Open, FoldedOpen])


def opened(*streams: str) -> list[eb.NewEvent]:
    return [eb.new_event(Account(stream), Opened()) for stream in streams]


@OPENING
def test_22_a_stream_created_meanwhile_is_a_conflict(kind):
    """The rival's account is the tenth: the command is decided again, and rejected."""
    with eb.open("memory:") as inner:
        inner.append(opened(*(f"account-{n}" for n in range(9))))
        rival = Conflict(by=opened("account-rival"), at=1)
        store = FaultyStore(inner, rival)
        with pytest.raises(eb.CommandRejected) as rejected:
            eb.Executor(store).execute(kind(account="account-own", maximum=10))
        assert rejected.value.facts == {"open": 10}
        assert inner.version("account-own") == 0
        assert [call.operation for call in store.calls].count("append") == 1


@OPENING
def test_22_a_stream_of_another_category_is_no_conflict(kind):
    with eb.open("memory:") as inner:
        rival = [eb.NewEvent("accounts-1", "x", b"{}"), *opened()]
        store = FaultyStore(inner, Conflict(by=rival, at=1))
        done = eb.Executor(store).execute(kind(account="account-own", maximum=1))
        assert done.attempts == 1


@OPENING
def test_22_an_event_of_a_discovered_stream_is_a_conflict(kind):
    with eb.open("memory:") as inner:
        inner.append(opened("account-1"))
        rival = [eb.new_event(Account("account-1"), Closed())]
        store = FaultyStore(inner, Conflict(by=rival, at=1))
        done = eb.Executor(store).execute(kind(account="account-own", maximum=2))
        assert done.attempts == 2


@OPENING
@pytest.mark.anyio
async def test_22_the_asynchronous_executor_expects_the_category_too(kind):
    async with eb.open_async("memory:") as inner:
        rival = Conflict(by=opened("account-rival"), at=1)
        store = AsyncFaultyStore(inner, rival)
        executor = eb.AsyncExecutor(store)
        done = await executor.execute(kind(account="account-own", maximum=2))
        assert done.attempts == 2
        found = await inner.category_streams(Account)
        assert found.streams == ("account-rival", "account-own")


def test_22_a_command_that_writes_nothing_checks_the_category():
    with eb.open("memory:") as inner:
        store = FaultyStore(inner, Conflict(by=opened("account-rival"), at=1))
        done = eb.Executor(store).execute(CloseAll())
        assert done.attempts == 2
        assert inner.version("account-rival") == 2


def test_22_a_conflict_without_a_cause_is_retried():
    with eb.open("memory:") as inner:
        store = FaultyStore(inner, Conflict(at=[1, 2]))
        done = eb.Executor(store).execute(CloseAll())
        assert done.attempts == 3


@OPENING
def test_22_a_rejection_on_a_former_set_of_streams_is_decided_again(kind):
    """The cached states are older than the log: another session has closed all."""
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        for number in range(3):
            executor.execute(kind(account=f"account-{number}", maximum=3))
        store.append(
            [eb.new_event(Account(f"account-{n}"), Closed()) for n in range(3)]
        )
        assert executor.execute(kind(account="account-9", maximum=1)).events
        with pytest.raises(eb.CommandRejected):
            executor.execute(kind(account="account-8", maximum=1))


def test_23_discovery_reads_only_the_streams_that_are_new():
    """A process reads the ids of a category once, and then only the later ones."""
    with eb.open("memory:") as inner:
        inner.append(opened(*(f"account-{n}" for n in range(50))))
        store = FaultyStore(inner)
        executor = eb.Executor(store)
        for number in range(3):
            executor.execute(Open(account=f"account-x{number}", maximum=100))
        reads = [c.arguments for c in store.calls if c.operation == "category_streams"]
        assert [read["after"] for read in reads] == [0, 50, 51]


@pytest.mark.parametrize("kind", [Open, FoldedOpen])
def test_23_the_streams_of_a_category_are_bounded(kind):
    with eb.open("memory:") as store:
        store.append(opened(*(f"account-{n}" for n in range(21))))
        executor = eb.Executor(store, discovery_streams=20)
        with pytest.raises(eb.errors.DiscoveryLimit) as limited:
            executor.execute(kind(account="account-own", maximum=100))
        error = limited.value
        assert (error.what, error.limit, error.actual) == (
            "streams of the category 'account'",
            20,
            21,
        )
        assert "summarises" in str(error)
        assert "discovery_streams" in str(error)
        wider = eb.Executor(store, discovery_streams=21)
        wider.execute(kind(account="account-0", maximum=100))
        # The wider executor has cached more streams than the other one may discover.
        with pytest.raises(eb.errors.DiscoveryLimit):
            executor.execute(kind(account="account-own", maximum=100))


class Requests(eb.Command):
    """Returns what it gets as a field, and asks for the handles of a kind."""

    requested: object
    asked: object = Account

    def discover(self) -> Iterator[Any]:
        yield self.requested

    def decide(self) -> tuple[()]:
        asked: Any = self.asked
        self.discovered(asked)
        return ()


@pytest.mark.parametrize(
    ("requested", "remedy"),
    [
        (eb.Stream, "has no category"),
        (int, "the kind itself for all its streams"),
        ("account", "the kind itself for all its streams"),
        (None, "the kind itself for all its streams"),
    ],
)
def test_23_what_is_no_stream_and_no_kind_is_refused(requested, remedy):
    with eb.open("memory:") as store:
        with pytest.raises(eb.errors.InvalidArgument, match=remedy):
            eb.Executor(store).execute(Requests(requested=requested))
        assert store.head() == 0


def test_23_handles_of_a_kind_that_was_not_discovered_are_refused():
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        command = Requests(requested=Account, asked=Report)
        with pytest.raises(eb.errors.InvalidArgument, match="discover"):
            executor.execute(command)
        assert executor.execute(Requests(requested=Account)).attempts == 1
    with pytest.raises(eb.errors.InvalidArgument, match="during an execution"):
        Open(account="account-1", maximum=1).discovered(Account)


def test_23_a_handle_of_a_kind_is_found_by_its_id():
    class CloseOne(CloseAll):
        wanted: str

        def decide(self) -> Iterator[eb.Write]:
            yield self.discovered(Account).of(self.wanted).write(Closed())

    with eb.open("memory:") as store:
        store.append(opened(*(f"account-{n}" for n in range(20))))
        executor = eb.Executor(store)
        done = executor.execute(CloseOne(wanted="account-7"))
        assert dict(done.versions) == {"account-7": 2}
        with pytest.raises(eb.errors.InvalidArgument, match="and 12 more"):
            executor.execute(CloseOne(wanted="account-77"))


def test_25_a_keyed_command_on_a_category_is_executed_once():
    with eb.open("memory:") as inner:
        store = FaultyStore(inner, UnknownOutcome(committed=True, at=1))
        executor = eb.Executor(store)
        command = Open(account="account-own", maximum=1)
        done = executor.execute(command, idempotency_key="k")
        assert done.replayed
        assert executor.execute(command, idempotency_key="k").replayed
        assert inner.category_streams(Account).version == 1


def test_a_conflict_on_a_category_of_another_store_is_raised():
    class Elsewhere(eb.Command):
        report: eb.Declared[Report]

        def decide(self) -> Iterator[eb.Write]:
            raise eb.VersionConflict(
                [], [eb.errors.ConflictedCategory("account", 1, 2)]
            )
            yield

    with eb.open("memory:") as store, pytest.raises(eb.VersionConflict):
        eb.Executor(store).execute(Elsewhere(report="report-1"))


@OPENING
def test_24_threads_never_open_more_accounts_than_allowed(kind):
    """All threads have read the same accounts before the first of them appends."""
    threads, maximum = 6, 20
    line = threading.Barrier(threads)
    with eb.open("memory:") as store:
        executor = eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=100))
        outcomes: list[bool] = []

        def work(thread: int) -> None:
            line.wait()
            for number in range(10):
                command = kind(account=f"account-{thread}-{number}", maximum=maximum)
                try:
                    executor.execute(command)
                except eb.CommandRejected:
                    outcomes.append(False)
                else:
                    outcomes.append(True)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert (len(outcomes), outcomes.count(True)) == (threads * 10, maximum)
        assert store.category_streams(Account).version == maximum


@OPENING
@pytest.mark.anyio
async def test_24_tasks_never_open_more_accounts_than_allowed(kind):
    maximum = 20
    async with eb.open_async("memory:") as store:
        executor = eb.AsyncExecutor(store, retry=eb.RetryPolicy(maximum_attempts=100))
        outcomes: list[bool] = []

        async def work(number: int) -> None:
            try:
                await executor.execute(kind(account=f"account-{number}", maximum=20))
            except eb.CommandRejected:
                outcomes.append(False)
            else:
                outcomes.append(True)

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(work, number)
        assert (len(outcomes), outcomes.count(True)) == (60, maximum)


@pytest.mark.timeout(120)
def test_24_a_command_on_a_category_does_not_starve_beside_a_creator(tmp_path):
    """Another session creates accounts without a pause: the category is reserved."""
    with eb.open(tmp_path / "store") as store, eb.open(tmp_path / "store") as rival:
        ended = threading.Event()

        def create() -> None:
            number = 0
            while not ended.is_set():
                rival.append(opened(f"account-rival-{number}"))
                number += 1

        creator = threading.Thread(target=create)
        creator.start()
        try:
            executor = eb.Executor(store, discovery_streams=9_000)
            attempts = [
                executor.execute(Count(report="report-1")).attempts for _ in range(5)
            ]
        finally:
            ended.set()
            creator.join()
        assert max(attempts) <= 10
        counts = [one.event.open for one in store.read_stream(Report("report-1"))]
        assert counts == sorted(counts)


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([Open, FoldedOpen]), st.integers(0, 7)),
        st.tuples(st.just(Close), st.integers(0, 7)),
        st.tuples(st.sampled_from([CloseAll, "open", "close"]), st.integers(0, 7)),
    ),
    max_size=25,
)


@drawn(steps=steps, maximum=st.integers(1, 4), sessions=st.data())
def test_commands_of_two_executors_decide_like_one_after_the_other(
    steps, maximum, sessions
):
    """Each executor has a cache of its own, which doesn't see the other's commits."""
    with eb.open("memory:") as store:
        executors = [
            eb.Executor(Uncoordinated(store), discovery_streams=8) for _ in range(2)
        ]
        is_open: dict[str, bool] = {}
        for kind, number in steps:
            stream = f"account-{number}"
            if isinstance(kind, str):
                event = Opened() if kind == "open" else Closed()
                store.append([eb.new_event(Account(stream), event)])
                is_open[stream] = kind == "open"
                continue
            executor = sessions.draw(st.sampled_from(executors))
            count = sum(is_open.values())
            if kind is CloseAll:
                done = executor.execute(CloseAll())
                assert len(done.events) == count
                is_open = dict.fromkeys(is_open, False)
            elif kind is Close:
                attempt = partial(executor.execute, Close(account=stream))
                assert accepted(attempt) is is_open.get(stream, False)
                if is_open.get(stream):
                    is_open[stream] = False
            else:
                command = kind(account=stream, maximum=maximum)
                attempt = partial(executor.execute, command)
                assert accepted(attempt) is (count < maximum)
                if count < maximum:
                    is_open[stream] = True
        assert {*store.category_streams(Account).streams} == {*is_open}


class Uncoordinated:
    """A store of its own to the executors, so that they share no cache."""

    def __init__(self, store: eb.EventStore) -> None:
        self.append = store.append
        self.committed = store.committed
        self.read_streams = store.read_streams
        self.read_all = store.read_all
        self.category_streams = store.category_streams


def accepted(attempt) -> bool:
    try:
        attempt()
    except eb.CommandRejected:
        return False
    return True


def test_the_test_kit_discovers_categories():
    before = given(
        on(Account("account-2"), Opened()),
        on(Account("account-1"), Opened()),
        on(Account("account-3"), Opened(), Closed()),
    )
    before.when(Open(account="account-9", maximum=3)).then(
        on(Account("account-9"), Opened())
    ).state(Account("account-9"), True)
    before.when(Open(account="account-9", maximum=2)).rejected("too_many", open=2)
    before.when(FoldedOpen(account="account-9", maximum=2)).rejected("too_many")
    before.when(CloseAll()).then(
        on(Account("account-2"), Closed()), on(Account("account-1"), Closed())
    )
    given().when(CloseAll()).then()
    keyed = before.when(Open(account="account-9", maximum=3), idempotency_key="k")
    keyed.when(Open(account="account-9", maximum=3), idempotency_key="k").replayed()
