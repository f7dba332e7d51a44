"""Ctrl-C ends every blocked call at once; an append says that its outcome is unknown.

The hazard: a program that only SIGKILL can end, or an append that was interrupted,
counted as refused, and happened.
"""

from __future__ import annotations

import contextlib
import gc
import pathlib
import random
import signal
import time
import traceback

import pytest

import eventbraid as eb
from tests.contract import programs

AT_ONCE = 60.0
"""Seconds: a call that Ctrl-C does not end lasts for ever."""

FOLLOW = """
    import sys
    with eb.open(sys.argv[1]) as store, store.subscribe() as subscription:
        try:
            print("waiting", flush=True)
            next(subscription)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        store.append([("a", "x", b"")])
        print(next(subscription).stream, flush=True)
"""

FOLLOW_ASYNC = """
    import sys, {library}

    async def main():
        async with eb.open_async(sys.argv[1]) as store:
            print("waiting", flush=True)
            async for _ in store.subscribe():
                pass

    try:
        {library}.run(main{call})
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    with eb.open(sys.argv[1]) as store:
        store.append([("a", "x", b"")])
        print("a", flush=True)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(FOLLOW, id="sync"),
        pytest.param(FOLLOW_ASYNC.format(library="asyncio", call="()"), id="asyncio"),
        pytest.param(FOLLOW_ASYNC.format(library="trio", call=""), id="trio"),
    ],
)
def test_ctrl_c_ends_a_subscription_that_waits(program, tmp_path):
    with programs.started(program, tmp_path / "store.braid") as process:
        assert programs.line(process) == "waiting"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert programs.line(process) == "interrupted"
        assert time.monotonic() - sent < AT_ONCE
        assert programs.line(process) == "a"
        assert process.wait(AT_ONCE) == 0


# The append of the main thread queues behind so much that it has to wait.
APPEND = """
    import asyncio, os, signal, sys, threading
    body = bytes(8 * 2**20 - 1000)

    async def main(store, load):
        face = store.as_async()
        queued = [
            asyncio.create_task(face.append([("load", "x", body)])) for _ in range(load)
        ]
        await asyncio.sleep(0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
        try:
            # On a busy machine, the signal may arrive before `start` returns.
            timer.start()
            store.append([("a", "x", b"")], idempotency_key="mine")
            timer.join()
        except KeyboardInterrupt as interruption:
            return interruption
        finally:
            await asyncio.gather(*queued)

    with eb.open(sys.argv[1]) as store:
        interruption = asyncio.run(main(store, int(sys.argv[2])))
        if not hasattr(interruption, "outcome_unknown"):
            # It came a moment before the append began, or after it had ended.
            print("missed")
        else:
            again = store.append([("a", "x", b"")], idempotency_key="mine")
            note = "".join(interruption.__notes__)
            print(interruption.outcome_unknown, "continues" in note, again.replayed)
"""


def test_ctrl_c_in_an_append_says_that_the_commit_runs_on(tmp_path):
    # The disk's throughput is unknown: increase the load until the append waits for longer
    # than a twentieth of a second.
    for attempt, load in enumerate((4, 8, 8, 16, 16, 32)):
        location = tmp_path / f"store-{attempt}.braid"
        done = programs.run(APPEND, location, load, seconds=60)
        assert done.returncode == 0, done.stderr
        if done.stdout.strip() != "missed":
            break
    assert done.stdout.strip() == "True True True"


def test_an_interrupted_opening_leaves_a_store_that_opens(tmp_path):
    location = tmp_path / "store.braid"
    with eb.open(location) as store:
        for _ in range(20):
            store.append([("a", "x", bytes(1_000_000))])
    program = """
        import os, signal, sys, threading
        threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            eb.open(sys.argv[1]).close()
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = programs.run(program, location, warnings="ignore")
    assert done.returncode in {0, -signal.SIGINT}, done.stderr
    with eb.open(location) as store:
        assert store.head() == 20


# --- interruptions at any moment ---------------------------------------------------------


@pytest.fixture
def no_finalizers():
    """Let no finalizer of an earlier test be what a signal handler interrupts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Interruption(BaseException):
    """What a signal handler raises."""


@contextlib.contextmanager
def interrupted_after(seconds):
    """Have a signal handler raise in the block, if the block takes that long."""
    armed = True

    def interrupt(_number, _frame):
        if armed:
            raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


PACKAGE = str(pathlib.Path(eb.__file__).parent)


def is_raised_inside(error):
    """Whether a signal handler raised in a frame of the library.

    It may also raise in the test or in `contextlib`, when the call has returned.
    """
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename.startswith(PACKAGE) for frame, _ in frames)


@eb.event("interrupt-test.raised")
class Raised:
    by: int


class Counter(eb.Stream[Raised], category="counter"): ...


class Raise(eb.StatefulCommand[int, Raised]):
    counter: eb.Declared[Counter]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + recorded.event.by

    def decide(self, state, /):
        yield self.counter.write(Raised(1))


class RaiseDirectly(eb.Command):
    counter: eb.Declared[Counter]

    def decide(self):
        yield self.counter.write(Raised(1))


def appended(store, executor):
    store.append([("counter-1", "interrupt-test.raised", b'{"by":1}')])


def executed(store, executor):
    executor.execute(Raise(counter="counter-1"))


def executed_fast(store, executor):
    executor.execute(RaiseDirectly(counter="counter-1"))


# An execution that is interrupted before its coroutine starts is never awaited.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("write", [appended, executed, executed_fast])
@pytest.mark.usefixtures("no_finalizers")
def test_an_interruption_after_the_commit_began_says_so_at_any_moment(tmp_path, write):
    chance = random.Random(7)
    silent = inside = 0
    with eb.open(tmp_path / "store.braid") as store:
        executor = eb.Executor(store)
        began = time.perf_counter()
        for _ in range(50):
            write(store, executor)
        longest = 2 * (time.perf_counter() - began) / 50
        ends_at = time.monotonic() + 10
        while inside <= 20 or (inside < 500 and time.monotonic() < ends_at):
            # An append that was interrupted before may be in progress still. This one is
            # decided after it.
            store.append([], expect={"counter-1": eb.EXISTS})
            version = store.version("counter-1")
            try:
                with interrupted_after(chance.uniform(1e-6, longest)):
                    write(store, executor)
            except Interruption as error:
                if not is_raised_inside(error):
                    continue
                inside += 1
                is_written = store.version("counter-1") > version
                silent += is_written and not getattr(error, "outcome_unknown", False)
    assert silent == 0


def test_what_is_raised_before_the_commit_is_not_marked():
    def events():
        yield ("a", "x", b"")
        raise KeyboardInterrupt

    with eb.open("memory:") as store:
        with pytest.raises(KeyboardInterrupt) as interrupted:
            store.append(events())
        assert not hasattr(interrupted.value, "outcome_unknown")
        with pytest.raises(eb.VersionConflict) as refused:
            store.append([("a", "x", b"")], expect={"a": 3})
        assert not hasattr(refused.value, "outcome_unknown")
        assert store.head() == 0


@pytest.mark.usefixtures("no_finalizers")
def test_a_subscription_goes_on_with_the_next_event_after_interruptions():
    with eb.open("memory:") as store:
        for _ in range(20):
            store.append([("a", "x", b"")] * 500)
        chance, seen = random.Random(7), []
        with store.subscribe() as subscription:
            # The position also counts an event that the test itself has missed.
            while subscription.position < 10_000:
                with (
                    contextlib.suppress(Interruption),
                    interrupted_after(chance.uniform(20e-6, 2e-3)),
                ):
                    for recorded in subscription:
                        seen.append(recorded.position)
                        if recorded.position == 10_000:
                            break
    missed = 10_000 - len(set(seen))
    # The test itself may be interrupted between an event's arrival and its note of it.
    assert len(seen) - len(set(seen)) == 0
    assert seen == sorted(seen)
    assert missed <= 10
