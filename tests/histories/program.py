"""A process that asks a store at random, and tells of every question and answer.

    python -m tests.histories.program '{"store": "...", "path": "...", "seed": 7, ...}'

Its threads append to a few streams that all processes share, under every kind of
expectation, read them in every way, and follow the log. What they do is drawn from the
seed; when they do it is not. It tells on its standard output, closes the store cleanly
when its standard input ends, and stands any kill.

Every two seconds all processes turn to new streams, so that none grows long.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import random
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

import eventbraid as eb
from tests.histories.log import entries_of
from tests.histories.history import (
    Begun,
    Closed,
    Delivered,
    Done,
    Expected,
    Following,
    HeadRead,
    Line,
    LogRead,
    Opened,
    Refused,
    SnapshotRead,
    StreamRead,
    Trouble,
    Unclear,
    Unfollowed,
    VersionRead,
    encode,
    value_of,
)

EPOCH = 2_000_000_000
CONDITIONS = {"any": eb.ANY, "no_stream": eb.NO_STREAM, "exists": eb.EXISTS}
NAMES = {condition: name for name, condition in CONDITIONS.items()}
RARE_READ = 200
IDLE_CHILD = 2.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told to do.

    Attributes:
        name: What it is called; no other process of the same history has this name.
        store: `MODULE:NAME` of what opens the store.
        path: Where the store is.
        seed: What it draws from.
        threads: How many of its threads ask.
        followers: How many follow the log.
        streams: How many streams there are at a time.
        operations: How many each thread asks; without end, if there is no number.
        pause: How long a thread waits between two operations, on average, in seconds.
        forks: Whether it forks children now and then that stay idle.
        options: What the store is opened with besides.
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


class Teller:
    """Writes lines, whole, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def tell(self, line: Line) -> None:
        data = encode(line) + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class Program:
    """One process's work."""

    def __init__(self, orders: Orders, teller: Teller) -> None:
        self.orders = orders
        self.tell = teller.tell
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
                (self._ask, self.orders.threads),
                (self._follow, self.orders.followers),
            )
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        self._await_the_end(threads[: self.orders.threads] or threads)
        self.stopping.set()
        for thread in threads[: self.orders.threads]:
            thread.join()
        self._stop_following()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]
        store = self.store()
        try:
            store.close()
        except eb.StoreBusy as error:
            self.leave(store, error)
        self.tell(Closed(time.monotonic_ns()))

    def _is_open(self) -> bool:
        try:
            self.store()
        except eb.StoreBusy as error:
            self.leave(None, error)
            return False
        return True

    def number(self) -> int:
        with self._guard:
            return next(self._numbers)

    def store(self):
        """The open store; opened again, if it was left."""
        with self._guard:
            if self._store is None:
                self._store = opened(self.orders)
                self.tell(Opened(time.monotonic_ns()))
            return self._store

    def leave(self, store, error: eb.EventbraidError) -> None:
        """Close a store that has raised what is no answer, and tell of it.

        One that others only kept from writing for a while stays open. One that could not
        be opened will be tried again.
        """
        now = time.monotonic_ns()
        self.tell(Trouble(now, type(error).__name__, str(error)))
        if is_busy(error):
            return
        with self._guard:
            is_left = store is not None and self._store is store
            if is_left:
                self._store = None
        if is_left:
            # What it says in the end is known already.
            with suppress(eb.EventbraidError):
                store.close()
        time.sleep(0.02)

    def _guarded(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again where it is seen
            self.failures.append(error)
            self.stopping.set()

    def _await_the_end(self, threads: list[threading.Thread]) -> None:
        """Wait for the end of standard input, or of all the work."""
        chance = random.Random(self.orders.seed)
        while any(thread.is_alive() for thread in threads):
            if select.select([0], [], [], 0.05)[0] and not os.read(0, 4096):
                return
            if self.stopping.is_set():
                return
            if self.orders.forks and chance.random() < 0.1:
                fork_an_idle_child()

    def _stop_following(self) -> None:
        with self._guard:
            self.stopping.set()
            for subscription in self._subscriptions:
                subscription.close()

    def _ask(self, number: int) -> None:
        asker = Asker(self, number)
        while not self.stopping.is_set() and asker.wants_more():
            asker.ask()

    def _follow(self, number: int) -> None:
        chance = random.Random(f"{self.orders.seed}/follower/{number}")
        store = None
        while not self.stopping.is_set():
            try:
                store = self.store()
                self._follow_one(store, chance)
            except eb.EventbraidError as error:
                self.leave(store, error)

    def _follow_one(self, store, chance: random.Random) -> None:
        after = max(0, store.head() - chance.randrange(50))
        prefixes = [None, None, "list-"]
        if self.orders.threads:
            # An epoch ends, and who only listens is to hear something as long as it lives.
            prefixes.append(f"list-{epoch()}-")
        prefix = chance.choice(prefixes)
        subscriber = self.number()
        subscription = store.subscribe(after=after, prefix=prefix)
        with self._guard:
            if self.stopping.is_set():
                return
            self._subscriptions.add(subscription)
        self.tell(Following(subscriber, after, prefix, time.monotonic_ns()))
        try:
            for event in subscription:
                [entry] = entries_of([event])
                self.tell(Delivered(subscriber, time.monotonic_ns(), entry))
        finally:
            self.tell(Unfollowed(subscriber, time.monotonic_ns()))


class Asker:
    """One thread's work."""

    def __init__(self, program: Program, number: int) -> None:
        self.program = program
        self.tell = program.tell
        self.orders = program.orders
        self.thread = number
        self.left = self.orders.operations
        self.chance = random.Random(f"{self.orders.seed}/{number}")
        self.seen: dict[str, int] = {}
        self.epoch = -1
        self.store = None

    def wants_more(self) -> bool:
        return self.left is None or self.left > 0

    def ask(self) -> None:
        if self.left is not None:
            self.left -= 1
        if self.orders.pause:
            time.sleep(self.chance.expovariate(1 / self.orders.pause))
        if (now := epoch()) != self.epoch:
            self.epoch, self.seen = now, {}
        [work] = self.chance.choices(ASKED, WEIGHTS)
        self.store = None
        try:
            self.store = self.program.store()
            work(self)
        except eb.EventbraidError as error:
            self.program.leave(self.store, error)

    # --- appends

    def append_anything(self) -> None:
        self.append(self.some_streams(), {})

    def append_as_read(self) -> None:
        """Read some streams and append to some of them, if nothing has changed."""
        read = self.some_streams()
        versions = self.read_snapshot(read)
        written = self.chance.sample(read, self.chance.randint(1, len(read)))
        self.append(written, dict(versions))

    def append_as_remembered(self) -> None:
        """As read some time ago: often a conflict."""
        streams = self.some_streams()
        expect = {stream: self.seen.get(stream, 0) for stream in streams}
        self.append(streams[:1], expect)

    def append_on_a_condition(self) -> None:
        streams = self.some_streams()
        conditions: list[Expected] = ["any", "exists", "exists", "no_stream"]
        expect = {stream: self.chance.choice(conditions) for stream in streams}
        self.append(streams[: self.chance.randint(1, len(streams))], expect)

    def begin_a_stream(self) -> None:
        stream = f"list-{self.epoch}-{self.chance.randrange(40)}-new"
        self.append([stream], {stream: "no_stream"})

    def check(self) -> None:
        streams = self.some_streams()
        versions = self.read_snapshot(streams)
        self.append([], dict(versions))

    def append_twice(self) -> None:
        """Ask again under the same key, at once or with other content."""
        key = f"key-{self.orders.name}-{self.program.number()}"
        streams = self.some_streams()
        expect: dict[str, Expected] = {}
        if self.chance.random() < 0.5:
            expect = {stream: self.seen.get(stream, 0) for stream in streams}
        number, events = self.new_events(streams)
        self.append_events(number, events, expect, key)
        if self.chance.random() < 0.2:
            number, events = self.new_events(streams)
        else:
            number = self.program.number()
        self.append_events(number, events, expect, key)

    def append(self, streams: list[str], expect: dict[str, Expected]) -> None:
        number, events = self.new_events(streams)
        key = None
        if events and self.chance.random() < 0.3:
            key = f"key-{self.orders.name}-{number}"
        self.append_events(number, events, expect, key)

    def new_events(self, streams: list[str]) -> tuple[int, list[tuple[str, str]]]:
        number = self.program.number()
        commit = f"{self.orders.name}.{number}"
        places = [s for s in streams for _ in range(self.chance.choice([1, 1, 2]))]
        self.chance.shuffle(places)
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
        """Append, and tell of it; with a key, until the outcome is known."""
        begun = time.monotonic_ns()
        self.tell(Begun(number, self.thread, begun, tuple(events), expect, key))
        try:
            told = self.store.append(
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
            self.tell(Refused(number, now, "VersionConflict", failures))
            self.seen.update((stream, actual) for stream, _, actual in failures)
        except eb.IdempotencyMismatch:
            self.tell(Refused(number, time.monotonic_ns(), "IdempotencyMismatch"))
        except eb.OutcomeUnknown as error:
            self.tell(Unclear(number, time.monotonic_ns(), str(error)))
            self.program.leave(self.store, error)
            if key is not None:
                self.store = self.program.store()
                self.append_events(self.program.number(), events, expect, key)
        except eb.EventbraidError as error:
            self.tell(Refused(number, time.monotonic_ns(), type(error).__name__))
            raise
        else:
            now, versions = time.monotonic_ns(), dict(told.versions)
            first, last = told.first_position, told.last_position
            self.tell(Done(number, now, first, last, versions, told.replayed))
            self.seen.update(versions)

    # --- reads

    def some_streams(self) -> list[str]:
        count = self.chance.randint(1, 3)
        chosen = self.chance.sample(range(self.orders.streams), count)
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
        self.tell(SnapshotRead(thread, invoked, returned, position, versions, entries))
        self.seen.update(versions)
        return versions

    def read_a_stream(self) -> None:
        [stream, *_] = self.some_streams()
        known = self.seen.get(stream, 0)
        after = 0 if known < RARE_READ else known
        invoked = time.monotonic_ns()
        entries = tuple(entries_of(self.store.read_stream(stream, after=after)))
        returned = time.monotonic_ns()
        self.tell(StreamRead(self.thread, invoked, returned, stream, after, entries))
        self.seen[stream] = after + len(entries)

    def read_the_log(self) -> None:
        after = max(0, self.read_head() - self.chance.randrange(20))
        invoked = time.monotonic_ns()
        entries = tuple(entries_of(self.store.read_all(after=after)))
        returned = time.monotonic_ns()
        self.tell(LogRead(self.thread, invoked, returned, after, entries))

    def read_head(self) -> int:
        invoked = time.monotonic_ns()
        head = self.store.head()
        self.tell(HeadRead(self.thread, invoked, time.monotonic_ns(), head))
        return head

    def read_a_version(self) -> None:
        [stream, *_] = self.some_streams()
        invoked = time.monotonic_ns()
        version = self.store.version(stream)
        returned = time.monotonic_ns()
        self.tell(VersionRead(self.thread, invoked, returned, stream, version))


MENU = {
    Asker.append_anything: 20,
    Asker.append_as_read: 18,
    Asker.append_as_remembered: 10,
    Asker.append_on_a_condition: 6,
    Asker.append_twice: 8,
    Asker.begin_a_stream: 5,
    Asker.check: 6,
    Asker.read_a_snapshot: 8,
    Asker.read_a_stream: 8,
    Asker.read_a_version: 4,
    Asker.read_head: 3,
    Asker.read_the_log: 4,
}
ASKED, WEIGHTS = list(MENU), list(MENU.values())


def epoch() -> int:
    """Which streams are in use; all processes agree, as they share the clock."""
    return time.monotonic_ns() // EPOCH


def opened(orders: Orders):
    """Open the store; one that is left by all others may take a while to recover."""
    module, _, name = orders.store.partition(":")
    opening = getattr(importlib.import_module(module), name)
    return opening(orders.path, **orders.options)


def is_busy(error: eb.EventbraidError) -> bool:
    """Whether all that is wrong is that another process keeps a lock, as it was stopped."""
    busy = isinstance(error, eb.OutcomeUnknown) and "is in use by" in error.reason
    return busy or isinstance(error, eb.StoreBusy)


def fork_an_idle_child() -> None:
    """Fork a child that does nothing and outlives, it may be, its parent by a while."""
    if os.fork():
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return
    # Its parent's pipes must end when its parent does.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    time.sleep(IDLE_CHILD)
    os._exit(0)


def main(given: str) -> None:
    faulthandler.enable()
    orders = msgspec.json.decode(given, type=Orders)
    Program(orders, Teller(1)).run()


if __name__ == "__main__":
    main(sys.argv[1])
