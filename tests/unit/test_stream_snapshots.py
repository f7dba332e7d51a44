"""Snapshots: a long stream is not folded from its start, and no snapshot is trusted blindly.

The hazards: a state that is newer than its version, or of another fold; a snapshot that
stops a command; a command whose result counts as failed because of a snapshot; and a
snapshot that has the data of encrypted events in plain text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import eventbraid as eb
from eventbraid.command import StreamState
from eventbraid.event import (
    BodyContext,
    EventRegistry,
    UpcastEvent,
    codec_id,
    upcaster,
)


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
        [stream] = {one.stream for one in snapshots(store)}
        assert re.fullmatch(r"\$snapshot-Counter\.1\.[0-9a-f]{16}-counter-1", stream)
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
        ({"fold_version": 0}, "invalid fold_version '0'"),
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


# --- snapshots of other schemas


def added_kind(registry, event, state=int, **options):
    class Total(eb.Stream[event, state], category="total", snapshot_every=2, **options):
        def initial(self):
            return state()

        def apply(self, state, event, /):
            folded.append(event)
            return replace(state, cents=state.cents + event.cents)

    return Total


@eb.value_object
class Sum:
    cents: int = 0


@eb.value_object
class SumAndCount:
    cents: int = 0
    count: int = 0


def old_program():
    """Return the registry, the event and the kind of a program's first version."""
    registry = EventRegistry()

    @eb.event("snapshots.added", registry=registry)
    class Added:
        cents: int

    return registry, Added, added_kind(registry, Added, Sum)


def fill_and_snapshot(path, program, **options):
    registry, event, kind = program
    with eb.open(path, registry=registry) as store:
        new = eb.new_event("total-1", event(1), registry=registry)
        store.append([new] * 5)
        assert eb.Executor(store).load(kind("total-1")).state.cents == 5
        [written] = snapshots(store)
    folded.clear()
    return written


def load(path, program):
    registry, _, kind = program
    with eb.open(path, registry=registry) as store:
        state = eb.Executor(store).load(kind("total-1")).state
        return state, len(folded)


def test_a_snapshot_is_used_by_the_same_program_and_by_one_with_further_events(path):
    fill_and_snapshot(path, old_program())
    assert load(path, old_program()) == (Sum(5), 0)
    registry, added, _ = old_program()

    @eb.event("snapshots.removed", registry=registry)
    class Removed:
        cents: int

    kind = added_kind(registry, added | Removed, Sum)
    assert load(path, (registry, added, kind)) == (Sum(5), 0)


def test_a_snapshot_of_a_state_with_other_fields_is_ignored(path):
    """Its decoder would take the default of the new field for the folded value."""
    fill_and_snapshot(path, old_program())
    registry, added, _ = old_program()
    kind = added_kind(registry, added, SumAndCount)
    assert load(path, (registry, added, kind)) == (SumAndCount(5, 0), 5)


@pytest.mark.parametrize("change", ["version", "upcaster", "split"])
def test_a_snapshot_of_other_schema_versions_or_upcasters_is_ignored(path, change):
    fill_and_snapshot(path, old_program())
    registry = EventRegistry()
    version = 1 if change == "split" else 2
    name = "snapshots.counted_up" if change == "split" else "snapshots.added"
    oldest = 2 if change == "version" else 1

    @eb.event(name, version=version, oldest_version=oldest, registry=registry)
    class Added:
        cents: int

    if change == "upcaster":

        @upcaster("snapshots.added", from_version=1, registry=registry)
        def in_other_cents(body):
            return {"cents": body["cents"] * 100}

    elif change == "split":

        @upcaster("snapshots.added", from_version=1, into=[name], registry=registry)
        def in_two_parts(body):
            yield UpcastEvent(name, {"cents": 1})
            yield UpcastEvent(name, {"cents": body["cents"]})

    program = registry, Added, added_kind(registry, Added, Sum)
    if change == "version":
        # No event can be read, and a snapshot must not hide that.
        with pytest.raises(eb.errors.UnknownEventType):
            load(path, program)
    else:
        expected = {"upcaster": (Sum(500), 5), "split": (Sum(10), 10)}[change]
        assert load(path, program) == expected
    assert load(path, old_program())[0] == Sum(5)


def test_a_program_that_registers_an_upcaster_later_uses_no_older_snapshot(path):
    registry, _, kind = program = old_program()
    fill_and_snapshot(path, program)
    with eb.open(path, registry=registry) as store:
        executor = eb.Executor(store)
        assert executor.load(kind("total-1")).state == Sum(5)

        @upcaster(
            "snapshots.moved",
            from_version=1,
            into=["snapshots.added"],
            registry=registry,
        )
        def added_by_a_move(body):
            yield UpcastEvent("snapshots.added", body)

        folded.clear()
        store.append([("total-1", "snapshots.moved", b'{"cents":7}')])
        assert executor.load(kind("total-1")).state == Sum(12)
        assert len(folded) == 6


def test_a_derived_kind_has_snapshots_of_its_own(path):
    registry, _, kind = program = old_program()
    fill_and_snapshot(path, program)

    class Negative(kind):
        def apply(self, state, event, /):
            folded.append(event)
            return replace(state, cents=state.cents - event.cents)

    with eb.open(path, registry=registry) as store:
        assert eb.Executor(store).load(Negative("total-1")).state == Sum(-5)
        assert len(folded) == 5
        assert len(snapshots(store)) == 2
        folded.clear()
    with eb.open(path, registry=registry) as store:
        assert eb.Executor(store).load(Negative("total-1")).state == Sum(-5)
        assert eb.Executor(store).load(kind("total-1")).state == Sum(5)
        assert folded == []


# --- snapshots of encoded events


class Reversed:
    """A cipher for tests: it has a key for each stream, and authenticates the context."""

    def __init__(self, id="reversed", key=b"k"):
        self.id = id
        self.key = key
        self.contexts = []

    def encode(self, body, context):
        self.contexts.append(context)
        return self._seal(context) + body[::-1]

    def decode(self, body, context):
        seal = self._seal(context)
        if not body.startswith(seal):
            raise PermissionError("another key or another context")
        return body.removeprefix(seal)[::-1]

    def _seal(self, context):
        text = f"{context.stream}/{context.type}/{context.schema_version}/"
        return self.key + text.encode()


def secret_program(codec, *, own=None, **options):
    registry = EventRegistry()

    @eb.event("snapshots.added", registry=registry, codec=codec)
    class Added:
        cents: int

    if own is not None:
        options["snapshot_codec"] = own
    return registry, Added, added_kind(registry, Added, Sum, **options)


def test_a_snapshot_is_encoded_by_the_codec_of_the_events(path):
    codec = Reversed()
    program = secret_program(codec)
    written = fill_and_snapshot(path, program)
    assert codec_id(written.data) == "reversed"
    assert b'"cents"' not in written.data
    # The codec gets the stream of the events, so that it finds the same key.
    context = BodyContext("total-1", "stream.snapshot", 1)
    assert context in codec.contexts
    assert {one.stream for one in codec.contexts} == {"total-1"}
    assert load(path, secret_program(Reversed())) == (Sum(5), 0)


def test_the_codec_of_the_registry_encodes_snapshots_from_its_first_use_on(path):
    registry, added, kind = program = old_program()
    plain = fill_and_snapshot(path, program)
    assert codec_id(plain.data) is None
    with eb.open(path, registry=registry) as store:
        executor = eb.Executor(store)
        assert executor.load(kind("total-1")).state == Sum(5)
        registry.use_codec(Reversed())
        new = eb.new_event("total-1", added(1), registry=registry)
        store.append([new] * 3)
        assert executor.load(kind("total-1")).state == Sum(8)
        assert [codec_id(one.data) for one in snapshots(store)] == [None, "reversed"]


def test_the_codec_that_the_kind_names_comes_first(path):
    own = Reversed("own")
    program = secret_program(Reversed("events"), own=own)
    written = fill_and_snapshot(path, program)
    assert codec_id(written.data) == "own"
    assert load(path, secret_program(Reversed("events"), own=Reversed("own"))) == (
        Sum(5),
        0,
    )
    # A kind may name one although its events have none.
    assert (
        codec_id(
            fill_and_snapshot(path.with_name("t"), secret_program(None, own=own)).data
        )
        == "own"
    )


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (None, "the codec 'own' encoded it .*add_codec"),
        (Reversed("own", b"lost key"), "the codec 'own' failed: PermissionError"),
    ],
)
def test_a_snapshot_of_a_missing_codec_is_named_and_the_events_are_folded(
    path, codec, message, caplog
):
    fill_and_snapshot(path, secret_program(None, own=Reversed("own")))
    with caplog.at_level(logging.WARNING):
        assert load(path, secret_program(None, own=codec)) == (Sum(5), 5)
    [record] = [one for one in caplog.records if "is not used" in one.message]
    assert re.search(message, record.message)
    [error] = [one for one in record.args if isinstance(one, Exception)]
    assert isinstance(error, eb.errors.EventDecodeError)
    assert isinstance(error, eb.errors.UnknownCodec) == (codec is None)


def test_a_former_codec_still_decodes_snapshots(path):
    fill_and_snapshot(path, secret_program(None, own=Reversed("2025")))
    registry, *_ = program = secret_program(None, own=Reversed("2026"))
    registry.add_codec(Reversed("2025"))
    assert load(path, program) == (Sum(5), 0)


def test_events_of_several_codecs_need_a_codec_for_their_snapshots(path):
    registry = EventRegistry()

    @eb.event("snapshots.added", registry=registry, codec=Reversed("one"))
    class Added:
        cents: int

    @eb.event("snapshots.removed", registry=registry, codec=Reversed("other"))
    class Removed:
        cents: int

    undecided = added_kind(registry, Added | Removed, Sum)
    named = added_kind(registry, Added | Removed, Sum, snapshot_codec=Reversed("one"))

    class Add(eb.Command):
        total: eb.Declared[undecided]

        def decide(self):
            yield self.total.write(Added(1))

    with eb.open(path, registry=registry) as store:
        executor = eb.Executor(store)
        refused = pytest.raises(
            eb.errors.InvalidArgument,
            match="codecs of the events of Total 'one, other'.*snapshot_codec=",
        )
        with refused:
            executor.execute(Add(total="total-1"))
        with refused:
            executor.load(undecided("total-1"))
        assert store.head() == 0
        assert executor.load(named("total-1")).state == Sum(0)


def test_a_codec_that_fails_while_a_snapshot_is_written_fails_no_command(path, caplog):
    class Unreachable(Reversed):
        def encode(self, body, context):
            if context.type == "stream.snapshot":
                raise ConnectionError("the key store doesn't respond")
            return super().encode(body, context)

    registry, added, kind = secret_program(Unreachable())

    class Add(eb.Command):
        total: eb.Declared[kind]

        def decide(self):
            yield self.total.write(added(1))

    with eb.open(path, registry=registry) as store, caplog.at_level(logging.WARNING):
        for _ in range(4):
            eb.Executor(store).execute(Add(total="total-1"))
        assert eb.Executor(store).load(kind("total-1")).state == Sum(4)
        assert snapshots(store) == []
    assert "was not written: the key store doesn't respond" in caplog.text


def test_wrong_codecs_of_snapshots_are_refused():
    with pytest.raises(eb.errors.InvalidArgument, match="it is a class"):
        added_kind(None, Counted, Sum, snapshot_codec=Reversed)
    with pytest.raises(TypeError, match="give snapshot_every, too"):

        class Bare(eb.Stream[Counted], category="bare", snapshot_codec=Reversed()): ...

    with pytest.raises(TypeError, match="give snapshot_every, too"):

        class Plain(eb.Stream[Counted], category="bare", fold_version=2): ...
