"""Several processes with one store open: each sees what all do, as one of them would.

The hazards: an event that one process shows and another doesn't, a version that two
processes both believe to be theirs, a key that counts in one process only, a subscriber
who sleeps through another's commit, and a death that the others don't survive.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import eventbraid as eb
from eventbraid.store._current_port import current_port
from tests.commands import Deposit, Money
from tests.peers import peer, peers

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def location(tmp_path):
    return tmp_path / "store.braid"


@pytest.fixture
def store(location):
    with eb.open(location) as opened:
        yield opened


def data(events):
    return [recorded.data for recorded in events]


# --- reading and writing


def test_each_reads_what_the_other_appends(store, location):
    store.append([("a", "x", b"1")])
    with peer(location) as other:
        assert other.ask("[r.data for r in store.read_all()]") == [b"1"]
        assert other.append("a", b"2") == 2
        assert store.append([("a", "x", b"3"), ("b", "x", b"4")]).versions == {
            "a": 3,
            "b": 1,
        }
        assert other.append("b", b"5") == 5
        assert data(store.read_all()) == [b"1", b"2", b"3", b"4", b"5"]
        assert data(store.read_stream("b", backward=True)) == [b"5", b"4"]
        assert other.ask("[r.data for r in store.read_stream('a')]") == [
            b"1",
            b"2",
            b"3",
        ]
        assert store.head() == other.ask("store.head()") == 5
        assert store.version("b") == other.ask("store.version('b')") == 2
        assert list(store.streams()) == other.ask("list(store.streams())")
        snapshot = store.read_streams(["a", "b"])
        assert (snapshot.position, snapshot.versions) == (5, {"a": 3, "b": 2})
        other.close()
        assert store.append([("a", "x", b"6")]).last_position == 6


@pytest.mark.anyio
async def test_an_event_loop_reads_what_another_process_appends(location):
    async with eb.open_async(location) as store:
        with peer(location) as other:
            for number in range(1, 20):
                assert other.append("a", b"%d" % number) == 2 * number - 1
                assert await store.head() == 2 * number - 1
                assert await store.version("a") == number
                done = await store.append([("b", "x", b"%d" % number)])
                assert done.last_position == 2 * number
                assert other.ask("store.head()") == 2 * number
            assert [r.stream async for r in store.read_all(limit=4)] == list("abab")
            assert [name async for name in store.streams()] == ["a", "b"]


@pytest.mark.anyio
async def test_an_event_loop_catches_up_on_much_at_once(location):
    """More than a loop reads between two of its turns."""
    async with eb.open_async(location) as store:
        await store.append([("a", "x", b"")])
        with peer(location) as other:
            many = "store.append([('a', 'x', bytes(1000))] * 500).last_position"
            for _ in range(8):
                last = other.ask(many)
            # Too much for one turn of the loop: it arrives when a thread has read it.
            port = current_port().native
            assert store._handle.native.catch_up_async(port) is not None
            assert await store.head() == last == 4001
            assert store._handle.native.catch_up_async(port) is None
            assert await store.version("a") == 4001
            assert (await store.stats()).streams == 1


def test_a_large_commit_and_new_files_of_the_log_are_seen(location):
    with eb.open(location, segment_size=64 * 1024, max_segment_size=64 * 1024) as store:
        sizes = {"segment_size": 64 * 1024, "max_segment_size": 64 * 1024}
        with peer(location, **sizes) as other:
            for number in range(12):
                other.ask(
                    f"store.append([('a', 'x', bytes(30_000 + {number}))]).replayed"
                )
                store.append([("b", "x", bytes(20_000 + number))])
            assert [len(r.data) for r in store.read_stream("a")] == [
                30_000 + number for number in range(12)
            ]
            assert store.stats().segments > 3
            assert other.ask("store.stats().segments") == store.stats().segments
            assert other.ask("store.verify().events") == store.verify().events == 24


def test_two_openings_of_one_process_share_a_store(store, location):
    with eb.open(location) as second:
        store.append([("a", "x", b"1")])
        assert second.append([("a", "x", b"2")], expect={"a": 1}).last_position == 2
        assert data(store.read_all()) == data(second.read_all()) == [b"1", b"2"]
    assert store.append([("a", "x", b"3")]).last_position == 3


# --- who is first


def test_a_conflict_names_what_another_process_wrote(store, location):
    with peer(location) as other:
        other.append("a")
        other.append("a")
        with pytest.raises(eb.VersionConflict) as conflict:
            store.append([("a", "x", b"")], expect={"a": 1, "b": eb.NO_STREAM})
        assert [(f.stream, f.actual) for f in conflict.value.failures] == [("a", 2)]
        # After a conflict, the version that it reported is there to be read.
        assert store.version("a") == 2
        store.append([("a", "x", b"")], expect={"a": 2})
        assert other.ask("store.append([('a', 'x', b'')], expect={'a': 2})") == (
            "VersionConflict",
            [("a", 3)],
        )


def test_exactly_one_process_wins_each_version(store, location):
    rounds = 40
    with peers(location, 3) as others:
        for version in range(rounds):
            attempt = f"store.append([('a', 'x', b'')], expect={{'a': {version}}}).versions['a']"
            for other in others:
                other.tell(attempt)
            try:
                own = store.append([("a", "x", b"")], expect={"a": version})
                outcomes = [own.versions["a"]]
            except eb.VersionConflict as conflict:
                outcomes = [
                    (
                        "VersionConflict",
                        [(f.stream, f.actual) for f in conflict.failures],
                    )
                ]
            outcomes += [other.answer() for other in others]
            lost = ("VersionConflict", [("a", version + 1)])
            assert sorted(outcomes, key=str) == sorted(
                [version + 1, lost, lost, lost], key=str
            )
    assert store.version("a") == rounds


def test_commands_of_several_processes_lose_no_event(store, location):
    # Processes don't queue for a stream as threads do, so they lose more often.
    executor = eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=1000))
    many = """
        (lambda commands, executor: [
            executor.execute(commands.Deposit(account="account-1", amount=commands.Money(1)))
            for _ in range(30)
        ] and True)(
            __import__("tests.commands").commands,
            eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=1000)),
        )
    """
    with peers(location, 2) as others:
        for other in others:
            other.tell(" ".join(many.split()))
        for _ in range(30):
            executor.execute(Deposit(account="account-1", amount=Money(1)))
        assert [other.answer() for other in others] == [True, True]
    assert store.version("account-1") == 90


def test_a_key_counts_in_every_process(store, location):
    keyed = "store.append([('a', 'x', b'1')], idempotency_key='k')"
    with peer(location) as other:
        done = store.append([("a", "x", b"1")], idempotency_key="k")
        assert not done.replayed
        assert other.ask(f"[({keyed}.first_position, {keyed}.replayed)]") == [(1, True)]
        assert other.ask("store.committed('k').last_position") == 1
        error, _ = other.ask(keyed.replace("b'1'", "b'2'"))
        assert error == "IdempotencyMismatch"
        other.ask("store.append([('a', 'x', b'3')], idempotency_key='l').replayed")
        again = store.append([("a", "x", b"3")], idempotency_key="l")
        assert (again.replayed, again.last_position) == (True, 2)
        with pytest.raises(eb.errors.IdempotencyMismatch):
            store.append([("a", "x", b"4")], idempotency_key="l")
    assert store.head() == 2


def test_one_key_of_many_processes_is_appended_once(store, location):
    keyed = (
        "[store.append([('a', 'x', b'')], idempotency_key=f'k-{n}') for n in range(30)]"
    )
    with peers(location, 3) as others:
        for other in others:
            other.tell(f"sum(not done.replayed for done in {keyed})")
        assert sum(other.answer() for other in others) == 30
    assert store.head() == 30


# --- following


def test_a_subscription_delivers_what_other_processes_commit(store, location):
    with peers(location, 2) as [first, second], store.subscribe() as subscription:
        for number in range(1, 10):
            assert first.append("a", b"1") == 3 * number - 2
            assert next(subscription).data == b"1"
            second.append("b", b"2")
            store.append([("c", "x", b"3")])
            assert [next(subscription).data for _ in range(2)] == [b"2", b"3"]


def test_who_waits_is_woken_by_another_process(store, location):
    """The subscriber waits before the other appends, and waited long for the first."""
    heard = []
    subscription = store.subscribe()
    follower = threading.Thread(target=lambda: heard.extend(subscription))
    with peer(location) as other:
        follower.start()
        other.ask("[store.append([('a', 'x', b'')]) for n in range(50)] and None")
        with store.subscribe(after=49) as last:
            next(last)
        while len(heard) < 50:
            assert follower.is_alive()
            threading.Event().wait(0.001)
        subscription.close()
        follower.join(60)
    assert [recorded.position for recorded in heard] == list(range(1, 51))


@pytest.mark.anyio
async def test_an_event_loop_is_woken_by_another_process(location):
    async with eb.open_async(location) as store:
        with peer(location) as other:
            async with store.subscribe(category="a") as subscription:
                for number in range(30):
                    other.tell(
                        f"store.append([('b', 'x', b''), ('a', 'x', b'{number}')]).replayed"
                    )
                    assert (await anext(subscription)).data == b"%d" % number
                    assert other.answer() is False


def test_every_process_sees_one_order(store, location):
    with peers(location, 3) as others:
        # In this order, or it would wait for one event more.
        follow = "[(r.position, r.stream, r.version) for _, r in zip(range(200), store.subscribe())]"
        for name, other in zip("abc", others, strict=True):
            other.tell(
                f"[store.append([('{name}', 'x', b'')]) for n in range(50)] and None"
            )
        for _ in range(50):
            store.append([("d", "x", b"")])
        for other in others:
            other.answer()
            other.tell(follow)
        orders = [other.answer() for other in others]
        own = [(r.position, r.stream, r.version) for r in store.read_all()]
        assert orders == [own] * 3
        assert [position for position, _, _ in own] == list(range(1, 201))
        for name in "abcd":
            versions = [version for _, stream, version in own if stream == name]
            assert versions == list(range(1, 51))


# --- coming and going


def test_the_second_goes_on_when_the_first_has_closed(location):
    first = eb.open(location)
    first.append([("a", "x", b"1")])
    with peer(location) as other:
        other.append("a", b"2")
        first.close()
        assert other.append("a", b"3") == 3
        assert other.ask("next(store.subscribe(after=2)).data") == b"3"
        with eb.open(location) as third:
            assert third.append([("a", "x", b"4")]).last_position == 4
            assert other.ask("store.version('a')") == 4
        other.close()
    with eb.open(location, mode="exclusive") as store:
        assert store.verify().events == 4


def test_many_come_and_go_while_one_writes(store, location):
    for number in range(5):
        with peer(location) as other:
            assert other.append("a") == 2 * number + 1
            other.close()
        assert store.append([("a", "x", b"")]).last_position == 2 * number + 2
    assert store.verify().events == 10


APPENDING = (
    "[print(store.append([('w', 'x', bytes(n % 7000))]).last_position, flush=True) "
    "for n in range(10 ** 9)]"
)


def test_others_go_on_when_a_writer_is_killed(store, location):
    acknowledged = 0
    for _ in range(5):
        with peer(location) as writer:
            writer.tell(APPENDING)
            for _ in range(20):
                acknowledged = int(writer.answer())
                own = store.append([("own", "x", b"")]).last_position
            writer.kill()
            # Acknowledged appends must be in the log, the last one may be.
            lines = [int(line) for line in writer.process.stdout.read().splitlines()]
            acknowledged = max([acknowledged, *lines])
        after = store.append([("own", "x", b"")]).last_position
        assert after > max(acknowledged, own)
        assert [member.pid for member in store.stats().sessions] == [os.getpid()]
    assert store.version("own") == 5 * 21
    assert store.verify().events == store.head()
    positions = [recorded.position for recorded in store.read_all()]
    assert positions == list(range(1, store.head() + 1))


def test_the_last_one_alive_finds_the_log_whole_when_all_others_died(location):
    with peers(location, 3) as others:
        for other in others:
            other.tell(APPENDING)
        told = [[int(other.answer()) for _ in range(10)] for other in others]
        for other in others:
            other.kill()
    with eb.open(location) as store:
        assert store.head() >= max(map(max, told))
        assert store.verify().events == store.head()
        assert store.append([("a", "x", b"")]).last_position == store.head()


# --- who is here


def test_the_members_are_listed_with_what_they_did(store, location):
    began = datetime.now(UTC) - timedelta(seconds=60)
    store.append([("a", "x", b""), ("a", "x", b"")])
    with (
        peer(location) as writer,
        peer(location, read_only=True) as reader,
        peer(location) as idle,
    ):
        writer.append("a")
        writer.append("a")
        writer.ask("store.append([('a', 'x', b'')], expect={'a': 1})")
        assert reader.ask("store.head()") == 4
        members = {member.pid: member for member in store.stats().sessions}
        assert set(members) == {os.getpid(), writer.pid, reader.pid, idle.pid}
        own, other = members[os.getpid()], members[writer.pid]
        assert (own.commits, own.events, own.appends) == (1, 2, 1)
        assert (other.commits, other.events) == (2, 2)
        assert members[idle.pid].commits == 0
        assert [m.pid for m in members.values() if m.read_only] == [reader.pid]
        assert [m.pid for m in members.values() if m.is_self] == [os.getpid()]
        assert all(began < m.since <= datetime.now(UTC) for m in members.values())
        assert Path(own.program).name.startswith("python")
        seen = writer.ask("[(m.pid, m.is_self) for m in store.stats().sessions]")
        assert sorted(seen) == sorted((pid, pid == writer.pid) for pid in members)
        idle.close()
        assert {m.pid for m in store.stats().sessions} == set(members) - {idle.pid}


def test_a_store_that_nobody_else_may_open_has_no_other_sessions(location):
    with eb.open(location, mode="exclusive") as alone, eb.open("memory:") as memory:
        assert alone.stats().sessions == memory.stats().sessions == ()
