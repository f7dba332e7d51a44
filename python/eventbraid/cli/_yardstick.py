"""What the machine itself can do: the figures that ours are held against.

A rate says nothing without the disk that it was measured on, so each measurement runs
one of these in turn with itself, on the same directory.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_MIB = 1 << 20


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
    """Inserts the same events into a bare SQLite table, one transaction a batch.

    WAL and `synchronous=FULL`, so each commit is durable. The table has no index on
    (stream, version) and nothing is checked: the least that SQLite could be asked for.

    Args:
        directory: Where the database is made; it is removed on exit.
        batches: Lists of (stream, type, data), inserted over and over.
    """

    def __init__(
        self, directory: Path, batches: Sequence[Sequence[tuple[str, str, bytes]]]
    ) -> None:
        self._path = directory / "yardstick.sqlite"
        self._batches = cycle(batches)
        self._database = sqlite3.connect(self._path, isolation_level=None)

    def __enter__(self) -> Self:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            """
            CREATE TABLE events (
                position INTEGER PRIMARY KEY,
                stream TEXT NOT NULL,
                type TEXT NOT NULL,
                data BLOB NOT NULL
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

    def commit(self) -> None:
        """Insert the next batch in one durable transaction."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO events (stream, type, data) VALUES (?, ?, ?)",
            next(self._batches),
        )
        self._database.execute("COMMIT")
