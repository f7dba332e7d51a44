"""A cached state equals the fold of the log, whatever happened before.

The operations: commands and raw appends of two sessions of one store and of another
process, reads, dropped caches, appends that fail before or after their commit, stores that
are poisoned, sessions that end and open the store again, and a program whose folds have
another version. Rules 22 to 26 of the store's semantics are checked on the log: each event
records the states that its command decided on.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.command import StreamState
from eventbraid.testing import Conflict, Failure, FaultyStore, StoreCall, UnknownOutcome
from tests.property.cached_states import (
    LOOKED,
    PROGRAMS,
    STREAMS,
    Added,
    Amount,
    Seen,
    new_id,
    state_of,
)

ROOT = Path(__file__).resolve().parents[2]


class InjectedError(Exception):
    """An error that no store raises, injected before or after a commit."""


def is_of_command(call: StoreCall) -> bool:
    """Return whether a call isn't the append of a snapshot, which a read may make."""
    return not any(one.stream.startswith("$") for one in call.arguments["events"])


RIVAL = eb.new_event("sum-0", Added(Amount(3)))
FAULTS = {
    "conflict": Conflict(times=1),
    "rival": Conflict(by=[RIVAL], where=is_of_command, times=1),
    "before": Failure(error=InjectedError, times=1),
    "after": Failure(error=InjectedError, after=True, times=1),
    "lost": UnknownOutcome(committed=False, times=1),
    "unknown": UnknownOutcome(committed=True, times=1),
}
POISONED = Failure(error=eb.errors.StorePoisoned("the test has poisoned it"))

SESSIONS = st.integers(0, 1)
NAMES = st.sampled_from(STREAMS)
AMOUNTS = st.integers(-9, 9)
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), SESSIONS, NAMES, AMOUNTS),
    st.tuples(st.just("add_in_loop"), SESSIONS, NAMES, AMOUNTS),
    st.tuples(st.just("add_with_key"), SESSIONS, NAMES, st.integers(1, 3)),
    st.tuples(st.just("move"), SESSIONS, NAMES, NAMES),
    st.tuples(st.just("folded_move"), SESSIONS, NAMES, NAMES),
    st.tuples(st.just("look"), SESSIONS),
    st.tuples(st.just("append"), SESSIONS, NAMES, AMOUNTS),
    st.tuples(st.just("add_in_process"), SESSIONS, NAMES, AMOUNTS),
    st.tuples(st.just("load"), SESSIONS, NAMES, st.integers(0, 1)),
    st.tuples(st.just("drop"), SESSIONS),
    st.tuples(st.just("fail"), SESSIONS, st.sampled_from([*FAULTS])),
    st.tuples(st.just("poison"), SESSIONS, st.sampled_from(["lost", "unknown"])),
    st.tuples(st.just("reopen"), SESSIONS, st.sampled_from([*PROGRAMS])),
)


class Peer:
    """Another process, which executes commands on the same store."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.property.cached_states_peer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def add(self, path: str, stream: str, amount: int) -> None:
        self._request(path=path, stream=stream, amount=amount)

    def leave(self) -> None:
        """Close the store, which is about to be removed."""
        self._request()

    def end(self) -> None:
        self._process.communicate(timeout=30)

    def _request(self, **request: object) -> None:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@pytest.fixture(scope="module")
def peer():
    started = Peer()
    yield started
    started.end()


class Session:
    """A session of the store, whose appends may fail, and its program.

    Each operation is a method.
    """

    def __init__(self, path: str, peer: Peer, fold: int, cache_bytes: int) -> None:
        self.program = PROGRAMS[fold]
        self._path = path
        self._peer = peer
        self._cache_bytes = cache_bytes
        self._open()

    def _open(self) -> None:
        self.inner = eb.open(self._path)
        self.store = FaultyStore(self.inner)
        options: Any = {"state_cache_bytes": self._cache_bytes}
        self.executor = eb.Executor(self.store, **options)
        self._in_loop = eb.AsyncExecutor(self.inner.as_async(), **options)

    def log(self) -> LogOfSums:
        return LogOfSums(self.inner.read_all())

    def add(self, stream: str, amount: int) -> None:
        self._execute(self.program.add(stream, Amount(amount)))

    def add_in_loop(self, stream: str, amount: int) -> None:
        with self._comparing_rejections():
            anyio.run(self._in_loop.execute, self.program.add(stream, Amount(amount)))

    def add_with_key(self, stream: str, key: int) -> None:
        name = f"keyed-{stream}-{key}"
        command = self.program.add(stream, Amount(key), name)
        self._execute(command, idempotency_key=name)

    def add_in_process(self, stream: str, amount: int) -> None:
        self._peer.add(self._path, stream, amount)

    def move(self, source: str, target: str) -> None:
        self._execute(self.program.Move(source=source, target=target, id=new_id()))

    def folded_move(self, source: str, target: str) -> None:
        if source != target:
            move = self.program.FoldedMove(source=source, target=target, id=new_id())
            self._execute(move)

    def look(self) -> None:
        with self._tolerating_faults():
            self.executor.execute(self.program.Look(streams=STREAMS))
            # Rule 26: a command without events has seen states of one moment.
            self.log().require_true(LOOKED)

    def append(self, stream: str, amount: int) -> None:
        with self._tolerating_faults():
            self.store.append([eb.new_event(stream, Added(Amount(amount)))])

    def load(self, stream: str, number: int) -> None:
        """Compare a loaded state with the fold of the log."""
        kind = self.program.kinds[number]
        loaded = self.executor.load(kind(stream))
        state = loaded.state
        numbers = tuple(state) if number else (int(state),)
        expected = self.log().state(kind.__name__, self.program.fold, stream)
        assert StreamState(numbers, loaded.version) == expected
        if number:
            # A loaded state belongs to its caller.
            state.append(-7)

    def drop(self) -> None:
        _, cache = self.executor._engine._shared.get()
        cache.clear()

    def fail(self, fault: str) -> None:
        self.store.inject(FAULTS[fault])

    def poison(self, outcome: str) -> None:
        """Act as after a failed sync.

        The outcome of one append is unknown, and all later ones are refused until the
        store is opened again.
        """
        self.store.inject(FAULTS[outcome], POISONED)

    def reopen(self, fold: int) -> None:
        self.inner.close()
        self.program = PROGRAMS[fold]
        self._open()

    def _execute(self, command: Any, **options: Any) -> None:
        with self._tolerating_faults(), self._comparing_rejections():
            self.executor.execute(command, **options)

    @contextmanager
    def _comparing_rejections(self) -> Iterator[None]:
        try:
            yield
        except eb.CommandRejected as rejected:
            # Rule 24: the states of a rejection are those of the log.
            self.log().require_true(rejected.facts["seen"])

    @contextmanager
    def _tolerating_faults(self) -> Iterator[None]:
        """Accept the errors of faults that were injected in the block."""
        before = len(self.store.injected)
        try:
            yield
        except (InjectedError, eb.OutcomeUnknown, eb.errors.StorePoisoned):
            assert len(self.store.injected) > before


class LogOfSums:
    """The events of the log, and the states of its streams."""

    def __init__(self, recorded: Iterable[eb.RecordedEvent]) -> None:
        self.commits: defaultdict[str, list[eb.RecordedEvent]] = defaultdict(list)
        self.amounts: list[tuple[int, str, int]] = []
        self._events: dict[int, Added] = {}
        for one in recorded:
            event = eb.decode_event(one)
            self._events[one.position] = event
            self.amounts.append((one.position, one.stream, int(event.amount)))
            if event.command:
                self.commits[event.command].append(one)

    def state(
        self, kind: str, fold: int, stream: str, before: int | None = None
    ) -> StreamState[Any]:
        """Return the version and the state of a stream before a position."""
        amounts = [
            amount
            for position, name, amount in self.amounts
            if name == stream and (before is None or position < before)
        ]
        return StreamState(state_of(kind, fold, amounts), len(amounts))

    def require_true(self, seen: Iterable[Seen], before: int | None = None) -> None:
        """Compare states that a command has seen with those before a position."""
        folded = []
        for kind, fold, stream, version, numbers in seen:
            if kind == "own":
                # Rule 23: the events of all streams, in the global order.
                own = [
                    amount
                    for position, name, amount in self.amounts
                    if name in folded and (before is None or position < before)
                ]
                assert tuple(own) == numbers, "rule 23: the fold of a command"
                continue
            folded.append(stream)
            found = StreamState(numbers, version)
            expected = self.state(kind, fold, stream, before)
            assert found == expected, "rules 22 and 24: a state of another version"

    def require_confirmed_decisions(self) -> None:
        """Check that each command decided on the states before its commit."""
        for name, entries in self.commits.items():
            first = entries[0].position
            event = self._events[first]
            positions = [one.position for one in entries]
            count = 1 if len(event.seen) == 1 else 2
            assert positions == [first + i for i in range(count)], (
                f"rule 25: {name} is in the log more than once, or not as one commit"
            )
            self.require_true(event.seen, first)


@settings(max_examples=200)
@given(
    st.lists(OPERATIONS, max_size=40),
    # None, some entries, and all.
    st.sampled_from([0, 900, 64 * 2**20]),
)
def test_a_cached_state_equals_the_fold_of_the_log(peer, operations, cache_bytes):
    with tempfile.TemporaryDirectory() as path:
        sessions = [Session(path, peer, fold, cache_bytes) for fold in PROGRAMS]
        try:
            for kind, number, *arguments in operations:
                getattr(sessions[number], kind)(*arguments)
            for session in sessions:
                for stream, number in itertools.product(STREAMS, (0, 1)):
                    session.load(stream, number)
            sessions[0].log().require_confirmed_decisions()
        finally:
            peer.leave()
            for session in sessions:
                session.inner.close()
