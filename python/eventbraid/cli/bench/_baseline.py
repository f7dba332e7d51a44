"""Baselines: what the disk and SQLite do on the same machine in the same minute.

A rate means little without the disk that it was measured on, so each measurement
alternates with one of these, in the same directory.
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
_ROWS_PER_FETCH = 1_000
_INSERT = "INSERT INTO events (stream, version, type, data) VALUES (?, ?, ?, ?)"
_SELECT = "SELECT position, stream, version, type, data FROM events ORDER BY position"


@contextmanager
def workplace(directory: Path) -> Generator[Path]:
    """Create an empty directory for one measurement, and remove it afterwards.

    Args:
        directory: An existing directory on the disk to be measured.
    """
    with TemporaryDirectory(prefix="measured-", dir=directory) as made:
        yield Path(made)


class RawDisk:
    """Write blocks one after the other, each followed by `fdatasync`.

    The file is filled with zeros first: no durable log is faster on this disk, because
    neither the file's size nor its blocks change while it is written.

    Args:
        directory: Where the file is created; it is removed on exit.
        blocks: The bytes to write, in turn.
        size: The size of the file in bytes; at its end, writing starts over.
    """

    def __init__(
        self, directory: Path, blocks: Sequence[bytes], *, size: int = 32 * _MIB
    ) -> None:
        self._path = directory / "baseline.raw"
        self._blocks = cycle(blocks)
        self._size = max(size, *map(len, blocks))
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._at = 0

    def __enter__(self) -> Self:
        zeros = bytes(_MIB)
        for offset in range(0, self._size, _MIB):
            os.pwrite(self._file, zeros[: self._size - offset], offset)
        os.fsync(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._path.unlink()

    def commit(self) -> None:
        """Write the next block, and return when it is on the disk."""
        block = next(self._blocks)
        if self._at + len(block) > self._size:
            self._at = 0
        os.pwrite(self._file, block, self._at)
        os.fdatasync(self._file)
        self._at += len(block)


class SqliteTable:
    """A plain SQLite table of events, in WAL mode with `synchronous=FULL`.

    Each commit is durable, and the versions of a stream are unique. All threads share
    one connection under a lock, each commit of one event is one statement, and rows are
    fetched 1,000 at a time: measured, that is as fast as any other arrangement.

    Args:
        directory: Where the database is created; it is removed on exit.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "baseline.sqlite"
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
        """Fetch every row in order, and return their number."""
        count = 0
        with closing(self._database.execute(_SELECT)) as cursor:
            while rows := cursor.fetchmany(_ROWS_PER_FETCH):
                for _ in rows:
                    count += 1
        return count

    def _row(self, event: Event) -> tuple[str, int, str, bytes]:
        stream, kind, data = event
        self._versions[stream] += 1
        return stream, self._versions[stream], kind, data
