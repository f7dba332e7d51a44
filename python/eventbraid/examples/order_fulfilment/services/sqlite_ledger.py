"""A ledger in SQLite, durable before it answers, with one thread and group commit.

While one transaction is written to the disk, further requests are queued; the next
transaction takes all of them. So n concurrent calls cost one `fsync` and one wake-up of
the event loop, not n.
"""

from __future__ import annotations

import heapq
import json
import logging
import sqlite3
import threading
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import EventLoopToken, current_token

from .ledger import Entry, Request, Rule, answer, settle

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from types import TracebackType

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL, effect TEXT NOT NULL,
    subject TEXT NOT NULL, amount INTEGER NOT NULL, target TEXT NOT NULL,
    reference TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_subject ON entries (subject);
"""
# Deliberately no unique index on the key: reconciliation checks that a key takes effect
# once, so the ledger must be able to record a violation.

# A batch is inserted and fetched as one JSON text. SQLite releases the GIL for each row
# that is fetched or inserted on its own, and a busy event loop keeps it for up to the
# interpreter's switch interval: with 100 rows in a batch that is half a second.
_HISTORY = """
SELECT json_group_array(json_array(number, key, effect, subject, amount, target,
                                   reference))
FROM entries WHERE subject IN (SELECT value FROM json_each(?))
"""
_INSERT = """
INSERT INTO entries (key, effect, subject, amount, target, reference)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
       json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(?)
"""
_TURN_SECONDS = 30.0
_ALL = "SELECT key, effect, subject, amount, target, reference FROM entries"


class _Posted:
    """A request in progress, and the event for which its caller waits."""

    __slots__ = ("answer", "arrived", "due", "error", "request")

    def __init__(self, request: Request, due: float) -> None:
        self.request = request
        self.due = due
        self.arrived = anyio.Event()
        self.answer: Entry | None = None
        self.error: Exception | None = None


class SqliteLedger:
    """A ledger in an SQLite file of its own; an async context manager.

    Args:
        path: The file; its directory must exist.
        rule: The service's rule.
    """

    def __init__(self, path: Path, rule: Rule) -> None:
        self._path = path
        self._rule = rule
        self._inbox: SimpleQueue[_Posted | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._serve, name=f"ledger {path.name}", daemon=True
        )
        self._loop: EventLoopToken | None = None

    async def __aenter__(self) -> Self:
        # In a thread, because the wait for another process would block the event loop.
        await anyio.to_thread.run_sync(self._create_tables)
        self._loop = current_token()
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait until all requests have arrived, late ones too, and close the file."""
        self._inbox.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)

    def _create_tables(self) -> None:
        with _opened(self._path) as database:
            _execute_in_turn(database, _SCHEMA)

    async def post(self, request: Request, *, delay: float = 0.0) -> Entry:
        """Apply the rule durably, and return the entry under the request's key.

        Raises:
            OSError: The ledger could not be written; the outcome is unknown.
        """
        posted = _Posted(request, time.monotonic() + delay if delay else 0.0)
        self._inbox.put(posted)
        await posted.arrived.wait()
        if posted.answer is None:
            raise OSError(f"{self._path}: {posted.error}") from posted.error
        return posted.answer

    def entries(self) -> Iterator[Entry]:
        """Iterate over all durable entries, in the order in which they were made."""
        with _opened(self._path) as database:
            for row in database.execute(f"{_ALL} ORDER BY number"):
                yield Entry(*row)

    def _serve(self) -> None:
        with _opened(self._path) as database:
            for batch in _batches(self._inbox):
                self._settle(database, batch)
                self._wake_callers(batch)

    def _settle(self, database: sqlite3.Connection, batch: list[_Posted]) -> None:
        try:
            with _transaction(database):
                histories = _histories(database, batch)
                new: list[Entry] = []
                for posted in batch:
                    history = histories[posted.request.subject]
                    new += settle(self._rule, posted.request, history)
                _insert(database, new)
            for posted in batch:
                history = histories[posted.request.subject]
                posted.answer = answer(posted.request, history)
        except Exception as error:  # noqa: BLE001 - raised in the callers
            for posted in batch:
                posted.answer = None
                posted.error = error

    def _wake_callers(self, batch: list[_Posted]) -> None:
        try:
            anyio.from_thread.run_sync(_wake, batch, token=self._loop)
        except anyio.RunFinishedError:
            _log.info(
                "%s: the callers of %d requests have left", self._path, len(batch)
            )


def read_entries(path: Path) -> Iterator[Entry]:
    """Iterate over the entries of a ledger that no service has open, if it exists."""
    if path.exists():
        with _opened(path) as database:
            for row in database.execute(f"{_ALL} ORDER BY number"):
                yield Entry(*row)


@contextmanager
def _opened(path: Path) -> Generator[sqlite3.Connection]:
    # Several processes may write to one ledger; SQLite's lock serializes them.
    connection = sqlite3.connect(path, isolation_level=None, timeout=_TURN_SECONDS)
    with closing(connection) as database:
        _execute_in_turn(database, "PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        yield database


def _execute_in_turn(database: sqlite3.Connection, script: str) -> None:
    """Execute a script, and repeat it while another process has the file locked.

    The timeout of the connection doesn't apply to a statement that reads and then
    writes, as the change of the journal mode does: SQLite fails it at once.
    """
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            database.executescript(script)
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


@contextmanager
def _transaction(database: sqlite3.Connection) -> Generator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _histories(
    database: sqlite3.Connection, batch: list[_Posted]
) -> defaultdict[str, list[Entry]]:
    subjects = json.dumps(sorted({posted.request.subject for posted in batch}))
    (text,) = database.execute(_HISTORY, (subjects,)).fetchone()
    histories: defaultdict[str, list[Entry]] = defaultdict(list)
    for _, *row in sorted(json.loads(text)):
        entry = Entry(*row)
        histories[entry.subject].append(entry)
    return histories


def _insert(database: sqlite3.Connection, new: list[Entry]) -> None:
    rows = [(e.key, e.effect, e.subject, e.amount, e.target, e.reference) for e in new]
    database.execute(_INSERT, (json.dumps(rows),))


def _batches(inbox: SimpleQueue[_Posted | None]) -> Iterator[list[_Posted]]:
    """Iterate over the requests that have arrived, in batches.

    After the ledger was closed, the delayed requests follow at once.
    """
    delayed: list[tuple[float, int, _Posted]] = []
    order = count()
    is_open = True
    while is_open or delayed:
        batch: list[_Posted] = []
        for posted in _received(inbox, _seconds_until(delayed) if is_open else 0.0):
            if posted is None:
                is_open = False
            elif posted.due:
                heapq.heappush(delayed, (posted.due, next(order), posted))
            else:
                batch.append(posted)
        now = time.monotonic()
        while delayed and (not is_open or delayed[0][0] <= now):
            batch.append(heapq.heappop(delayed)[2])
        if batch:
            yield batch


def _seconds_until(delayed: list[tuple[float, int, _Posted]]) -> float | None:
    return max(0.0, delayed[0][0] - time.monotonic()) if delayed else None


def _received(
    inbox: SimpleQueue[_Posted | None], timeout: float | None
) -> Iterator[_Posted | None]:
    try:
        yield inbox.get(timeout=timeout)
        while True:
            yield inbox.get_nowait()
    except Empty:
        return


def _wake(batch: list[_Posted]) -> None:
    for posted in batch:
        posted.arrived.set()
