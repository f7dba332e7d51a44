"""Long streams are read page by page, and each of their events is folded once.

The hazards: memory that grows with the stream, an event loop that is held during a
page, events that are read twice, many commands that fold one stream at the same time,
and a state that is folded from events of different moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import anyio
import pytest
import trio

import eventbraid as eb
from eventbraid.command import StreamState, _queue
from eventbraid.command._fast_path import EVENTS_LIMIT
from eventbraid.command._stream_loading import PAGE_EVENTS

LONG = 3 * PAGE_EVENTS + 500
folded: list[tuple[str, int]] = []


@eb.event("long.counted")
class Counted:
    by: int = 1


class Counter(eb.Stream[Counted, int], category="counter"):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Counted, /) -> int:
        folded.append((self.id, state + 1))
        return state + event.by


class Lists(eb.Stream[Counted, list[int]], category="lists"):
    """A kind whose state is mutable."""

    def initial(self) -> list[int]:
        return []

    def apply(self, state: list[int], event: Counted, /) -> list[int]:
        folded.append((self.id, len(state) + 1))
        state.append(event.by)
        return state


class Tallies(eb.Stream[Counted], category="counter"):
    """A kind without a state."""


class Slow(eb.Stream[Counted, int], category="slow"):
    """A kind whose fold takes long."""

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Counted, /) -> int:
        folded.append((self.id, state + 1))
        time.sleep(0.0002)
        return state + event.by


class Count(eb.Command):
    counter: eb.Declared[Counter]

    def decide(self) -> Iterator[eb.Write]:
        yield self.counter.write(Counted())


class CountSlowly(eb.Command):
    counter: eb.Declared[Slow]

    def decide(self) -> Iterator[eb.Write]:
        yield self.counter.write(Counted())


class CountAll(eb.Command):
    counters: eb.DeclaredMany[Counter]

    def decide(self) -> Iterator[eb.Write]:
        yield self.counters[0].write(Counted())


class CountBoth(eb.Command):
    one: eb.Declared[Counter]
    other: eb.Declared[Counter]

    def decide(self) -> Iterator[eb.Write]:
        versions.append((self.one.version, self.other.version))
        yield self.one.write(Counted())


class Totals(eb.StatefulCommand[int, Counted]):
    """A command with a state of its own, folded from all its streams in order."""

    counters: eb.DeclaredMany[Tallies]

    def initial(self) -> int:
        return 0

    def apply(self, state: int, recorded: eb.Recorded[Counted], /) -> int:
        folded.append(("", recorded.position))
        return state + recorded.event.by

    def decide(self, state: int, /) -> Iterator[eb.Write]:
        yield self.counters[0].write(Counted())


class Append(eb.Command):
    list: eb.Declared[Lists]

    def decide(self) -> Iterator[eb.Write]:
        states.append(self.list.state)
        yield self.list.write(Counted())


versions: list[tuple[int, int]] = []
states: list[list[int]] = []


class Reads:
    """The reads of a store, with the pages that were read."""

    def __init__(self, store: eb.EventStore) -> None:
        self.store = store
        self.pages: list[tuple[int, Any]] = []
        self.meanwhile: list[Any] = []

    def read_streams(self, streams, *, at=None, after=None, limit=None):
        reads = self.store.reads_before_append
        page = reads.read_streams(streams, at=at, after=after, limit=limit)
        self.pages.append((len(page.events), at))
        if self.meanwhile:
            self.store.append(self.meanwhile.pop())
        return page


class Watched:
    """A store whose pages are counted."""

    def __init__(self, store: eb.EventStore) -> None:
        self.reads = Reads(store)
        self.coordination = store.coordination
        self.append = store.append
        self.committed = store.committed
        self.read_all = store.read_all
        self.read_stream = store.read_stream

    @property
    def reads_before_append(self) -> Reads:
        return self.reads

    def read_streams(self, streams, *, at=None, after=None):
        raise AssertionError


@pytest.fixture
def store():
    folded.clear()
    versions.clear()
    states.clear()
    with eb.open("memory:") as opened:
        yield opened


def fill(store, stream, count):
    store.append([eb.new_event(stream, Counted())] * count)


@pytest.mark.parametrize("length", [1, EVENTS_LIMIT, EVENTS_LIMIT + 1, 100, LONG])
def test_each_event_is_read_and_folded_once_in_pages(store, length):
    fill(store, "counter-1", length)
    watched = Watched(store)
    executor = eb.Executor(watched)
    assert executor.execute(Count(counter="counter-1")).attempts == 1
    sizes = [size for size, _ in watched.reads.pages]
    assert sum(sizes) == length
    assert max(sizes) <= PAGE_EVENTS
    assert len(sizes) <= 2 + length // PAGE_EVENTS
    # The last one is the event of the command itself.
    assert folded == [("counter-1", n + 1) for n in range(length + 1)]
    assert executor.load(Counter("counter-1")) == StreamState(length + 1, length + 1)


def test_a_query_reads_in_pages(store):
    fill(store, "counter-1", LONG)
    watched = Watched(store)
    loaded = eb.Executor(watched).load(Counter("counter-1"))
    assert loaded == StreamState(LONG, LONG)
    assert [size for size, _ in watched.reads.pages] == [*[PAGE_EVENTS] * 3, 500]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (-1, eb.errors.InvalidArgument),
        (2**64, eb.errors.InvalidArgument),
        (True, TypeError),
        ("many", TypeError),
        (1.5, TypeError),
    ],
)
def test_an_invalid_limit_is_refused(store, bad, error):
    with pytest.raises(error, match="limit"):
        store.reads_before_append.read_streams(["counter-1"], limit=bad)


def test_large_events_are_read_in_smaller_pages(store):
    @eb.event("long.noted")
    class Noted:
        text: str

    class Notes(eb.Stream[Noted, int], category="notes"):
        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Noted, /) -> int:
            return state + len(event.text)

    note = eb.new_event("notes-1", Noted("x" * 2**20))
    for _ in range(4):
        store.append([note] * 5)
    watched = Watched(store)
    loaded = eb.Executor(watched).load(Notes("notes-1"))
    assert loaded == StreamState(20 * 2**20, 20)
    assert {size for size, _ in watched.reads.pages} == {1}


def test_many_short_streams_are_read_together(store):
    ids = [f"counter-{number}" for number in range(1_000)]
    for _ in range(3):
        store.append([eb.new_event(one, Counted()) for one in ids])
    watched = Watched(store)
    executor = eb.Executor(watched)
    assert executor.execute(CountAll(counters=ids)).attempts == 1
    assert [size for size, _ in watched.reads.pages] == [1024, 1024, 952]
    assert len(folded) == 3_001
    assert executor.load(Counter("counter-999")) == StreamState(3, 3)


def test_all_pages_are_of_one_moment(store):
    """Events that others append between two pages don't get into some of the states."""
    for stream in ("counter-1", "counter-2"):
        fill(store, stream, LONG)
    watched = Watched(store)
    both = [eb.new_event(one, Counted()) for one in ("counter-1", "counter-2")]
    watched.reads.meanwhile = [both]
    done = eb.Executor(watched).execute(CountBoth(one="counter-1", other="counter-2"))
    assert versions == [(LONG + 1, LONG + 1)]
    assert done.attempts == 1
    positions = {at for _, at in watched.reads.pages[1:]}
    # The first page was that of the short way, which found too many events.
    assert positions == {None, 2 * LONG + 2}

    versions.clear()
    watched.reads.pages.clear()
    watched.reads.meanwhile = [both, both]
    executor = eb.Executor(watched)
    executor._engine._shared.get()[1].clear()
    done = executor.execute(CountBoth(one="counter-1", other="counter-2"))
    first = (LONG + 3, LONG + 2)
    assert versions == [first, (LONG + 4, LONG + 3)]
    assert done.attempts == 2


def test_states_of_one_moment_are_read_in_pages_too(store):
    """A rejection is confirmed on states of one position."""

    class Refuse(eb.Command):
        one: eb.Declared[Counter]
        other: eb.Declared[Counter]

        def decide(self) -> Iterator[eb.Write]:
            versions.append((self.one.version, self.other.version))
            eb.require(self.one.version > LONG, "too_few")
            yield self.one.write(Counted())

    class Warm(eb.Command):
        one: eb.Declared[Counter]

        def decide(self) -> Iterator[eb.Write]:
            yield from ()

    for stream in ("counter-1", "counter-2"):
        fill(store, stream, LONG)
    watched = Watched(store)
    executor = eb.Executor(watched)
    executor.execute(Warm(one="counter-1"))
    # Longer than a page, so that it can't be read at once.
    fill(store, "counter-1", LONG)
    watched.reads.pages.clear()
    executor.execute(Refuse(one="counter-1", other="counter-2"))
    assert versions == [(LONG, LONG), (2 * LONG, LONG)]
    assert max(size for size, _ in watched.reads.pages) <= PAGE_EVENTS


@pytest.mark.parametrize("length", [20, 700, LONG])
def test_a_state_of_a_command_is_folded_in_order_from_pages_of_many_streams(
    store, length
):
    both = [eb.new_event(one, Counted()) for one in ("counter-1", "counter-2")]
    store.append(both * length)
    watched = Watched(store)
    executor = eb.Executor(watched)
    command = Totals(counters=["counter-1", "counter-2"])
    done = executor.execute(command)
    assert done.versions == {"counter-1": length + 1}
    assert [position for _, position in folded] == [*range(1, 2 * length + 1)]
    sizes = [size for size, _ in watched.reads.pages]
    assert sum(sizes) == 2 * length
    assert max(sizes) <= PAGE_EVENTS
    # The pages are cached one by one: only the new event is read.
    watched.reads.pages.clear()
    folded.clear()
    executor.execute(command)
    assert [position for _, position in folded] == [*range(1, 2 * length + 2)]
    assert [size for size, _ in watched.reads.pages] == [1]


def test_the_pages_of_a_state_of_a_command_are_of_one_position(store):
    both = [eb.new_event(one, Counted()) for one in ("counter-1", "counter-2")]
    store.append(both * LONG)
    watched = Watched(store)
    watched.reads.meanwhile = [both]
    command = Totals(counters=["counter-1", "counter-2"])
    assert eb.Executor(watched).execute(command).attempts == 2
    # After the conflict, the state is continued from the first one.
    assert [position for _, position in folded] == [*range(1, 2 * LONG + 3)]


def test_a_store_without_a_limit_of_its_reads_can_be_used(store):
    class Unlimited:
        coordination = store.coordination
        append = store.append
        committed = store.committed
        read_streams = store.read_streams

    fill(store, "counter-1", LONG)
    executor = eb.Executor(Unlimited())
    assert executor.execute(Count(counter="counter-1")).attempts == 1
    assert executor.load(Counter("counter-1")) == StreamState(LONG + 1, LONG + 1)
    assert [version for _, version in folded] == [*range(1, LONG + 2)]


def test_a_mutable_state_is_folded_in_pages_by_each_command_alone(store):
    fill(store, "lists-1", LONG)
    executor = eb.Executor(store)
    assert executor.execute(Append(list="lists-1")).attempts == 1
    assert executor.execute(Append(list="lists-1")).attempts == 1
    assert [len(state) for state in states] == [LONG, LONG + 1]
    assert states[0] is not states[1]
    assert executor.load(Lists("lists-1")).state == [1] * (LONG + 2)
    assert len(folded) == LONG + 2


@pytest.mark.parametrize("length", [100, LONG])
def test_without_a_cache_each_command_reads_all_events(store, length):
    fill(store, "counter-1", length)
    executor = eb.Executor(store, state_cache_bytes=0)
    for number in range(3):
        assert executor.execute(Count(counter="counter-1")).versions == {
            "counter-1": length + 1 + number
        }


# --- folds that don't finish -----------------------------------------------------------


def test_a_command_that_ends_at_its_deadline_leaves_its_work_to_the_next(store):
    fill(store, "slow-1", LONG)
    executor = eb.Executor(store)
    began = time.monotonic()
    with pytest.raises(eb.errors.DeadlineExceeded):
        executor.execute(
            CountSlowly(counter="slow-1"), deadline=timedelta(milliseconds=350)
        )
    # The whole fold takes at least 0.7 s.
    assert len(folded) < LONG
    assert time.monotonic() - began < LONG * 0.0002 + 0.35
    executor.execute(CountSlowly(counter="slow-1"))
    assert len(folded) < LONG + 1 + PAGE_EVENTS
    assert executor.load(Slow("slow-1")) == StreamState(LONG + 1, LONG + 1)


def test_the_unfinished_fold_of_an_old_class_is_not_continued(store):
    fill(store, "slow-1", LONG)
    executor = eb.Executor(store)
    with pytest.raises(eb.errors.DeadlineExceeded):
        executor.execute(
            CountSlowly(counter="slow-1"), deadline=timedelta(milliseconds=350)
        )
    executor.registry.generation += 1
    folded.clear()
    executor.execute(CountSlowly(counter="slow-1"))
    assert len(folded) == LONG + 1


def test_unfinished_folds_are_bounded_in_number(store):
    _, cache = eb.Executor(store)._engine._shared.get()
    for number in range(1_000):
        entry = (number, number, True, 0, 0)
        cache.note_progress(Counter, f"counter-{number}", entry, cache._generation)
    assert len(cache.progress) == 64
    assert cache.find_progress(Counter, "counter-999", cache._generation)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [CountSlowly, Append])
async def test_tasks_that_need_one_long_stream_fold_it_together(
    anyio_backend, monkeypatch, kind
):
    """The turn of the first one is over long before its fold is."""
    monkeypatch.setattr(_queue, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr("eventbraid.command._execution.TURN_SECONDS", 0.01)
    folded.clear()
    stream = "slow-1" if kind is CountSlowly else "lists-1"
    tasks_count, length = 20, 2 * LONG
    async with eb.open_async("memory:") as store:
        for _ in range(2):
            await store.append([eb.new_event(stream, Counted())] * LONG)
        retry = eb.RetryPolicy(maximum_attempts=1_000)
        executor = eb.AsyncExecutor(store, retry=retry)
        command = kind(**{"counter" if kind is CountSlowly else "list": stream})
        async with anyio.create_task_group() as tasks:
            for _ in range(tasks_count):
                tasks.start_soon(executor.execute, command)
        assert await store.version(stream) == length + tasks_count
    if kind is CountSlowly:
        # Each task may fold one page that another one folds at the same time.
        assert len(folded) < length + tasks_count * PAGE_EVENTS
    assert len(set(folded)) == length + tasks_count


@pytest.mark.parametrize("kind", [CountSlowly, Append])
def test_threads_that_need_one_long_stream_lose_no_event(store, kind):
    stream = "slow-1" if kind is CountSlowly else "lists-1"
    fill(store, stream, LONG)
    fill(store, stream, LONG)
    executor = eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=1_000))
    command = kind(**{"counter" if kind is CountSlowly else "list": stream})
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(executor.execute, [command] * 16))
    expected = range(2 * LONG + 1, 2 * LONG + 17)
    assert sorted(one.versions[stream] for one in done) == [*expected]
    loaded = executor.load(Slow(stream) if kind is CountSlowly else Lists(stream))
    total = 2 * LONG + 16
    assert loaded.version == total
    assert loaded.state == (total if kind is CountSlowly else [1] * total)
    # Each event was folded in order by each fold that reached it.
    assert set(folded) == {(stream, number + 1) for number in range(total)}


@pytest.mark.anyio
async def test_a_cancelled_command_leaves_its_work_to_the_next(anyio_backend):
    folded.clear()
    async with eb.open_async("memory:") as store:
        await store.append([eb.new_event("slow-1", Counted())] * LONG)
        executor = eb.AsyncExecutor(store)
        with anyio.move_on_after(0.35) as scope:
            await executor.execute(CountSlowly(counter="slow-1"))
        assert scope.cancelled_caught
        assert 0 < len(folded) < LONG
        await executor.execute(CountSlowly(counter="slow-1"))
        assert len(folded) < LONG + 1 + PAGE_EVENTS


# --- snapshots -------------------------------------------------------------------------


def test_a_cold_command_reads_the_events_after_a_snapshot_before_it_decides(tmp_path):
    class Saved(eb.Stream[Counted, int], category="saved", snapshot_every=PAGE_EVENTS):
        def initial(self) -> int:
            return 0

        def apply(self, state: int, event: Counted, /) -> int:
            folded.append((self.id, state + 1))
            return state + event.by

    class CountSaved(eb.Command):
        counter: eb.Declared[Saved]

        def decide(self) -> Iterator[eb.Write]:
            yield self.counter.write(Counted())

    with eb.open(tmp_path / "s") as store:
        fill(store, "saved-1", LONG)
        eb.Executor(store).load(Saved("saved-1"))
        fill(store, "saved-1", 10)
    folded.clear()
    with eb.open(tmp_path / "s") as store:
        done = eb.Executor(store).execute(CountSaved(counter="saved-1"))
        assert done.attempts == 1
        assert folded == [("saved-1", LONG + n + 1) for n in range(11)]


# --- the event loop and the memory -----------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["memory:", "disk"])
@pytest.mark.parametrize(
    "command", [Count(counter="counter-1"), Totals(counters=["counter-1"])]
)
async def test_a_long_read_holds_the_event_loop_for_at_most_5_ms(
    anyio_backend, where, command, tmp_path
):
    """Measured in the time of the loop's thread: other processes don't disturb it."""
    count = 60_000
    async with eb.open_async(tmp_path / "s" if where == "disk" else where) as store:
        for _ in range(count // 10_000):
            await store.append([eb.new_event("counter-1", Counted())] * 10_000)
        executor = eb.AsyncExecutor(store)
        # The codec of the event is built at its first use.
        await executor.load(Counter("counter-other"))
        watch = StepsOfTrio() if trio.lowlevel.in_trio_run() else TurnsOfAsyncio()
        gc.collect()
        gc.disable()
        try:
            async with watch:
                await executor.execute(command)
        finally:
            gc.enable()
    assert watch.count > 10
    assert watch.longest < 0.005


class TurnsOfAsyncio:
    """The longest time between two turns of a task, which runs in each turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.count = 0

    async def __aenter__(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            self.count += 1
            last = now


class StepsOfTrio(trio.abc.Instrument):
    """The longest step of a task. Trio runs the tasks of a turn in a random order."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.count = 0
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = time.thread_time()
        trio.lowlevel.add_instrument(self)

    async def __aexit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.thread_time() - self._began)
        self.count += 1


_LOAD = '''
import asyncio, sys
import eventbraid as eb

@eb.event("long.measured")
class Measured:
    text: str

class Counter(eb.Stream[Measured, int], category="counter"):
    def initial(self):
        return 0

    def apply(self, state, event, /):
        return state + 1

class Count(eb.Command):
    counter: eb.Declared[Counter]

    def decide(self):
        yield self.counter.write(Measured("x"))

def peak(*, reset=False):
    """Return the peak of the resident memory in MiB, since the last reset."""
    if reset:
        with open("/proc/self/clear_refs", "w") as peaks:
            peaks.write("5")
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if "VmHWM" in line) / 1024

def fill(path, stream, count):
    with eb.open(path) as store:
        event = eb.new_event(stream, Measured("x" * 100))
        for _ in range(count // 5_000):
            store.append([event] * 5_000)

async def in_loop(path, stream):
    async with eb.open_async(path, cache_size=1 << 20) as store:
        return await measured(eb.AsyncExecutor(store), stream)

def in_thread(path, stream):
    with eb.open(path, cache_size=1 << 20) as store:
        executor = eb.Executor(store)
        executor.execute(Count(counter="counter-short"))
        before = peak(reset=True)
        executor.execute(Count(counter=stream))
        return peak() - before

async def measured(executor, stream):
    await executor.execute(Count(counter="counter-short"))
    before = peak(reset=True)
    await executor.execute(Count(counter=stream))
    return peak() - before

path, way = sys.argv[1:]
if way == "fill":
    fill(path, "counter-short", 5_000)
    fill(path, "counter-long", 150_000)
elif way == "thread":
    print(in_thread(path, "counter-long"))
else:
    print(asyncio.run(in_loop(path, "counter-long")))
'''


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(
    sys.platform != "linux", reason="the peak of a process can only be reset on Linux"
)
def test_the_memory_for_a_read_does_not_grow_with_the_stream(tmp_path):
    """Without pages, the 150,000 events took 39 MiB."""
    path = tmp_path / "s"
    run(path, "fill")
    for way in ("thread", "loop"):
        assert float(run(path, way)) < 8
