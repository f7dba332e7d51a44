"""Processes that work on one store, and what they told.

`Member` is one process, `Crew` all of them. The parent only reads what they tell; it kills,
stops and ends them by their own ids.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.histories.log import Log, entries_of
from tests.histories.program import Orders, opened
from tests.histories.history import Closed, History, Line, decoded, encode

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
TROUBLED = 3
"""What a program ends with that does not open a store again, but tells of its trouble."""


class Member:
    """One process."""

    def __init__(self, orders: Orders, program: Path | None = None) -> None:
        """Start it.

        Args:
            orders: What it is to do.
            program: What is to do it; the Python program, if none is named.
        """
        command = [sys.executable, "-m", "tests.histories.program"]
        if program is not None:
            command = [str(program)]
        self.orders = orders
        self.process = subprocess.Popen(
            [*command, msgspec.json.encode(orders).decode()],
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
                (self.process.stdout, self._parts),
                (self.process.stderr, self._errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        """Hold it wherever it is."""
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.stopped = False

    def end(self) -> None:
        """Ask it to close the store and end."""
        self.process.stdin.close()

    def wait(self) -> int:
        """Wait for its end, and for all that it told.

        One that does not end is made to say where it is, and counts as failed.
        """
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        return code

    def told(self) -> list[Line]:
        return list(decoded(b"".join(self._parts)))

    def errors(self) -> str:
        return b"".join(self._errors).decode(errors="replace")

    def is_fine(self, lines: list[Line]) -> bool:
        """Whether it was killed, or closed the store by itself, with trouble or without."""
        if self.process.returncode == -signal.SIGKILL:
            return True
        closed = bool(lines) and isinstance(lines[-1], Closed)
        return closed and self.process.returncode in {0, TROUBLED}

    @staticmethod
    def _drain(pipe, parts: list[bytes]) -> None:
        while part := os.read(pipe.fileno(), 1 << 16):
            parts.append(part)


@dataclass
class Crew:
    """Processes on one store, one history.

    Attributes:
        orders: What each process does, but for its name and seed.
        history: What those told that have ended.
        failed: What went wrong with processes themselves.
        told: What each of those that have ended told, as it told it.
    """

    orders: Orders
    history: History = field(default_factory=History)
    failed: list[str] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    started: int = 0
    told: dict[str, list[Line]] = field(default_factory=dict)

    def start(self, program: Path | None = None, **changes: object) -> Member:
        """Start one more process, with other orders where `changes` has them."""
        self.started += 1
        changes = {
            "name": f"{self.orders.name}{self.started}",
            "seed": self.orders.seed + self.started,
            **changes,
        }
        member = Member(msgspec.structs.replace(self.orders, **changes), program)
        self.members.append(member)
        return member

    def gather(self, member: Member) -> None:
        """Wait for the end of a process and take what it told."""
        code = member.wait()
        self.members.remove(member)
        lines = member.told()
        self.history.add(member.orders.name, lines)
        self.told[member.orders.name] = lines
        if not member.is_fine(lines):
            what = f"{member.orders.name} ended with {code}: {member.errors()[-2000:]}"
            self.failed.append(what)

    def gather_all(self) -> None:
        for member in list(self.members):
            self.gather(member)

    def keep(self, directory: Path) -> None:
        """Write down what each told, a file each, for somebody to look at."""
        directory.mkdir(parents=True)
        for name, lines in self.told.items():
            text = b"".join(encode(line) + b"\n" for line in lines)
            (directory / f"{name}.jsonl").write_bytes(text)

    def dismiss(self) -> None:
        """End all that is left, however it is."""
        for member in list(self.members):
            member.kill()
            member.wait()
        self.members.clear()


def read_log(orders: Orders, after: Log | None = None) -> Log:
    """Read the log of a store, from where an earlier part of it ended."""
    store = opened(orders)
    try:
        if after is None:
            return Log(entries_of(store.read_all()))
        entries = entries_of(store.read_all(after=after.head))
        return Log(entries, after.head, after.contents_after())
    finally:
        store.close()
