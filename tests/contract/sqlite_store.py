"""An event store on SQLite: a second, independent implementation of the contract.

It is the oracle of the model tests and the second backend of the contract suite. All of
its answers are SQL over two tables, and it shares no code with the engine; where the two
differ, one of them is wrong. It is meant to be obviously right, not fast.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import anyio

import eventbraid as eb
from tests.contract import sqlite_limits as limits

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    position    INTEGER PRIMARY KEY,
    stream      TEXT NOT NULL,
    version     INTEGER NOT NULL,
    type        TEXT NOT NULL,
    event_id    BLOB NOT NULL,
    recorded_at TEXT NOT NULL,
    metadata    TEXT NOT NULL,
    original_time TEXT,
    data        BLOB NOT NULL,
    category    TEXT AS (substr(stream, 1, instr(stream || '-', '-') - 1)),
    UNIQUE (stream, version)
);
CREATE TABLE IF NOT EXISTS session (
    id      TEXT PRIMARY KEY,
    beat_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS request (
    key     TEXT PRIMARY KEY,
    content BLOB NOT NULL,
    first   INTEGER,
    last    INTEGER
);
"""

COLUMNS = (
    "stream, version, position, type, event_id, recorded_at, data, metadata, "
    "original_time"
)
VERSION = "SELECT coalesce(max(version), 0) FROM event WHERE stream = ?"
CATEGORY = "SELECT count(*) FROM event WHERE category = ? AND version = 1"
HEAD = "SELECT coalesce(max(position), 0) FROM event"
PREFIX = "substr(CAST(stream AS BLOB), 1, length(:prefix)) = :prefix"
FILTER = f"""
    (:stream IS NULL OR stream = :stream)
    AND (:system OR substr(stream, 1, 1) <> '$')
    AND (:prefix IS NULL OR {PREFIX})
    AND (:category IS NULL OR category = :category)
    AND (:types IS NULL OR type IN (SELECT value FROM json_each(:types)))
"""
POLL = 0.02
BEAT = 0.2
_TIMEOUT = 30


@dataclass(frozen=True)
class SqliteSnapshot:
    """Several streams as of one position."""

    position: int
    versions: dict[str, int]
    events: list[eb.RecordedEvent]


class SqliteStore:
    """The methods of `EventStore`, over one file (or ``":memory:"``)."""

    def __init__(self, path, *, synchronous="FULL"):
        # One connection serves all threads, one at a time.
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=_TIMEOUT
        )
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        self._prepare()
        self.coordination = SqliteCoordination(self)

    def _prepare(self):
        """Create the tables, while other processes may open and close the file.

        SQLite's own timeout does not cover a read that turns into a write.
        """
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.executescript(SCHEMA)
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    # --- writing ----------------------------------------------------------------------

    def append(
        self,
        events,
        *,
        expect=None,
        idempotency_key=None,
        content=None,
        expect_categories=None,
    ):
        events, expect, categories = limits.checked(
            events, expect, idempotency_key, expect_categories
        )
        content = _content(events, expect, content, categories)
        with self._transaction("IMMEDIATE"):
            known = self._request(idempotency_key, content)
            if known is not None:
                return known
            self._judge(expect, categories)
            places = [self._insert(event) for event in events]
            first, last = (places[0], places[-1]) if places else (None, None)
            if idempotency_key is not None:
                row = (idempotency_key, content, first, last)
                self._db.execute("INSERT INTO request VALUES (?, ?, ?, ?)", row)
            self._changed.notify_all()
            return self._appended(first, last, replayed=False)

    def committed(self, idempotency_key, *, content=None):
        limits.check_key(idempotency_key)
        content = None if content is None else _content([], {}, content)
        with self._transaction():
            return self._request(idempotency_key, content)

    def _request(self, key, content):
        found = "SELECT content, first, last FROM request WHERE key = ?"
        for stands_for, first, last in self._db.execute(found, (key,)):
            if content not in {None, stands_for}:
                raise eb.errors.IdempotencyMismatch(key)
            return self._appended(first, last, replayed=True)
        return None

    def _judge(self, expect, expect_categories):
        failures = [
            eb.errors.ConflictedStream(stream, expected, actual)
            for stream, expected in expect.items()
            if not _holds(expected, actual := self._one(VERSION, (stream,)))
        ]
        categories = [
            eb.errors.ConflictedCategory(category, expected, actual)
            for category, expected in expect_categories.items()
            if not _holds(expected, actual := self._one(CATEGORY, (category,)))
        ]
        if failures or categories:
            raise eb.VersionConflict(failures, categories)

    def _insert(self, event):
        row = {
            "stream": event.stream,
            "type": event.type,
            "event_id": (event.event_id or eb.store.uuid7()).bytes,
            "now": datetime.now(UTC).isoformat(timespec="microseconds"),
            "metadata": json.dumps(dict(event.metadata)),
            "original_time": event.original_time and event.original_time.isoformat(),
            "data": event.data,
        }
        # The recorded times ascend, whatever the clock does.
        return self._db.execute(
            f"""INSERT INTO event
                (stream, version, type, event_id, recorded_at, metadata, original_time,
                 data)
            VALUES (:stream, 1 + ({VERSION.replace("?", ":stream")}), :type, :event_id,
                max(:now, coalesce((SELECT recorded_at FROM event
                                    WHERE position = ({HEAD})), '')),
                :metadata, :original_time, :data)""",
            row,
        ).lastrowid

    def _appended(self, first, last, *, replayed):
        versions = self._db.execute(
            "SELECT stream, max(version) FROM event WHERE position BETWEEN ? AND ?"
            " GROUP BY stream",
            (first, last),
        )
        return eb.Appended(first, last, dict(versions), replayed=replayed)

    # --- reading ----------------------------------------------------------------------

    def read_stream(self, stream, *, after=0, before=None, limit=None, backward=False):
        limits.check_stream(stream)
        limits.check_bounds(after=after, before=before, limit=limit)
        return self._events(
            f"""stream = :stream AND version > :after
                AND (:before IS NULL OR version < :before)
                ORDER BY version {"DESC" if backward else "ASC"} LIMIT :limit""",
            {"stream": stream, "after": after, "before": before, "limit": limit},
        )

    def read_all(
        self,
        *,
        after=0,
        before=None,
        limit=None,
        backward=False,
        **wanted,
    ):
        limits.check_bounds(after=after, before=before, limit=limit)
        return self._events(
            f"""position > :after AND (:before IS NULL OR position < :before)
                AND {FILTER}
                ORDER BY position {"DESC" if backward else "ASC"} LIMIT :limit""",
            {"after": after, "before": before, "limit": limit} | _filter(**wanted),
        )

    def read_streams(self, streams, *, at=None, after=None):
        names = limits.names(streams)
        limits.check_bounds(at=at)
        wanted = [[name, (after or {}).get(name, 0)] for name in dict.fromkeys(names)]
        with self._transaction():
            head = self._one(HEAD)
            at = head if at is None else min(at, head)
            versions = {
                name: self._one(VERSION + " AND position <= ?", (name, at))
                for name in names
            }
            events = self._events(
                """position <= :at AND EXISTS (
                    SELECT 1 FROM json_each(:wanted)
                    WHERE json_extract(value, '$[0]') = stream
                    AND version > json_extract(value, '$[1]')
                ) ORDER BY position""",
                {"at": at, "wanted": json.dumps(wanted), "limit": None},
            )
            return SqliteSnapshot(at, versions, list(events))

    def category_streams(self, category, /, *, at=None, after=0, limit=None):
        limits.check_category(category)
        limits.check_bounds(at=at, after=after, limit=limit)
        with self._transaction():
            head = self._one(HEAD)
            at = head if at is None else min(at, head)
            version = self._one(f"{CATEGORY} AND position <= ?", (category, at))
            streams = self._db.execute(
                """SELECT stream FROM event
                WHERE category = ? AND version = 1 AND position <= ?
                ORDER BY position LIMIT ? OFFSET ?""",
                (category, at, -1 if limit is None else limit, after),
            )
            return eb.store.CategoryStreams(at, version, tuple(s for (s,) in streams))

    def subscribe(self, *, after=0, **wanted):
        limits.check_bounds(after=after)
        return SqliteSubscription(self, after, _filter(**wanted))

    def version(self, stream):
        limits.check_stream(stream)
        with self._transaction():
            return self._one(VERSION, (stream,))

    def head(self):
        with self._transaction():
            return self._one(HEAD)

    def streams(self, prefix=None, *, system=False) -> Iterator[str]:
        with self._transaction():
            names = self._db.execute(
                f"SELECT DISTINCT stream FROM event WHERE {FILTER} ORDER BY stream",
                _filter(prefix=prefix or "", system=system),
            ).fetchall()
        yield from itertools.chain.from_iterable(names)

    def _events(self, condition, values) -> Iterator[eb.RecordedEvent]:
        # The first step fetches all rows at once, so a read is of one state.
        if values.get("limit") is None:
            values["limit"] = -1
        with self._transaction():
            rows = self._db.execute(
                f"SELECT {COLUMNS} FROM event WHERE {condition}", values
            ).fetchall()
        yield from map(_recorded, rows)

    # --- the store itself -------------------------------------------------------------

    def close(self):
        with self._changed:
            if not self._closed:
                self.coordination.end()
                self._closed = True
                self._db.close()
            self._changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _one(self, query, values=()):
        return self._db.execute(query, values).fetchone()[0]

    @contextmanager
    def _transaction(self, kind="DEFERRED"):
        with self._changed:
            if self._closed:
                raise eb.errors.StoreClosed
            if self._db.in_transaction:
                yield
                return
            self._db.execute(f"BEGIN {kind}")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


class SqliteCoordination:
    """The sessions of a file: a row for each, which a thread updates.

    It has no reservations, which are optional.
    """

    def __init__(self, store):
        self._store = store
        self._id = None
        self._ended = threading.Event()

    def start_heartbeat(self):
        with self._store._changed:
            if self._id is None:
                self._id = uuid4().hex
                self._beat()
                threading.Thread(target=self._run_heartbeat, daemon=True).start()
            return self._id

    def _run_heartbeat(self):
        while not self._ended.wait(BEAT):
            with self._store._changed:
                if not self._ended.is_set():
                    self._beat()

    def _beat(self):
        with self._store._transaction("IMMEDIATE"):
            row = (self._id, time.time())
            self._store._db.execute("REPLACE INTO session VALUES (?, ?)", row)

    def end(self):
        self._ended.set()
        if self._id is not None:
            with self._store._transaction("IMMEDIATE"):
                gone = "DELETE FROM session WHERE id = ?"
                self._store._db.execute(gone, (self._id,))

    def heartbeat_ages(self):
        now = time.time()
        with self._store._transaction():
            rows = self._store._db.execute("SELECT id, beat_at FROM session").fetchall()
        return {session: max(now - beat_at, 0.0) for session, beat_at in rows}

    async def heartbeat_ages_async(self):
        return self.heartbeat_ages()

    def start_loop_heartbeat(self):
        return LoopHeartbeat()

    async def wait_beyond(self, position):
        while self._store.head() <= position:  # noqa: ASYNC110 - other processes may write
            await anyio.sleep(POLL)


class LoopHeartbeat:
    """The heartbeat of an event loop that never hangs."""

    def age(self):
        return 0.0

    def stop(self):
        """Return: nothing runs."""


class SqliteSubscription:
    """Deliver every matching event once, in order, by polling."""

    def __init__(self, store, after, wanted):
        self._store = store
        self._wanted = wanted
        self.position = after
        self.closed = False

    def close(self):
        with self._store._changed:
            self.closed = True
            self._store._changed.notify_all()

    def __iter__(self):
        return self

    def __next__(self):
        with self._store._changed:
            while not self.closed:
                recorded = self._next()
                if recorded is not None:
                    return recorded
                # A commit of another session notifies no condition here: hence the timeout.
                self._store._changed.wait(POLL)
        raise StopIteration

    def _next(self):
        head = self._store.head()
        found = self._store._events(
            f"position > :after AND {FILTER} ORDER BY position LIMIT 1",
            {"after": self.position, **self._wanted},
        )
        recorded = next(found, None)
        reached = head if recorded is None else recorded.position
        self.position = max(self.position, reached)
        return recorded

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _holds(expected, actual):
    match expected:
        case eb.ANY:
            return True
        case eb.NO_STREAM:
            return actual == 0
        case eb.EXISTS:
            return actual > 0
        case version:
            return actual == version


def _content(events, expect, given, categories=()):
    """Return the complete content that a key identifies."""
    if given is not None:
        return b"given:" + bytes(given)
    parts = [
        [[e.stream, e.type, e.content.hex(), dict(e.metadata)] for e in events],
        {s: repr(e) for s, e in expect.items() if e is not eb.ANY},
        {c: repr(e) for c, e in dict(categories).items() if e is not eb.ANY},
    ]
    return json.dumps(parts, sort_keys=True).encode()


def _filter(*, stream=None, prefix=None, category=None, types=None, system=False):
    if stream is not None:
        limits.check_stream(stream)
    names = (stream, prefix, category)
    return {
        "stream": stream,
        "system": system or any((name or "").startswith("$") for name in names),
        "prefix": None if prefix is None else prefix.encode(),
        "category": category,
        "types": None if types is None else json.dumps(list(types)),
    }


def _recorded(row):
    stream, version, position, kind, event_id, recorded_at, data, metadata, at = row
    return eb.RecordedEvent(
        stream=stream,
        version=version,
        position=position,
        type=kind,
        event_id=UUID(bytes=event_id),
        recorded_at=datetime.fromisoformat(recorded_at),
        data=data,
        metadata=json.loads(metadata),
        original_time=at and datetime.fromisoformat(at),
    )
