"""What the machine itself can do: the figures that ours are held against.

A rate says nothing without the disk that it was measured on, so each measurement runs
one of these in turn with itself, on the same directory.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import defaultdict
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from eventbraid.cli.bench._workload import Event

_MIB = 1 << 20
_FETCHED = 1_000
_INSERT = "INSERT INTO events (stream, version, type, data) VALUES (?, ?, ?, ?)"
_SELECT = "SELECT position, stream, version, type, data FROM events ORDER BY position"


@contextmanager
def workplace(directory: Path) -> Generator[Path]:
    """Make an empty directory for one measurement, and remove it after.

    Args:
        directory: An existing directory on the disk to be measured.
    """
    with TemporaryDirectory(prefix="measured-", dir=directory) as made:
        yield Path(made)


class RawDisk:
    """Writes blocks one after the other, each followed by `fdatasync`.

    The file is filled with zeros first: no durable log can be faster on this disk,
    since neither the file's size nor its blocks change while it is written.

    Args:
        directory: Where the file is made; it is removed on exit.
        blocks: The bytes to write, over and over.
        room: The size of the file in bytes; at its end, writing starts over.
    """

    def __init__(
        self, directory: Path, blocks: Sequence[bytes], *, room: int = 32 * _MIB
    ) -> None:
        self._path = directory / "yardstick.raw"
        self._blocks = cycle(blocks)
        self._room = max(room, *map(len, blocks))
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._at = 0

    def __enter__(self) -> Self:
        zeros = bytes(_MIB)
        for offset in range(0, self._room, _MIB):
            os.pwrite(self._file, zeros[: self._room - offset], offset)
        os.fsync(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._path.unlink()

    def commit(self) -> None:
        """Write the next block and wait until it is on the disk."""
        block = next(self._blocks)
        if self._at + len(block) > self._room:
            self._at = 0
        os.pwrite(self._file, block, self._at)
        os.fdatasync(self._file)
        self._at += len(block)


class SqliteTable:
    """A bare SQLite table of events, in WAL mode with `synchronous=FULL`.

    Each commit is durable, and no stream has a version twice. All threads share one
    connection behind a lock, each commit of one event is one statement, and rows are
    fetched 1,000 at a time: measured, that is as fast as any other arrangement.

    Args:
        directory: Where the database is made; it is removed on exit.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "yardstick.sqlite"
        self._database = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False
        )
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            """
            CREATE TABLE events (
                position INTEGER PRIMARY KEY,
                stream TEXT NOT NULL,
                version INTEGER NOT NULL,
                type TEXT NOT NULL,
                data BLOB NOT NULL,
                UNIQUE (stream, version)
            )
            """,
        ):
            with closing(self._database.execute(statement)):
                pass
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def commit(self, batch: Sequence[Event]) -> None:
        """Insert a batch in one durable transaction."""
        rows = [self._row(event) for event in batch]
        self._database.execute("BEGIN")
        self._database.executemany(_INSERT, rows)
        self._database.execute("COMMIT")

    def commit_one(self, event: Event) -> None:
        """Insert one event, durably, from any thread."""
        with self._lock:
            self._database.execute(_INSERT, self._row(event))

    def replay(self) -> int:
        """Fetch every row in order; answer how many there are."""
        found = 0
        with closing(self._database.execute(_SELECT)) as cursor:
            while rows := cursor.fetchmany(_FETCHED):
                for _ in rows:
                    found += 1
        return found

    def _row(self, event: Event) -> tuple[str, int, str, bytes]:
        stream, kind, data = event
        self._versions[stream] += 1
        return stream, self._versions[stream], kind, data
