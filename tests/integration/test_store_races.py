"""True races: every thread has read the same state when all of them append.

The hazard: two writers that both believe that they were first; or a decision that
rests on a stream that was only read, and changed meanwhile (write skew).
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import eventbraid as eb

THREADS = 8
ROUNDS = 25


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    location = tmp_path / "store.braid" if request.param == "disk" else "memory:"
    with eb.open(location) as opened:
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
        version = store.version("account")

        def attempt(version=version):
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
    follower.join(5)
    assert seen == list(range(1, total + 1))
