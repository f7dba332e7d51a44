"""A process that ends while its store is at work, in every way that a process can end.

The hazard: an interpreter that never ends, one that dies in a crash because a thread of
ours ran on into its ruins, or an acknowledged event that went down with it.
"""

from __future__ import annotations

import signal

import pytest

import eventbraid as eb
from tests.contract import programs

# Every program records its acknowledged appends in a file before it ends.
APPENDING = """
    import os, sys, threading, time
    store = eb.open(sys.argv[1])
    acknowledgements = open(sys.argv[2], "a", buffering=1)

    def write(number):
        while True:
            done = store.append([(f"s-{number}", "x", bytes(1000))] * 5)
            acknowledgements.write(f"{done.last_position}\\n")

    def started(daemon):
        for number in range(4):
            threading.Thread(target=write, args=(number,), daemon=daemon).start()
        while store.head() < 100:
            time.sleep(0.001)
"""

ENDINGS = {
    "the main thread returns": ("started(daemon=True)", 0),
    "sys.exit": ("started(daemon=True); sys.exit(3)", 3),
    "an exception": ("started(daemon=True); raise SystemExit(4)", 4),
    "os._exit": ("started(daemon=False); os._exit(5)", 5),
    "SIGTERM": ("started(daemon=False); os.kill(os.getpid(), 15); time.sleep(9)", -15),
    "SIGKILL": ("started(daemon=False); os.kill(os.getpid(), 9); time.sleep(9)", -9),
    "abort": ("started(daemon=False); os.abort()", -6),
    "close amid the appends": (
        "threading.excepthook = lambda facts: None\n    started(daemon=False)\n    store.close()",
        0,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_acknowledged_before_the_end_is_there(ending, tmp_path):
    code, expected = ENDINGS[ending]
    location, acknowledgements = tmp_path / "store.braid", tmp_path / "acknowledgements"
    program = f"{APPENDING}\n    {code}\n"
    done = programs.run(program, location, acknowledgements, warnings="ignore")
    assert done.returncode == expected, done.stderr
    acknowledged = [
        int(line) for line in acknowledgements.read_text().splitlines() if line
    ]
    with eb.open(location) as store:
        assert store.head() >= max(acknowledged) >= 5
        assert store.head() % 5 == 0
        assert store.verify().events == store.head()


@pytest.mark.parametrize(
    "waiting",
    [
        "list(store.subscribe())",
        "asyncio.run(follow(store.as_async()))",
        "trio.run(follow, store.as_async())",
    ],
)
@pytest.mark.parametrize("ending", ["", "os._exit(0)", "store.close()"])
def test_a_daemon_that_follows_the_log_keeps_nobody_from_ending(
    waiting, ending, tmp_path
):
    program = f"""
        import asyncio, os, sys, threading, time, trio
        threading.excepthook = lambda facts: None
        store = eb.open(sys.argv[1])

        async def follow(face):
            async for _ in face.subscribe():
                seen.set()

        seen = threading.Event()
        threading.Thread(target=lambda: {waiting}, daemon=True).start()
        store.append([("a", "x", b"")])
        seen.wait(0.3)
        {ending}
    """
    # Ends within the time-out of the run: a thread that keeps it from ending does so for good.
    done = programs.run(program, tmp_path / "store.braid", warnings="ignore")
    assert (done.returncode, done.stderr) == (0, "")
    with eb.open(tmp_path / "store.braid") as store:
        assert store.head() == 1


def test_a_store_that_a_module_holds_is_closed_with_the_interpreter(tmp_path):
    program = """
        import sys
        store = eb.open(sys.argv[1])
        store.append([("a", "x", b"")])
        half_read = store.read_all()
        subscription = store.subscribe()
        next(half_read), next(subscription)
    """
    done = programs.run(program, tmp_path / "store.braid")
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr
    with eb.open(tmp_path / "store.braid") as store:
        assert store.head() == 1


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_ctrl_c_amid_async_appends_ends_the_loop_and_tears_nothing(library, tmp_path):
    program = f"""
        import sys, {library}, anyio

        async def write(store, number):
            while True:
                await store.append([(f"s-{{number}}", "x", b"")] * 3)

        async def main():
            async with eb.open_async(sys.argv[1]) as store:
                async with anyio.create_task_group() as tasks:
                    for number in range(50):
                        tasks.start_soon(write, store, number)
                    await anyio.sleep(0.05)
                    print("at work", flush=True)

        try:
            anyio.run(main, backend={library!r})
        except* KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    location = tmp_path / "store.braid"
    with programs.started(program, location) as process:
        assert programs.line(process) == "at work"
        process.send_signal(signal.SIGINT)
        assert programs.line(process) == "interrupted"
        assert process.wait(60) == 0
    with eb.open(location) as store:
        assert store.head() % 3 == 0
        assert store.verify().events == store.head() > 0


def test_ctrl_c_ends_a_verification(tmp_path):
    location = tmp_path / "store.braid"
    with eb.open(location) as store:
        for _ in range(10):
            store.append([("a", "x", bytes(5_000_000))])
    program = """
        import os, signal, sys, threading
        with eb.open(sys.argv[1]) as store:
            try:
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
                while True:
                    store.verify()
            except KeyboardInterrupt:
                print(store.append([("a", "x", b"")]).last_position)
    """
    done = programs.run(program, location)
    assert (done.returncode, done.stdout.strip()) == (0, "11"), done.stderr


@pytest.mark.parametrize("ending", ["os._exit(7)", "sys.exit(7)", "os.abort()"])
def test_a_child_that_is_forked_amid_appends_ends_by_itself(ending, tmp_path):
    """With a store of its own, or none that it used, and closed or not."""
    program = f"""
    {APPENDING}
    started(daemon=True)
    for number in range(9):
        child = os.fork()
        if child == 0:
            if number % 3:
                store.append([("child", "x", b"")])
            if number % 3 == 2:
                store.close()
            {ending}
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) in (7, -6), status
    """
    location, acknowledgements = tmp_path / "store.braid", tmp_path / "acknowledgements"
    done = programs.run(program, location, acknowledgements, warnings="ignore")
    assert done.returncode == 0, done.stderr
    with eb.open(location) as store:
        assert store.version("child") == 6
        assert store.head() >= max(int(n) for n in acknowledgements.read_text().split())
