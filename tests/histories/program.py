"""A process that calls a store at random, and writes a line for each call and result.

    python -m tests.histories.program '{"store": "...", "path": "...", "seed": 7, ...}'

Its threads append to a few streams that all processes share, under every kind of
expectation, call every kind of read, and follow the log. The seed determines the calls,
but not their times. The process writes its lines to standard output, closes the store
when its standard input ends, and may be killed at any moment.

Every two seconds all processes change to new streams, so that no stream grows long.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

import eventbraid as eb
from tests.histories.history import (
    AppendBegun,
    AppendDone,
    AppendRefused,
    AppendUnknown,
    Closed,
    Delivered,
    Expected,
    HeadRead,
    LogRead,
    Opened,
    SnapshotRead,
    StoreFailure,
    StreamRead,
    SubscriptionBegun,
    SubscriptionEnded,
    VersionRead,
    encode,
    value_of,
)
from tests.histories.log import entries_of

EPOCH = 2_000_000_000
CONDITIONS = {"any": eb.ANY, "no_stream": eb.NO_STREAM, "exists": eb.EXISTS}
NAMES = {condition: name for name, condition in CONDITIONS.items()}
RARE_READ = 200
IDLE_CHILD = 2.0


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """The operations of a process.

    Attributes:
        name: The name of the process, unique in its history.
        store: `MODULE:NAME` of the function that opens the store.
        path: The path of the store.
        seed: The seed of the random choices.
        threads: The number of threads that append and read.
        followers: The number of threads that follow the log.
        streams: The number of streams in use at a time.
        operations: The number of operations of each thread; `None` is unlimited.
        pause: The mean interval between two operations of a thread, in seconds.
        forks: Whether the process sometimes forks children that stay idle.
        options: Further options of the store.
    """

    name: str
    store: str
    path: str
    seed: int
    threads: int = 2
    followers: int = 1
    streams: int = 5
    operations: int | None = None
    pause: float = 0.0
    forks: bool = False
    options: dict[str, int | float | str] = {}


class LineWriter:
    """Writes complete lines from any thread."""

    def __init__(
        self, descriptor: int, encoder: Callable[[Any], bytes] = encode
    ) -> None:
        self._descriptor = descriptor
        self._encode = encoder
        self._lock = threading.Lock()

    def write(self, line: Any) -> None:
        data = self._encode(line) + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class Program:
    """The work of one process."""

    def __init__(self, workload: Workload, writer: LineWriter) -> None:
        self.workload = workload
        self.write = writer.write
        self.stopping = threading.Event()
        self.failures: list[BaseException] = []
        self._numbers = iter(range(1 << 62))
        self._guard = threading.Lock()
        self._store = None
        self._subscriptions: set = set()

    def run(self) -> None:
        while not self._is_open():
            pass
        threads = [
            threading.Thread(target=self._guarded, args=(work, number))
            for work, count in (
                (self._work, self.workload.threads),
                (self._follow, self.workload.followers),
            )
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        self._wait_for_the_end(threads[: self.workload.threads] or threads)
        self.stopping.set()
        for thread in threads[: self.workload.threads]:
            thread.join()
        self._stop_following()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]
        store = self.store()
        try:
            store.close()
        except eb.EventbraidError as error:
            # For example, the session has detected at last that a file was damaged.
            self.abandon(store, error)
        self.write(Closed(time.monotonic_ns()))

    def _is_open(self) -> bool:
        try:
            self.store()
        except eb.StoreBusy as error:
            self.abandon(None, error)
            return False
        return True

    def number(self) -> int:
        with self._guard:
            return next(self._numbers)

    def store(self):
        """Return the open store, and open it again if it was abandoned."""
        with self._guard:
            if self._store is None:
                self._store = opened(self.workload)
                self.write(Opened(time.monotonic_ns()))
            return self._store

    def abandon(self, store, error: eb.EventbraidError) -> None:
        """Report a store that raised an error that is no result, and close it.

        A store that was only busy stays open. An open that failed is tried again later.
        """
        now = time.monotonic_ns()
        self.write(StoreFailure(now, type(error).__name__, str(error)))
        if is_busy(error):
            return
        with self._guard:
            is_abandoned = store is not None and self._store is store
            if is_abandoned:
                self._store = None
        if is_abandoned:
            # Its close raises the same error again.
            with suppress(eb.EventbraidError):
                store.close()
        time.sleep(0.02)

    def _guarded(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.failures.append(error)
            self.stopping.set()

    def _wait_for_the_end(self, threads: list[threading.Thread]) -> None:
        """Wait until standard input ends or all threads have ended."""
        rng = random.Random(self.workload.seed)
        while any(thread.is_alive() for thread in threads):
            if select.select([0], [], [], 0.05)[0] and not os.read(0, 4096):
                return
            if self.stopping.is_set():
                return
            if self.workload.forks and rng.random() < 0.1:
                fork_an_idle_child()

    def _stop_following(self) -> None:
        with self._guard:
            self.stopping.set()
            for subscription in self._subscriptions:
                subscription.close()

    def _work(self, number: int) -> None:
        worker = Worker(self, number)
        while not self.stopping.is_set() and worker.has_operations_left():
            worker.run_one()

    def _follow(self, number: int) -> None:
        rng = random.Random(f"{self.workload.seed}/follower/{number}")
        store = None
        while not self.stopping.is_set():
            try:
                store = self.store()
                self._follow_one(store, rng)
            except eb.EventbraidError as error:
                self.abandon(store, error)

    def _follow_one(self, store, rng: random.Random) -> None:
        after = max(0, store.head() - rng.randrange(50))
        prefixes = [None, None, "list-"]
        if self.workload.threads:
            # A process without own appends follows no single epoch, since an epoch ends
            # and the process must get events for as long as it runs.
            prefixes.append(f"list-{epoch()}-")
        prefix = rng.choice(prefixes)
        subscriber = self.number()
        subscription = store.subscribe(after=after, prefix=prefix)
        with self._guard:
            if self.stopping.is_set():
                return
            self._subscriptions.add(subscription)
        self.write(SubscriptionBegun(subscriber, after, prefix, time.monotonic_ns()))
        try:
            for event in subscription:
                [entry] = entries_of([event])
                self.write(Delivered(subscriber, time.monotonic_ns(), entry))
        finally:
            self.write(SubscriptionEnded(subscriber, time.monotonic_ns()))


class Worker:
    """The work of one thread."""

    def __init__(self, program: Program, number: int) -> None:
        self.program = program
        self.write = program.write
        self.workload = program.workload
        self.thread = number
        self.left = self.workload.operations
        self.rng = random.Random(f"{self.workload.seed}/{number}")
        self.seen: dict[str, int] = {}
        self.epoch = -1
        self.store = None

    def has_operations_left(self) -> bool:
        return self.left is None or self.left > 0

    def run_one(self) -> None:
        if self.left is not None:
            self.left -= 1
        if self.workload.pause:
            time.sleep(self.rng.expovariate(1 / self.workload.pause))
        if (now := epoch()) != self.epoch:
            self.epoch, self.seen = now, {}
        [work] = self.rng.choices(OPERATIONS, WEIGHTS)
        self.store = None
        try:
            self.store = self.program.store()
            work(self)
        except eb.EventbraidError as error:
            self.program.abandon(self.store, error)

    # --- appends

    def append_anything(self) -> None:
        self.append(self.some_streams(), {})

    def append_as_read(self) -> None:
        """Read some streams and append to some of them, if nothing has changed."""
        read = self.some_streams()
        versions = self.read_snapshot(read)
        written = self.rng.sample(read, self.rng.randint(1, len(read)))
        self.append(written, dict(versions))

    def append_as_remembered(self) -> None:
        """Expect versions of an earlier read, which often conflict."""
        streams = self.some_streams()
        expect = {stream: self.seen.get(stream, 0) for stream in streams}
        self.append(streams[:1], expect)

    def append_on_a_condition(self) -> None:
        streams = self.some_streams()
        conditions: list[Expected] = ["any", "exists", "exists", "no_stream"]
        expect = {stream: self.rng.choice(conditions) for stream in streams}
        self.append(streams[: self.rng.randint(1, len(streams))], expect)

    def begin_a_stream(self) -> None:
        stream = f"list-{self.epoch}-{self.rng.randrange(40)}-new"
        self.append([stream], {stream: "no_stream"})

    def check(self) -> None:
        streams = self.some_streams()
        versions = self.read_snapshot(streams)
        self.append([], dict(versions))

    def append_twice(self) -> None:
        """Append twice with the same key, with the same content or another."""
        key = f"key-{self.workload.name}-{self.program.number()}"
        streams = self.some_streams()
        expect: dict[str, Expected] = {}
        if self.rng.random() < 0.5:
            expect = {stream: self.seen.get(stream, 0) for stream in streams}
        number, events = self.new_events(streams)
        self.append_events(number, events, expect, key)
        if self.rng.random() < 0.2:
            number, events = self.new_events(streams)
        else:
            number = self.program.number()
        self.append_events(number, events, expect, key)

    def append(self, streams: list[str], expect: dict[str, Expected]) -> None:
        number, events = self.new_events(streams)
        key = None
        if events and self.rng.random() < 0.3:
            key = f"key-{self.workload.name}-{number}"
        self.append_events(number, events, expect, key)

    def new_events(self, streams: list[str]) -> tuple[int, list[tuple[str, str]]]:
        number = self.program.number()
        commit = f"{self.workload.name}.{number}"
        places = [s for s in streams for _ in range(self.rng.choice([1, 1, 2]))]
        self.rng.shuffle(places)
        count = len(places)
        return number, [
            (stream, value_of(commit, index, count))
            for index, stream in enumerate(places)
        ]

    def append_events(
        self,
        number: int,
        events: list[tuple[str, str]],
        expect: dict[str, Expected],
        key: str | None,
    ) -> None:
        """Append and write the result; with a key, repeat until it is known."""
        begun = time.monotonic_ns()
        self.write(AppendBegun(number, self.thread, begun, tuple(events), expect, key))
        try:
            done = self.store.append(
                [(stream, "appended", value.encode()) for stream, value in events],
                expect={s: CONDITIONS.get(e, e) for s, e in expect.items()},
                idempotency_key=key,
            )
        except eb.VersionConflict as conflict:
            now = time.monotonic_ns()
            failures = tuple(
                (one.stream, NAMES.get(one.expected, one.expected), one.actual)
                for one in conflict.failures
            )
            self.write(AppendRefused(number, now, "VersionConflict", failures))
            self.seen.update((stream, actual) for stream, _, actual in failures)
        except eb.errors.IdempotencyMismatch:
            self.write(
                AppendRefused(number, time.monotonic_ns(), "IdempotencyMismatch")
            )
        except eb.OutcomeUnknown as error:
            self.write(AppendUnknown(number, time.monotonic_ns(), str(error)))
            self.program.abandon(self.store, error)
            if key is not None:
                self.store = self.program.store()
                self.append_events(self.program.number(), events, expect, key)
        except eb.EventbraidError as error:
            self.write(AppendRefused(number, time.monotonic_ns(), type(error).__name__))
            raise
        else:
            now, versions = time.monotonic_ns(), dict(done.versions)
            first, last = done.first_position, done.last_position
            self.write(AppendDone(number, now, first, last, versions, done.replayed))
            self.seen.update(versions)

    # --- reads

    def some_streams(self) -> list[str]:
        count = self.rng.randint(1, 3)
        chosen = self.rng.sample(range(self.workload.streams), count)
        return [f"list-{self.epoch}-{number}" for number in chosen]

    def read_a_snapshot(self) -> None:
        self.read_snapshot(self.some_streams())

    def read_snapshot(self, streams: list[str]) -> dict[str, int]:
        after = {s: v for s, v in self.seen.items() if s in streams and v > RARE_READ}
        invoked = time.monotonic_ns()
        snapshot = self.store.read_streams(streams, after=after)
        returned = time.monotonic_ns()
        versions, entries = dict(snapshot.versions), tuple(entries_of(snapshot.events))
        position, thread = snapshot.position, self.thread
        self.write(SnapshotRead(thread, invoked, returned, position, versions, entries))
        self.seen.update(versions)
        return versions

    def read_a_stream(self) -> None:
        [stream, *_] = self.some_streams()
        known = self.seen.get(stream, 0)
        after = 0 if known < RARE_READ else known
        invoked = time.monotonic_ns()
        entries = tuple(entries_of(self.store.read_stream(stream, after=after)))
        returned = time.monotonic_ns()
        self.write(StreamRead(self.thread, invoked, returned, stream, after, entries))
        self.seen[stream] = after + len(entries)

    def read_the_log(self) -> None:
        after = max(0, self.read_head() - self.rng.randrange(20))
        invoked = time.monotonic_ns()
        entries = tuple(entries_of(self.store.read_all(after=after)))
        returned = time.monotonic_ns()
        self.write(LogRead(self.thread, invoked, returned, after, entries))

    def read_head(self) -> int:
        invoked = time.monotonic_ns()
        head = self.store.head()
        self.write(HeadRead(self.thread, invoked, time.monotonic_ns(), head))
        return head

    def read_a_version(self) -> None:
        [stream, *_] = self.some_streams()
        invoked = time.monotonic_ns()
        version = self.store.version(stream)
        returned = time.monotonic_ns()
        self.write(VersionRead(self.thread, invoked, returned, stream, version))


WEIGHT_OF = {
    Worker.append_anything: 20,
    Worker.append_as_read: 18,
    Worker.append_as_remembered: 10,
    Worker.append_on_a_condition: 6,
    Worker.append_twice: 8,
    Worker.begin_a_stream: 5,
    Worker.check: 6,
    Worker.read_a_snapshot: 8,
    Worker.read_a_stream: 8,
    Worker.read_a_version: 4,
    Worker.read_head: 3,
    Worker.read_the_log: 4,
}
OPERATIONS, WEIGHTS = list(WEIGHT_OF), list(WEIGHT_OF.values())


def epoch() -> int:
    """Return the number that selects the streams in use, equal in all processes."""
    return time.monotonic_ns() // EPOCH


def opened(workload: Workload):
    """Open the store, which may take a while if it must recover."""
    module, _, name = workload.store.partition(":")
    opening = getattr(importlib.import_module(module), name)
    return opening(workload.path, **workload.options)


def is_busy(error: eb.EventbraidError) -> bool:
    """Whether the error only means that a stopped process holds a lock."""
    busy = isinstance(error, eb.OutcomeUnknown) and "is in use by" in error.reason
    return busy or isinstance(error, eb.StoreBusy)


def fork_an_idle_child() -> None:
    """Fork a child that does nothing, and that may outlive its parent."""
    if os.fork():
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return
    # The child must not keep the pipes of its parent open.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    time.sleep(IDLE_CHILD)
    os._exit(0)


def main(argument: str) -> None:
    # A crash prints the stack of its own thread only: the handler may not read the stacks
    # of threads that run on, and would replace a bus error by a segmentation fault.
    faulthandler.enable(all_threads=False)
    faulthandler.register(signal.SIGQUIT, chain=True)
    workload = msgspec.json.decode(argument, type=Workload)
    Program(workload, LineWriter(1)).run()


if __name__ == "__main__":
    main(sys.argv[1])
