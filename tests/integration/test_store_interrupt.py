"""Ctrl-C ends every blocked call at once; an append says that its outcome is unknown.

The hazard: a program that only SIGKILL can end, or an append that was interrupted,
counted as refused, and happened.
"""

from __future__ import annotations

import signal
import time

import pytest

import eventbraid as eb
from tests.contract import programs

AT_ONCE = 2.0

FOLLOW = """
    import sys
    with eb.open(sys.argv[1]) as store, store.subscribe() as subscription:
        print("waiting", flush=True)
        try:
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
        timer.start()
        try:
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
            print(interruption.outcome_unknown, "runs on" in note, again.replayed)
"""


def test_ctrl_c_in_an_append_says_that_the_commit_runs_on(tmp_path):
    # How much the disk takes in a twentieth of a second nobody knows: ask for more until
    # the append has to wait for longer than that.
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
