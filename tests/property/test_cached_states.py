"""A cached state equals the fold of the log, whatever happened before.

The operations: commands and raw appends of two sessions of one store, reads, dropped
caches, sessions that end and open the store again, and a fold of another version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.command import StreamState


class Amount(eb.Int): ...


@eb.event("cached.added")
class Added:
    amount: Amount


class Sum(eb.Stream[Added, Amount], category="sum", snapshot_every=4):
    def initial(self) -> Amount:
        return Amount(0)

    def apply(self, state: Amount, event: Added, /) -> Amount:
        return state + event.amount


class Listing(eb.Stream[Added, list[int]], category="sum", snapshot_every=3):
    """A second kind of the same streams, whose state is mutable."""

    def initial(self) -> list[int]:
        return []

    def apply(self, state: list[int], event: Added, /) -> list[int]:
        state.append(int(event.amount))
        return state


class Doubled(eb.Stream[Added, Amount], category="sum", snapshot_every=2):
    """The fold of a later program, under the name and the version of `Sum`'s."""

    def initial(self) -> Amount:
        return Amount(0)

    def apply(self, state: Amount, event: Added, /) -> Amount:
        return state + event.amount + event.amount


class Add(eb.Command):
    target: eb.Declared[Sum]
    amount: Amount

    def decide(self) -> Iterator[eb.Write]:
        eb.require(self.target.state <= Amount(5), "full", at=self.target.state)
        yield self.target.write(Added(self.amount))


class Move(eb.Command):
    """Move what one stream has to another one, with two kinds and a discovery."""

    source: eb.Declared[Listing]
    target: eb.Declared[Sum]

    def discover(self) -> list[Sum]:
        return [Sum(f"sum-{len(self.source.state) % 3}")]

    def decide(self) -> Iterator[eb.Write]:
        total = sum(self.source.state)
        self.source.state.clear()
        [found] = (self.discovered(Sum(f"sum-{self.source.version % 3}")),)
        eb.require(total > 0, "empty", found=found.state)
        yield self.target.write(Added(Amount(total)))
        yield self.source.write(Added(Amount(-total)))


SESSIONS = st.integers(0, 1)
STREAMS = st.sampled_from(["sum-0", "sum-1", "sum-2"])
KINDS = [Sum, Listing, Doubled]
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), SESSIONS, STREAMS, st.integers(-2, 9)),
    st.tuples(st.just("move"), SESSIONS, STREAMS, STREAMS),
    st.tuples(st.just("append"), SESSIONS, STREAMS, st.integers(-9, 9)),
    st.tuples(st.just("load"), SESSIONS, STREAMS, st.sampled_from(KINDS)),
    st.tuples(st.just("drop"), SESSIONS, STREAMS, st.just(0)),
    st.tuples(st.just("reopen"), SESSIONS, STREAMS, st.just(0)),
)


def execute(store: eb.EventStore, command: eb.Command) -> None:
    try:
        eb.Executor(store).execute(command)
    except eb.CommandRejected as rejection:
        # The facts of a rejection are those of the log, too.
        if rejection.code == "full":
            [at] = rejection.facts.values()
            assert at == fold(store, command.target)
        else:
            assert fold(store, command.source) <= Amount(0)


def fold(store: eb.EventStore, stream: str) -> Amount:
    events = [eb.decode_event(one) for one in store.read_stream(str(stream))]
    return sum((one.amount for one in events), Amount(0))


def run(stores: list[eb.EventStore], path, kind, number, stream, value) -> None:
    store = stores[number]
    match kind:
        case "add":
            execute(store, Add(target=stream, amount=Amount(value)))
        case "move":
            execute(store, Move(source=stream, target=value))
        case "append":
            store.append([eb.new_event(stream, Added(Amount(value)))])
        case "drop":
            _, cache = eb.Executor(store)._engine._shared.get()
            cache.clear()
        case "reopen":
            store.close()
            stores[number] = eb.open(path)
        case _:
            check(store, value(stream))


@settings(max_examples=200)
@given(st.lists(OPERATIONS, max_size=40))
def test_a_cached_state_equals_the_fold_of_the_log(operations):
    with tempfile.TemporaryDirectory() as path:
        stores = [eb.open(path), eb.open(path)]
        try:
            for operation in operations:
                run(stores, path, *operation)
            for store in stores:
                for stream in ("sum-0", "sum-1", "sum-2"):
                    for kind in KINDS:
                        check(store, kind(stream))
        finally:
            for store in stores:
                store.close()


def check(store: eb.EventStore, stream: Sum | Listing | Doubled) -> None:
    events = [eb.decode_event(one) for one in store.read_stream(stream.id)]
    expected = stream.initial()
    for event in events:
        expected = stream.apply(expected, event)
    loaded = eb.Executor(store).load(stream)
    assert loaded == StreamState(expected, len(events))
