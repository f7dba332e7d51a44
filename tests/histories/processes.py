"""Processes that work on one store, and the lines that they write.

`StoreProcess` is one process, `ProcessGroup` all of them. The parent only reads their
lines; it kills, stops and ends them by their own ids.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.histories.history import Closed, History, Line, decoded, encode
from tests.histories.log import Log, entries_of
from tests.histories.program import Workload, opened

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0
STORE_PROGRAM = "tests.histories.program"

Decode = Callable[[bytes], Iterable[Any]]
EXIT_AFTER_FAILURE = 3
"""The exit code of a program that reports a failure of its store and does not reopen it."""


class StoreProcess:
    """One process."""

    def __init__(
        self,
        workload: Any,
        program: Path | None = None,
        *,
        module: str = STORE_PROGRAM,
        decode: Decode = decoded,
    ) -> None:
        """Start the process.

        Args:
            workload: The operations of the process.
            program: The program that executes them; `None` is the Python module.
            module: The Python module that executes them.
            decode: Decodes the lines of the program.
        """
        command = [sys.executable, "-m", module]
        self._decode = decode
        if program is not None:
            command = [str(program)]
        self.workload = workload
        self.popen = subprocess.Popen(
            [*command, msgspec.json.encode(workload).decode()],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.stopped = False
        self._parts: list[bytes] = []
        self._errors: list[bytes] = []
        self._readers = [
            threading.Thread(target=self._drain, args=args, daemon=True)
            for args in (
                (self.popen.stdout, self._parts),
                (self.popen.stderr, self._errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        self.popen.kill()

    def stop(self) -> None:
        """Stop the process at its present instruction."""
        self.popen.send_signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)
        self.stopped = False

    def request_end(self) -> None:
        """Request that the process closes the store and ends."""
        self.popen.stdin.close()

    def wait(self) -> int:
        """Wait for the end of the process and of its output.

        A process that does not end prints its stacks upon SIGQUIT, and counts as failed.
        """
        try:
            code = self.popen.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGQUIT)
            code = self.popen.wait(TIMEOUT)
        for reader in self._readers:
            reader.join(TIMEOUT)
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            pipe.close()
        return code

    def lines(self) -> list[Any]:
        """Return the lines that the process has written so far."""
        return list(self._decode(b"".join(self._parts)))

    def errors(self) -> str:
        return b"".join(self._errors).decode(errors="replace")

    def ended_normally(self, lines: list[Line]) -> bool:
        """Whether the process was killed, or closed the store by itself."""
        if self.popen.returncode == -signal.SIGKILL:
            return True
        closed = bool(lines) and isinstance(lines[-1], Closed)
        return closed and self.popen.returncode in {0, EXIT_AFTER_FAILURE}

    @staticmethod
    def _drain(pipe, parts: list[bytes]) -> None:
        while part := os.read(pipe.fileno(), 1 << 16):
            parts.append(part)


@dataclass
class ProcessGroup:
    """Processes on one store, one history.

    Attributes:
        workload: The workload of each process, without its name and seed.
        history: The operations of the processes that have ended.
        module: The Python module that each process executes.
        decode: Decodes the lines of the module.
        failed: Failures of the processes themselves.
        lines: The lines of each process that has ended.
    """

    workload: Any
    history: Any = field(default_factory=History)
    module: str = STORE_PROGRAM
    decode: Decode = decoded
    failed: list[str] = field(default_factory=list)
    processes: list[StoreProcess] = field(default_factory=list)
    started: int = 0
    lines: dict[str, list[Line]] = field(default_factory=dict)

    def start(self, program: Path | None = None, **changes: object) -> StoreProcess:
        """Start one more process, with another workload where `changes` has fields of it."""
        self.started += 1
        changes = {
            "name": f"{self.workload.name}{self.started}",
            "seed": self.workload.seed + self.started,
            **changes,
        }
        process = StoreProcess(
            msgspec.structs.replace(self.workload, **changes),
            program,
            module=self.module,
            decode=self.decode,
        )
        self.processes.append(process)
        return process

    def collect(self, process: StoreProcess) -> None:
        """Wait for the end of a process and add its lines to the history."""
        code = process.wait()
        self.processes.remove(process)
        lines = process.lines()
        self.history.add(process.workload.name, lines)
        self.lines[process.workload.name] = lines
        if not process.ended_normally(lines):
            failure = (
                f"{process.workload.name} ended with {code}: {process.errors()[-2000:]}"
            )
            self.failed.append(failure)

    def collect_all(self) -> None:
        for process in list(self.processes):
            self.collect(process)

    def save_lines(self, directory: Path) -> None:
        """Write the lines of each process to a file, for the analysis of a failure."""
        directory.mkdir(parents=True)
        for name, lines in self.lines.items():
            text = b"".join(encode(line) + b"\n" for line in lines)
            (directory / f"{name}.jsonl").write_bytes(text)

    def kill_all(self) -> None:
        """Kill all remaining processes."""
        for process in list(self.processes):
            process.kill()
            process.wait()
        self.processes.clear()


def read_log(workload: Workload, after: Log | None = None) -> Log:
    """Read the log of a store, from where an earlier part of it ended."""
    store = opened(workload)
    try:
        if after is None:
            return Log(entries_of(store.read_all()))
        entries = entries_of(store.read_all(after=after.head))
        return Log(entries, after.head, after.contents_after())
    finally:
        store.close()
