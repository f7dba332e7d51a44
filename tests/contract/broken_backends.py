"""Stores that each break one rule, and the tests of the suite that must find it.

Collected by tests/integration/test_contract_suite.py alone, in a run of its own.
"""

from __future__ import annotations

import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest

import eventbraid as eb
from eventbraid.testing import StoreContract
from eventbraid.testing._contract import asking
from tests.contract import sqlite_store
from tests.contract.backends import SyncFace
from tests.contract.sqlite_store import SqliteStore, SqliteSubscription

# Seconds that a broken store waits for another thread.
_PATIENCE = 10.0


class Renumbers(SqliteStore):
    """A refused append uses up a version."""

    def _judge(self, expect, expect_categories):
        try:
            super()._judge(expect, expect_categories)
        except eb.VersionConflict:
            self._burnt = getattr(self, "_burnt", 0) + 1
            raise

    def version(self, stream):
        return super().version(stream) + getattr(self, "_burnt", 0)


class HalfWritten(SqliteStore):
    """Each event is a commit of its own."""

    def append(self, events, *, expect=None, **options):
        events = list(events)
        for event in events[:-1]:
            super().append([event])
        return super().append(events[-1:], expect=expect, **options)


class FirstFailure(SqliteStore):
    """A conflict lists one stream only."""

    def _judge(self, expect, expect_categories):
        try:
            super()._judge(expect, expect_categories)
        except eb.VersionConflict as conflict:
            raise eb.VersionConflict(conflict.failures[:1]) from None


class Unchecked(SqliteStore):
    """Streams that are only checked are not validated together with the append."""

    def __init__(self, path):
        super().__init__(path)
        self._both_have_checked = threading.Barrier(2)

    def append(self, events, *, expect=None, **options):
        events = list(events)
        written = {e[0] if isinstance(e, tuple) else e.stream for e in events}
        inner = {s: x for s, x in (expect or {}).items() if s in written}
        outer = {s: x for s, x in (expect or {}).items() if s not in written}
        if outer:
            super().append([], expect=outer)
            self._both_have_checked.wait(timeout=_PATIENCE)
        if not events and not inner and "idempotency_key" not in options:
            return eb.Appended(None, None, {}, replayed=False)
        return super().append(events, expect=inner, **options)


class Phantoms(SqliteStore):
    """An expectation on a category is checked before the append, not with it."""

    def __init__(self, path):
        super().__init__(path)
        self._both_have_checked = threading.Barrier(2)

    def append(self, events, *, expect_categories=None, **options):
        if expect_categories:
            super().append([], expect_categories=expect_categories)
            self._both_have_checked.wait(timeout=_PATIENCE)
        return super().append(events, **options)


class Forgetful(SqliteStore):
    """Keys are known to one session only."""

    def __init__(self, path):
        super().__init__(path)
        self._db.execute("DELETE FROM request")


class Careless(SqliteStore):
    """A key returns its result for any content."""

    def _request(self, key, content):
        return super()._request(key, None)


class Buffered(SqliteStore):
    """Appended events reach the file when the store is closed."""

    def __init__(self, path):
        super().__init__(":memory:")
        self._path = path
        self._copy(sqlite_store.sqlite3.connect(path), self._db)

    def close(self):
        with self._changed:
            if not self._closed:
                self._copy(self._db, sqlite_store.sqlite3.connect(self._path))
        super().close()

    @staticmethod
    def _copy(source, target):
        source.backup(target)
        target.executescript(sqlite_store.SCHEMA)


class Wildcards(SqliteStore):
    """A prefix is a LIKE pattern."""

    def streams(self, prefix=None, *, system=False):
        pattern = f"{prefix or ''}%"
        query = "SELECT DISTINCT stream FROM event WHERE stream LIKE ? ORDER BY stream"
        yield from (name for (name,) in self._db.execute(query, (pattern,)).fetchall())


class Unpinned(SqliteStore):
    """A read continues as long as events are appended."""

    def read_all(self, *, after=0, limit=None, backward=False, **bounds):
        if limit is not None or backward:
            options = {"after": after, "limit": limit, "backward": backward, **bounds}
            yield from super().read_all(**options)
            return
        while page := list(super().read_all(after=after, limit=100, **bounds)):
            yield from page
            after = page[-1].position


class Deaf(SqliteStore):
    """A subscription that has caught up skips the next events."""

    def subscribe(self, *, after=0, **wanted):
        wanted = sqlite_store._filter(**wanted)
        return DeafSubscription(self, after, wanted)


class DeafSubscription(SqliteSubscription):
    def _next(self):
        recorded = super()._next()
        if recorded is None:
            self._store._changed.wait(_PATIENCE)
            self.position = max(self.position, self._store.head())
        return recorded


class Endless(SqliteStore):
    """Closing a subscription takes effect at its next event."""

    def subscribe(self, **options):
        subscription = super().subscribe(**options)
        subscription.close = lambda: None
        return subscription


class Unlimited(SqliteStore):
    """Any size is accepted."""

    def append(self, events, **options):
        before = sqlite_store.limits._within
        sqlite_store.limits._within = lambda *_: None
        try:
            return super().append(events, **options)
        finally:
            sqlite_store.limits._within = before


class Lifeless(SqliteStore):
    """A heartbeat is recorded once and never again."""

    def __init__(self, path):
        super().__init__(path)
        self.coordination._run_heartbeat = lambda: None


class Overeager(SqliteStore):
    """A wait for more ends at the position itself, before anything follows it."""

    def __init__(self, path):
        super().__init__(path)
        wait = self.coordination.wait_beyond
        self.coordination.wait_beyond = lambda position: wait(position - 1)


class Unreserved(SqliteStore):
    """A reservation delays no append."""

    def __init__(self, path):
        super().__init__(path)
        self._is_reserved = False
        self.coordination.reserve = self._reserve

    def _reserve(self, streams, seconds):
        if self._is_reserved:
            return None
        self._is_reserved = True
        return WithoutEffect(self, seconds)


@dataclass(frozen=True)
class WithoutEffect:
    store: SqliteStore
    seconds: float

    @contextmanager
    def use(self):
        """Let the append of another in, which nothing delays."""
        deadline = time.monotonic() + _PATIENCE
        while self.store.head() == 0 and time.monotonic() < deadline:
            time.sleep(0.001)
        yield

    def release(self):
        """Nothing is reserved."""


BROKEN = {
    Renumbers: "test_rule_01_a_refused_append_uses_up_no_version",
    HalfWritten: "test_rule_06_an_append_is_all_or_nothing",
    FirstFailure: "test_rule_08_a_conflict_lists_every_failing_stream",
    Unchecked: "test_rule_08_two_writers_never_both_rest_on_each_others_stream",
    Phantoms: "test_rule_08_exactly_one_of_many_writers_creates_the_next_stream",
    Forgetful: "test_rule_10_a_key_survives_a_restart",
    Careless: "test_rule_10_the_same_key_with_other_content_is_a_mismatch",
    Buffered: "test_rule_04_what_was_acknowledged_survives_the_death_of_the_process",
    Wildcards: "test_rule_16_no_character_of_a_prefix_is_a_wildcard",
    Unpinned: "test_rule_14_a_read_ends_at_the_head_of_its_first_page",
    Deaf: "test_rule_18_what_is_appended_during_a_wait_comes",
    Endless: "test_rule_20_closing_ends_a_blocked_wait_at_once",
    Lifeless: "test_rule_30_the_heartbeat_of_a_live_session_goes_on",
    Overeager: "test_rule_19_a_wait_for_more_ends_with_the_next_commit",
    Unreserved: "test_rule_24_a_reservation_delays_the_appends_of_others_alone",
    Unlimited: "test_rule_12_what_is_beyond_a_limit_is_refused",
}


@dataclass(frozen=True)
class Broken:
    kind: type[SqliteStore]
    path: str
    durable: bool = True
    shared: bool = False

    @asynccontextmanager
    async def open(self):
        with self.kind(self.path) as store:
            yield SyncFace(store)


class TestBroken(StoreContract):
    @pytest.fixture(params=BROKEN, ids=lambda kind: kind.__name__)
    def backend(self, request, tmp_path):
        return Broken(request.param, str(tmp_path / "store.sqlite"))

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        """Shorten the waits for events that never come."""
        monkeypatch.setattr(asking, "PATIENCE", 2.0)

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"
