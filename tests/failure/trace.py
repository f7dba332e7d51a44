"""The durability of answers, checked in a trace of system calls.

A trace is the output of `strace -f -y -v -s 4096`: a line for each call, `PID
call(arguments) = result`, with the paths of file descriptors. A call during which another
one ended or began has two lines, so that the order of lines is the order of events.

`unfounded` models a disk that loses power: written bytes are not durable until a sync of
the file that began afterwards has returned 0, and a name is not durable until a sync of
its directory has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

CALLS = (
    "openat",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "write",
    "pwrite64",
    "pwritev",
    "fsync",
    "fdatasync",
)

_LINE = re.compile(r"(?P<pid>\d+) +(?P<text>.*)")
_DONE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
_BEGUN = re.compile(r"(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<text>.*)")
_FILE = re.compile(r"\d+<(?P<path>[^>]*)>")
_STRING = re.compile(r'"(?P<text>[^"]*)"')
# A name is looked up in the directory whose descriptor precedes it, if one does.
_NAME = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<directory>[^>]*)>, )?"(?P<text>[^"]*)"')
_TOKEN = re.compile(r"<[^<>\s]+ \d+>")


@dataclass(frozen=True)
class Call:
    """A call of the operating system, with the lines where it began and ended."""

    name: str
    arguments: str
    result: int
    begun: int
    ended: int

    @property
    def file(self) -> str:
        """The path of the file of its descriptor."""
        found = _FILE.match(self.arguments)
        return found["path"] if found else ""

    @property
    def paths(self) -> list[str]:
        """The absolute paths among its arguments."""
        return [
            str(PurePosixPath(found["directory"] or "/") / found["text"])
            for found in _NAME.finditer(self.arguments)
        ]

    @property
    def text(self) -> str:
        """The first string among its arguments."""
        found = _STRING.search(self.arguments)
        return found["text"] if found else ""


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Parse all calls, in the order in which they ended."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        pid, text, since = found["pid"], found["text"], number
        if unfinished := _BEGUN.match(text):
            beginning = f"{unfinished['name']}({unfinished['arguments']}"
            begun[pid] = (number, beginning)
            continue
        if resumed := _RESUMED.match(text):
            since, beginning = begun.pop(pid)
            text = beginning + resumed["text"]
        if done := _DONE.match(text):
            result = int(done["result"])
            yield Call(done["name"], done["arguments"], result, since, number)


@dataclass(frozen=True)
class Unfounded:
    """An answer that came before its event was durable."""

    answer: str
    why: str


@dataclass
class Disk:
    """The bytes and names that a loss of power would remove."""

    unsynced: dict[str, list[Call]] = field(default_factory=dict)
    """Writes by file."""
    names: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """For each path, the directories that must be synced, and the line of the change."""
    written: dict[str, str] = field(default_factory=dict)
    """The file that contains each token."""

    def apply(self, call: Call) -> None:
        """Apply a call that succeeded."""
        match call.name:
            case "write" | "pwrite64" | "pwritev":
                self._write(call)
            case "fsync" | "fdatasync":
                self._sync(call)
            case "openat" if "O_CREAT" in call.arguments:
                self._name(call.paths[0], call)
            case "mkdir" | "mkdirat":
                self._name(call.paths[0], call)
            case "rename" | "renameat" | "renameat2":
                self._rename(call)

    def _write(self, call: Call) -> None:
        self.unsynced.setdefault(call.file, []).append(call)
        for token in _TOKEN.findall(call.arguments.partition(",")[2]):
            self.written[token] = call.file

    def _sync(self, call: Call) -> None:
        writes = self.unsynced.get(call.file, [])
        self.unsynced[call.file] = [w for w in writes if w.ended > call.begun]
        for path, pending in self.names.items():
            self.names[path] = [
                (directory, since)
                for directory, since in pending
                if directory != call.file or since > call.begun
            ]

    def _name(self, path: str, call: Call) -> None:
        directory = str(PurePosixPath(path).parent)
        self.names.setdefault(path, []).append((directory, call.ended))

    def _rename(self, call: Call) -> None:
        before, after = call.paths
        self.unsynced[after] = self.unsynced.pop(before, [])
        self.names.pop(before, None)
        self.names.pop(after, None)
        self._name(after, call)

    def at_stake(self, token: str, root: str) -> str | None:
        """Return why a loss of power could remove the event of a token, if it could."""
        file = self.written.get(token)
        if file is None:
            return f"{token} was not written"
        for write in self.unsynced.get(file, []):
            if token in write.arguments:
                return f"{token} is not synced in {file}"
        for path in (file, f"{root}/IDENTITY"):
            lost = self._unnamed(path, root) or self._torn(path)
            if lost:
                return lost
        return None

    def _unnamed(self, path: str, root: str) -> str | None:
        above = [str(parent) for parent in PurePosixPath(path).parents]
        for name in (path, *(parent for parent in above if parent.startswith(root))):
            for directory, _ in self.names.get(name, []):
                return f"{name} has no durable name: {directory} is not synced"
        return None

    def _torn(self, path: str) -> str | None:
        """Return why the beginning of a file is not durable, if it is not."""
        for write in self.unsynced.get(path, []):
            if write.arguments.endswith(", 0"):
                return f"the beginning of {path} is not synced"
        return None


def unfounded(lines: list[str], marks: str, root: str) -> tuple[int, list[Unfounded]]:
    """Compare each answer with the syncs before it.

    Args:
        lines: The trace.
        marks: The file in which the program recorded its answers.
        root: The directory of the store.

    Returns:
        The number of answers, and those that came too early.
    """
    disk, found, answers = Disk(), [], 0
    # An answer counts from the beginning of its record, every other call from its end.
    in_order = sorted(
        calls(lines), key=lambda c: c.begun if c.file == marks else c.ended
    )
    for call in in_order:
        if call.name == "write" and call.file == marks:
            answers += 1
            for token in _TOKEN.findall(call.arguments):
                answer = call.text.removesuffix("\\n")
                if why := disk.at_stake(token, root):
                    found.append(Unfounded(answer, why))
        elif call.result >= 0:
            disk.apply(call)
    return answers, found
