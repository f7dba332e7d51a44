"""True races: every thread has read the same state when all of them append.

The hazard: two writers that both believe that they were first; or a decision that
rests on a stream that was only read, and changed meanwhile (write skew).
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import eventbraid as eb
from tests.contract.sqlite_store import SqliteStore

THREADS = 8
ROUNDS = 25


@pytest.fixture(params=["disk", "memory", "sqlite"])
def store(request, tmp_path):
    openings = {
        "disk": lambda: eb.open(tmp_path / "store.braid"),
        "memory": lambda: eb.open("memory:"),
        "sqlite": lambda: SqliteStore(tmp_path / "store.sqlite"),
    }
    with openings[request.param]() as opened:
        yield opened


def race(attempts):
    """Run all attempts from one starting line; answer who won."""
    line = threading.Barrier(len(attempts))

    def run(attempt):
        line.wait()
        try:
            attempt()
        except eb.VersionConflict:
            return False
        return True

    with ThreadPoolExecutor(len(attempts)) as pool:
        return list(pool.map(run, attempts))


def test_exactly_one_of_many_writers_wins_each_version(store):
    for round_ in range(ROUNDS):
        read = threading.Barrier(THREADS)

        def attempt(read=read):
            version = store.version("account")
            read.wait()
            store.append([("account", "x", b"")], expect={"account": version})

        assert race([attempt] * THREADS).count(True) == 1
        assert store.version("account") == round_ + 1
    assert [r.version for r in store.read_stream("account")] == list(
        range(1, ROUNDS + 1)
    )


def test_exactly_one_creates_a_stream(store):
    for round_ in range(ROUNDS):
        stream = f"order-{round_}"

        def attempt(stream=stream):
            store.append([(stream, "x", b"")], expect={stream: eb.NO_STREAM})

        assert race([attempt] * THREADS).count(True) == 1


def test_a_stream_that_is_only_checked_decides_too(store):
    for round_ in range(ROUNDS):
        mine, yours = f"a-{round_}", f"b-{round_}"

        def first(mine=mine, yours=yours):
            store.append([(mine, "x", b"")], expect={yours: 0, mine: 0})

        def second(mine=mine, yours=yours):
            store.append([(yours, "x", b"")], expect={mine: 0, yours: 0})

        assert race([first, second]).count(True) == 1


def test_two_writers_never_both_rest_on_each_others_stream(store):
    for round_ in range(ROUNDS):
        one, two = f"a-{round_}", f"b-{round_}"
        read = threading.Barrier(2)

        def attempt(mine, checked, read=read):
            seen = store.version(checked)
            read.wait()
            store.append([(mine, "x", b"")], expect={checked: seen})

        won = race([partial(attempt, one, two), partial(attempt, two, one)])
        assert won.count(True) == 1


def test_a_ring_of_writers_is_never_closed(store):
    """Each checks the next and writes itself: a serial order has a first and a last."""
    size = 5
    for round_ in range(ROUNDS):
        ring = [f"ring{round_}-{number}" for number in range(size)]
        pairs = list(zip(ring, ring[1:] + ring[:1], strict=True))
        read = threading.Barrier(size)

        def attempt(mine, checked, read=read):
            seen = store.read_streams([checked]).versions[checked]
            read.wait()
            store.append([(mine, "x", b"")], expect={checked: seen})

        won = race([partial(attempt, *pair) for pair in pairs])
        assert 1 <= won.count(True) < size
        order = [r.stream for r in store.read_all(prefix=f"ring{round_}-")]
        assert len(order) == won.count(True)
        for mine, checked in pairs:
            if mine in order and checked in order:
                assert order.index(mine) < order.index(checked)


def test_a_boundary_of_several_streams_has_one_winner(store):
    for round_ in range(ROUNDS):
        names = [f"{letter}-{round_}" for letter in "abc"]
        read = threading.Barrier(THREADS)

        def attempt(number, names=names, read=read):
            seen = dict(store.read_streams(names).versions)
            read.wait()
            # Each writes another part of what all of them have read.
            store.append([(names[number % 3], "x", b"")], expect=seen)

        won = race([partial(attempt, number) for number in range(THREADS)])
        assert won.count(True) == 1
        assert sum(store.read_streams(names).versions.values()) == 1


def test_overlapping_commits_are_never_torn(store):
    streams = [f"s-{n}" for n in range(4)]

    def attempt(number):
        def transfer():
            source, target = streams[number % 4], streams[(number + 1) % 4]
            body = str(number).encode()
            while True:
                expect = {source: store.version(source), target: store.version(target)}
                try:
                    store.append(
                        [(source, "out", body), (target, "in", body)], expect=expect
                    )
                except eb.VersionConflict:
                    continue
                break

        return transfer

    assert all(race([attempt(number) for number in range(THREADS)]))
    events = list(store.read_all())
    assert len(events) == 2 * THREADS
    for out, into in zip(events[::2], events[1::2], strict=True):
        assert (out.type, into.type, out.data) == ("out", "in", into.data)


def test_one_key_is_done_once_however_many_ask(store):
    for round_ in range(ROUNDS):
        done = []

        def attempt(round_=round_, done=done):
            events = [("account", "x", b"%d" % round_)]
            done.append(store.append(events, idempotency_key=f"k-{round_}"))

        race([attempt] * THREADS)
        assert [answer.replayed for answer in done].count(False) == 1
        assert len({answer.first_position for answer in done}) == 1
    assert store.head() == ROUNDS


def test_readers_and_subscribers_agree_with_writers(store):
    seen: list[int] = []
    subscription = store.subscribe()

    def follow():
        seen.extend(recorded.position for recorded in subscription)

    follower = threading.Thread(target=follow)
    follower.start()

    def write():
        for _ in range(50):
            store.append([("a", "x", b""), ("b", "x", b"")])
            events = list(store.read_stream("a"))
            assert [r.version for r in events] == list(range(1, len(events) + 1))

    race([write] * THREADS)
    total = THREADS * 50 * 2
    while subscription.position < total:
        assert follower.is_alive()
        follower.join(0.01)
    subscription.close()
    follower.join(60)
    assert seen == list(range(1, total + 1))
