"""Sagas of any shape end completed or compensated, however often their process dies.

Random graphs of sequences, parallel groups, choices, waits and steps for each item, with
steps that are declined, time out and lose their answers, and with processes that die at
random appends. At rest: a completed saga has each effect once, a compensated one has
none; steps that depend on each other took effect in their order, and were compensated in
the opposite one.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.saga import Signal, each, parallel, sequence, sleep, wait, when
from tests.saga_kit import (
    QUICK,
    SOON,
    Crash,
    MortalStore,
    Receiver,
    Trip,
    inside,
    ledger_of,
    outside,
    trip,
)

SAGA = "saga-1"
BEHAVIOURS = ["ok", "ok", "ok", "ok", "lose", "drop", "decline"]
LIVES = 4
MANY = 2 * LIVES
"""More crashes than there are: no step is taken for the cause of all of them."""
LIMIT = 100


@dataclass(frozen=True)
class Leaf:
    """A step: local or external, how slow it is, and what its receiver does."""

    local: bool
    slowness: int
    behaviours: tuple[str, ...]
    compensations: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Group:
    branches: tuple[Node, ...]


@dataclass(frozen=True)
class Fork:
    """A choice, whose condition is true or false."""

    condition: bool
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True)
class Fan:
    """A step for each of some items, of which the last one may behave otherwise."""

    leaf: Leaf
    last: tuple[str, ...]
    items: int
    concurrency: int


@dataclass(frozen=True)
class Pause:
    """A wait: for a signal, for one that is never sent, or just for a time."""

    kind: str


Node = Leaf | Line | Group | Fork | Fan | Pause

leaves = st.builds(
    Leaf,
    st.booleans(),
    st.integers(0, 30),
    st.tuples(st.sampled_from(BEHAVIOURS)),
    st.tuples(st.sampled_from(["ok", "ok", "lose", "drop"])),
)
fans = st.builds(
    Fan,
    leaves,
    st.tuples(st.sampled_from(BEHAVIOURS)),
    st.integers(0, 4),
    st.integers(1, 3),
)
pauses = st.builds(Pause, st.sampled_from(["signal", "nobody", "sleep"]))
nodes = st.recursive(
    st.one_of(leaves, leaves, leaves, fans, pauses),
    lambda inner: st.one_of(
        st.builds(Line, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Group, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(
            Fork,
            st.booleans(),
            st.lists(inner, min_size=1, max_size=2).map(tuple),
            st.lists(inner, max_size=2).map(tuple),
        ),
    ),
    max_leaves=9,
)


class SlowReceiver(Receiver):
    """Lets other tasks run before a call takes effect, a number of times."""

    def __init__(self) -> None:
        super().__init__()
        self.slowness: dict[str, int] = {}

    async def do(self, step: str, key: str) -> str:
        await self._pause(step)
        return await super().do(step, key)

    async def compensate(self, step: str, forward_key: str, key: str) -> str:
        await self._pause(step)
        return await super().compensate(step, forward_key, key)

    async def _pause(self, step: str) -> None:
        for _ in range(self.slowness[step]):
            await anyio.lowlevel.checkpoint()


class Built:
    """The saga of a shape, its receiver, and the order of its steps."""

    def __init__(self, shape: Node, *, fails_at_the_end: bool) -> None:
        self.receiver = SlowReceiver()
        self.external: list[str] = []
        self.local: list[str] = []
        self.steps = 0
        self.choices = 0
        self.signals: list[Signal[int]] = []
        self.before: set[tuple[str, str]] = set()
        node, names = self._node(shape)
        nodes = [node]
        if fails_at_the_end:
            last, _ = self._node(Leaf(False, 0, ("decline",), ("ok",)))
            self.before |= {(name, self.external[-1]) for name in names}
            nodes.append(last)
        self.saga = trip(*nodes, name="graph")

    def _node(self, shape):
        """Return a node and the names of its steps."""
        if isinstance(shape, Leaf):
            self.steps += 1
            name = f"s{self.steps}"
            self._add(name, shape, shape.behaviours)
            return self._step(name, shape), [name]
        if isinstance(shape, Fan):
            return self._fan(shape)
        if isinstance(shape, Pause):
            return self._pause(shape), []
        if isinstance(shape, Fork):
            return self._fork(shape)
        built = [self._node(one) for one in _parts(shape)]
        names = [name for _, inner in built for name in inner]
        if isinstance(shape, Group):
            return parallel(*(node for node, _ in built)), names
        for i, (_, earlier) in enumerate(built):
            for _, later in built[i + 1 :]:
                self.before |= {(one, other) for one in earlier for other in later}
        return sequence(*(node for node, _ in built)), names

    def _step(self, name, shape, **options):
        if shape.local:
            return inside(name, maximum_crashes=MANY)
        return outside(
            self.receiver,
            name,
            record=None,
            compensation_retry=QUICK,
            maximum_crashes=MANY,
            timeout=timedelta(seconds=30),
            **options,
        )

    def _add(self, name, shape, behaviours):
        """Add the expectations of a step, which may be that of an item."""
        if shape.local:
            self.local.append(name)
            return
        self.external.append(name)
        self.receiver.slowness[name] = shape.slowness
        self.receiver.plan[name] = [*behaviours, "ok"]
        self.receiver.plan[f"compensate {name}"] = [*shape.compensations, "ok"]

    def _fan(self, shape):
        self.steps += 1
        name = f"s{self.steps}"
        keys = [f"k{i}" for i in range(shape.items)]
        names = [f"{name}[{key}]" for key in keys]
        for instance in names:
            behaviours = shape.last if instance == names[-1] else shape.leaf.behaviours
            self._add(instance, shape.leaf, behaviours)
        step = self._step(
            name, shape.leaf, **({} if shape.leaf.local else {"then": None})
        )
        node = each(
            lambda _: dict.fromkeys(keys, 0), step, concurrency=shape.concurrency
        )
        return node, names

    def _pause(self, shape):
        self.steps += 1
        name = f"s{self.steps}"
        if shape.kind == "sleep":
            return sleep(name, SOON)
        signal = Signal(f"signal {name}", int)
        if shape.kind == "signal":
            self.signals.append(signal)
            return wait(signal, name=name)
        return wait(signal, name=name, timeout=SOON, on_timeout=lambda state: state)

    def _fork(self, shape):
        chosen = Line(shape.then if shape.condition else shape.otherwise)
        other = Line(shape.otherwise if shape.condition else shape.then)
        node, names = self._node(chosen) if chosen.nodes else (None, [])
        kept = len(self.external), len(self.local)
        unused, _ = self._node(other) if other.nodes else (None, [])
        # These steps are declared, but never executed.
        del self.external[kept[0] :], self.local[kept[1] :]
        yes, no = (node, unused) if shape.condition else (unused, node)
        self.choices += 1
        choice = when(
            f"choice {self.choices}",
            lambda _: shape.condition,
            then=[] if yes is None else [yes],
            otherwise=[] if no is None else [no],
        )
        return choice, names


def _parts(shape):
    return shape.branches if isinstance(shape, Group) else shape.nodes


def check_order(before: set[tuple[str, str]], log: list[str], prefix: str) -> None:
    """Check that steps which depend on each other took effect in their order."""
    place = {entry: i for i, entry in enumerate(log)}
    for one, other in before:
        first, then = (one, other) if not prefix else (other, one)
        if {prefix + first, prefix + then} <= place.keys():
            assert place[prefix + first] < place[prefix + then]


@settings(max_examples=150, deadline=None)
@given(
    nodes,
    st.lists(st.integers(1, 20), max_size=LIVES),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_graph_ends_completed_or_compensated(
    shape, deaths, after, cancels, fails_at_the_end
):
    built = Built(shape, fails_at_the_end=fails_at_the_end)

    async def live(store, dies_at) -> None:
        mortal = MortalStore(store, dies_at, after=after)
        async with eb.SagaCoordinator(mortal, [built.saga]) as coordinator:
            handle = await coordinator.start(built.saga, Trip("ann"), id=SAGA)
            arrived = {
                eb.decode_event(one).signal
                async for one in store.read_stream(SAGA)
                if one.type == "saga.signal_received"
            }
            for signal in built.signals:
                if signal.name not in arrived:
                    with contextlib.suppress(eb.errors.InvalidTransition):
                        await coordinator.signal(SAGA, signal, 1)
            if cancels and dies_at is None:
                with contextlib.suppress(eb.errors.InvalidTransition):
                    await coordinator.cancel(SAGA, reason="no")
            with anyio.fail_after(LIMIT):
                await handle.result()

    with eb.open("memory:") as store:
        for dies_at in [*deaths, None]:
            with contextlib.suppress(Crash):
                anyio.run(live, store.as_async(), dies_at)
        outcome = eb.saga.read_timeline(store, SAGA).outcome
        noted = [
            eb.decode_event(one).what for one in store.read_stream(ledger_of(SAGA))
        ]
    receiver = built.receiver
    for log in (receiver.log, noted):
        check_order(built.before, log, "")
        check_order(built.before, log, "compensate ")
    done = sorted(entry for entry in noted if not entry.startswith("compensate "))
    undone = sorted(
        entry.removeprefix("compensate ")
        for entry in noted
        if entry.startswith("compensate ")
    )
    if outcome is eb.SagaOutcome.COMPLETED:
        assert receiver.standing() == sorted(built.external)
        assert (done, undone) == (sorted(built.local), [])
    else:
        assert outcome is eb.SagaOutcome.COMPENSATED
        assert receiver.standing() == []
        assert done == undone
