"""Snapshots: a long stream is not folded from its start, and no snapshot is trusted blindly.

The hazards: a state that is newer than its version, or of another fold; a snapshot that
stops a command; and a command whose result counts as failed because of a snapshot.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

import eventbraid as eb
from eventbraid.command import StreamState


@eb.event("snapshots.counted")
class Counted:
    by: int = 1


folded: list[Any] = []


def counter_kind(fold_version=1, factor=1, every=10, state=int):
    class Counter(
        eb.Stream[Counted, state],
        category="counter",
        snapshot_every=every,
        fold_version=fold_version,
    ):
        def initial(self):
            return 0

        def apply(self, state, event, /):
            folded.append(event)
            return state + factor * event.by

    return Counter


Counter = counter_kind()


class Count(eb.Command):
    counter: eb.Declared[Counter]

    def decide(self) -> Iterator[eb.Write]:
        yield self.counter.write(Counted())


@pytest.fixture
def path(tmp_path):
    folded.clear()
    return tmp_path / "s"


def fill(store, count, stream="counter-1"):
    store.append([eb.new_event(stream, Counted())] * count)


def snapshots(store):
    return [
        one
        for one in store.read_all(prefix="$snapshot-")
        if one.type == "stream.snapshot"
    ]


def test_a_new_process_folds_only_what_follows_the_snapshot(path):
    with eb.open(path) as store:
        fill(store, 95)
        assert eb.Executor(store).load(Counter("counter-1")) == StreamState(95, 95)
        assert len(folded) == 95
        assert len(snapshots(store)) == 1
    with eb.open(path) as store:
        folded.clear()
        fill(store, 3)
        assert eb.Executor(store).execute(Count(counter="counter-1")).events
        # Three events that were read, and the command's own.
        assert len(folded) == 4
        assert eb.Executor(store).load(Counter("counter-1")) == StreamState(99, 99)


def test_commands_write_a_snapshot_each_time_the_stream_has_grown_enough(path):
    with eb.open(path) as store:
        executor = eb.Executor(store)
        for _ in range(35):
            executor.execute(Count(counter="counter-1"))
        assert len(snapshots(store)) == 3
        assert {one.stream for one in snapshots(store)} == {
            "$snapshot-Counter.1-counter-1"
        }
        # Snapshots are hidden from readers of the log.
        assert len(list(store.read_all())) == 35
    with eb.open(path) as store:
        folded.clear()
        assert eb.Executor(store).load(Counter("counter-1")) == StreamState(35, 35)
        assert len(folded) == 5


def test_a_snapshot_of_another_fold_is_ignored(path):
    with eb.open(path) as store:
        fill(store, 40)
        eb.Executor(store).load(Counter("counter-1"))
    with eb.open(path) as store:
        other = counter_kind(fold_version=2, factor=3)
        assert eb.Executor(store).load(other("counter-1")).state == 120
        assert len(snapshots(store)) == 2
        # The first fold's snapshot still serves a program that has the first fold.
        folded.clear()
        assert eb.Executor(store).load(Counter("counter-1")).state == 40
        assert folded == []


def test_a_kind_of_the_same_name_elsewhere_does_not_use_the_snapshot(path):
    other = counter_kind(factor=2)

    class Counter(eb.Stream[Counted, int], category="counter", snapshot_every=10):
        def initial(self):
            return 0

        def apply(self, state, event, /):
            return state + 3

    with eb.open(path) as store:
        fill(store, 40)
        eb.Executor(store).load(other("counter-1"))
        assert eb.Executor(store).load(Counter("counter-1")).state == 120


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"[]", b'{"kind":1}', b"\xff", None],
    ids=["empty", "object", "array", "field", "bytes", "state"],
)
def test_a_snapshot_that_cannot_be_decoded_is_reported_and_ignored(
    path, damage, caplog
):
    from eventbraid.store._system import system_event

    with eb.open(path) as store:
        fill(store, 40)
        eb.Executor(store).load(Counter("counter-1"))
        [written] = snapshots(store)
        if damage is None:
            damage = written.data.replace(b'"state":40', b'"state":"forty"')
            assert damage != written.data
        store.append(
            [system_event(eb.NewEvent(written.stream, "stream.snapshot", damage))]
        )
    with eb.open(path) as store, caplog.at_level(logging.WARNING):
        folded.clear()
        assert eb.Executor(store).load(Counter("counter-1")) == StreamState(40, 40)
        assert len(folded) == 40
        assert "a snapshot of counter-1 can't be decoded" in caplog.text


def test_a_snapshot_that_cannot_be_written_fails_no_command(path, caplog):
    with eb.open(path) as store:
        executor = eb.Executor(store)
        refusing = []

        class Refusing:
            coordination = store.coordination
            committed = store.committed
            read_streams = store.read_streams
            read_stream = store.read_stream

            def append(self, events, **options):
                events = list(events)
                if events and events[0].stream.startswith("$"):
                    refusing.append(events)
                    raise eb.errors.StorageFull(100, 0)
                return store.append(events, **options)

        executor = eb.Executor(Refusing())
        with caplog.at_level(logging.WARNING):
            for _ in range(10):
                executor.execute(Count(counter="counter-1"))
        assert len(refusing) == 1
        assert "the snapshot of counter-1 at version 10 was not written" in caplog.text
        assert executor.load(Counter("counter-1")) == StreamState(10, 10)


def test_long_names_have_snapshots_too(path):
    stream = "counter-" + "x" * 240
    with eb.open(path) as store:
        fill(store, 40, stream)
        eb.Executor(store).load(Counter(stream))
    with eb.open(path) as store:
        folded.clear()
        assert eb.Executor(store).load(Counter(stream)) == StreamState(40, 40)
        assert folded == []


def test_a_command_with_a_state_of_its_own_uses_snapshots(path):
    class Sum(eb.StatefulCommand[int, Counted]):
        counter: eb.Declared[Counter]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + 1

        def decide(self, state, /):
            assert state == self.counter.state == self.counter.version
            yield self.counter.write(Counted())

    with eb.open(path) as store:
        fill(store, 40)
        eb.Executor(store).load(Counter("counter-1"))
    with eb.open(path) as store:
        folded.clear()
        eb.Executor(store).execute(Sum(counter="counter-1"))
        assert folded == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "invalid snapshot_every '0'"),
        ({"every": True}, "snapshot_every must be an int"),
        ({"fold_version": -1}, "invalid fold_version '-1'"),
        ({"state": object}, "can't have snapshots: its state has the type object"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises((TypeError, eb.errors.InvalidArgument), match=message):
        counter_kind(**arguments)
    with pytest.raises(TypeError, match="Bare has no state"):

        class Bare(eb.Stream[Counted], category="bare", snapshot_every=5): ...


@pytest.mark.anyio
async def test_snapshots_in_an_event_loop(path, anyio_backend):
    async with eb.open_async(path) as store:
        executor = eb.AsyncExecutor(store)
        for _ in range(25):
            await executor.execute(Count(counter="counter-1"))
    async with eb.open_async(path) as store:
        folded.clear()
        loaded = await eb.AsyncExecutor(store).load(Counter("counter-1"))
        assert loaded == StreamState(25, 25)
        assert len(folded) == 5
