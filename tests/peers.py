"""Other processes with the same store open, which execute code line by line."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from tests.contract import programs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator
    from pathlib import Path

_PROGRAM = """
    import asyncio, os, sys, threading
    sys.path.insert(0, sys.argv[3])

    def failures(conflict):
        return [(one.stream, one.actual) for one in conflict.failures]

    def answered(code):
        try:
            return eval(code)
        except eb.VersionConflict as conflict:
            return "VersionConflict", failures(conflict)
        except eb.EventbraidError as error:
            return type(error).__name__, str(error)

    print("started", flush=True)
    sys.stdin.readline()
    try:
        store = eb.open(sys.argv[1], **eval(sys.argv[2]))
    except eb.EventbraidError as error:
        print(repr((type(error).__name__, str(error))), flush=True)
        sys.exit(0)
    print(repr("open"), flush=True)
    for line in sys.stdin:
        print(repr(answered(line)), flush=True)
    store.close()
"""


class Peer:
    """A process that evaluates expressions with its open `store`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def tell(self, code: str) -> None:
        """Send an expression, whose result is the next answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{code}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the result of the first expression without an answer."""
        line = programs.line(self.process)
        assert line, self.process.communicate()[1]
        return ast.literal_eval(line)

    def ask(self, code: str) -> Any:
        """Send an expression, and wait for its result."""
        self.tell(code)
        return self.answer()

    def append(self, stream: str, data: bytes = b"") -> int:
        """Append an event in the process, and return the position."""
        event = (stream, "x", data)
        position: int = self.ask(f"store.append([{event!r}]).last_position")
        return position

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait(60)

    @contextlib.contextmanager
    def stopped(self) -> Generator[None]:
        """Stop the process at its present instruction."""
        os.kill(self.pid, signal.SIGSTOP)
        # Until all of its threads are stopped.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Let the process close the store and end, and assert that it had no error."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None
        _, errors = self.process.communicate(timeout=60)
        assert (self.process.returncode, errors) == (0, "")


_LOCKS_OF_THE_LOG = ("write.lock", "sync.lock")


@contextlib.contextmanager
def stopped_between_writes(pid: int, location: Path) -> Generator[None]:
    """Stop a child process at a moment when it holds no lock of the log.

    A process that holds such a lock stops all writers. It may hold the sync lock for a
    moment after its append has returned.
    """
    stop_between_writes(pid, location)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stop_between_writes(pid: int, location: Path) -> None:
    """Stop a child process at a moment when no process holds a lock of the log."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        # Until all of its threads are stopped.
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        if _are_locks_free(location):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)


def _are_locks_free(location: Path) -> bool:
    for name in _LOCKS_OF_THE_LOG:
        with (location / "locks" / name).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


@contextlib.contextmanager
def peer(location: Path, **options: Any) -> Generator[Peer]:
    """Start a process that opens the store, or reports why it cannot."""
    with peers(location, 1, **options) as [one]:
        yield one


@contextlib.contextmanager
def peers(location: Path, count: int, **options: Any) -> Generator[list[Peer]]:
    """Start several processes that open the store at the same time."""
    root = os.getcwd()  # noqa: PTH109 - passed on as text
    with contextlib.ExitStack() as started:
        arguments = (_PROGRAM, location, repr(options), root)
        all_of_them = [
            Peer(
                started.enter_context(
                    programs.started(*arguments, stdin=programs.PIPE, warnings="error")
                )
            )
            for _ in range(count)
        ]
        for one in all_of_them:
            assert programs.line(one.process) == "started"
        for one in all_of_them:
            one.tell("")
        for one in all_of_them:
            assert one.answer() == "open"
        yield all_of_them


def refused(location: Path, **options: Any) -> tuple[str, str]:
    """Open the store in a process that must fail, and return the error and its text."""
    with programs.started(
        _PROGRAM, location, repr(options), ".", stdin=programs.PIPE
    ) as process:
        one = Peer(process)
        assert programs.line(process) == "started"
        one.tell("")
        error: tuple[str, str] = one.answer()
        return error
