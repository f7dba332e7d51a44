"""Stores that several processes share, each of which breaks one promise.

An engine could have each of these faults, and the checks must find each of them.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager

import eventbraid as eb
from tests.contract.sqlite_store import (
    SqliteSnapshot,
    SqliteStore,
    SqliteSubscription,
    _filter,
)

CHANCE = 0.08


class Correct(SqliteStore):
    """A store without a fault. A kill loses nothing, since the power stays on."""

    def __init__(self, path):
        super().__init__(path, synchronous="OFF")
        self._chance = random.Random()

    def _at_random(self) -> bool:
        return self._chance.random() < CHANCE


class Losing(Correct):
    """An acknowledged commit is sometimes not stored."""

    def append(self, events, **options):
        with self._changed:
            if not self._at_random():
                return super().append(events, **options)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                return super().append(events, **options)
            finally:
                self._db.execute("ROLLBACK")


class Tearing(Correct):
    """A commit is written in two halves, between which other commits may be written."""

    def append(self, events, *, expect=None, **options):
        events = list(events)
        if len(events) < 2 or options.get("idempotency_key"):
            return super().append(events, expect=expect, **options)
        half = len(events) // 2
        with self._changed:
            begun = super().append(events[:half], expect=expect)
            time.sleep(0.002)
            ended = super().append(events[half:])
        versions = {**begun.versions, **ended.versions}
        return eb.Appended(
            begun.first_position, ended.last_position, versions, replayed=False
        )


class Skipping(Correct):
    """A subscription sometimes skips an event."""

    def subscribe(self, *, after=0, **filters):
        filters = _filter(**filters)
        return SkippingSubscription(self, after, filters)


class SkippingSubscription(SqliteSubscription):
    def __next__(self):
        if self._store._at_random():
            super().__next__()
        return super().__next__()


class Repeating(Correct):
    """A subscription sometimes delivers an event twice."""

    def subscribe(self, *, after=0, **filters):
        filters = _filter(**filters)
        return RepeatingSubscription(self, after, filters)


class RepeatingSubscription(SqliteSubscription):
    _last = None

    def __next__(self):
        if self._last is None or not self._store._at_random():
            self._last = super().__next__()
        return self._last


class AcknowledgingEarly(Correct):
    """A commit is acknowledged before other processes can read it."""

    @contextmanager
    def _transaction(self, kind="DEFERRED"):
        if kind != "IMMEDIATE" or self._db.in_transaction:
            with super()._transaction(kind):
                yield
            return
        with self._changed:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            late = threading.Timer(0.003, self._db.execute, ("COMMIT",))
            late.start()
            self._late = late

    def append(self, events, **options):
        with self._changed:
            self._join_late_commit()
            return super().append(events, **options)

    def _join_late_commit(self):
        # The process itself waits for its own commits: only the others read too early.
        if getattr(self, "_late", None) is not None:
            self._late.join()
            self._late = None

    def _events(self, condition, values):
        with self._changed:
            self._join_late_commit()
            yield from super()._events(condition, values)

    def _one(self, query, values=()):
        with self._changed:
            if not self._db.in_transaction:
                self._join_late_commit()
            return super()._one(query, values)

    def close(self):
        with self._changed:
            self._join_late_commit()
        super().close()


class ReadingStale(Correct):
    """Reads return a state that other processes have replaced."""

    def __init__(self, path):
        super().__init__(path)
        self._view = Correct(path)
        self._since = 0.0

    @contextmanager
    def _refreshed(self):
        # The connection's lock is held until the read has ended: a transaction that a
        # read of another thread began in between would make BEGIN fail.
        with self._view._changed:
            if time.monotonic() - self._since > 0.01:
                self._since = time.monotonic()
                if self._view._db.in_transaction:
                    self._view._db.execute("ROLLBACK")
                self._view._db.execute("BEGIN")
            yield self._view

    def read_streams(self, streams, **options):
        with self._refreshed() as view:
            return view.read_streams(streams, **options)

    def version(self, stream):
        with self._refreshed() as view:
            return view.version(stream)

    def close(self):
        self._view.close()
        super().close()


class CheckingVersionsEarly(Correct):
    """Versions are validated before the transaction of the append, and not in it."""

    def append(self, events, *, expect=None, **options):
        with self._transaction():
            super()._judge(expect or {}, {})
        time.sleep(0.001)
        return super().append(events, expect=expect, **options)

    def _judge(self, expect, expect_categories):
        pass


class CheckingOthersEarly(Correct):
    """Streams that are only checked are validated before the transaction of the append."""

    def append(self, events, *, expect=None, **options):
        events, expect = list(events), dict(expect or {})
        written = {event[0] for event in events}
        checked = {s: expected for s, expected in expect.items() if s not in written}
        if not events or not checked:
            return super().append(events, expect=expect, **options)
        if options.get("idempotency_key") is None:
            super().append([], expect=checked)
            time.sleep(0.001)
            expect = {s: e for s, e in expect.items() if s in written}
        return super().append(events, expect=expect, **options)


class ReadingPiecewise(Correct):
    """A snapshot reads each stream at another time."""

    def read_streams(self, streams, *, at=None, after=None):
        parts = []
        for stream in streams:
            parts.append(super().read_streams([stream], at=at, after=after))
            time.sleep(0.001)
        versions = {s: v for part in parts for s, v in part.versions.items()}
        events = [event for part in parts for event in part.events]
        events.sort(key=lambda event: event.position)
        return SqliteSnapshot(max(p.position for p in parts), versions, events)


class ForgettingKeys(Correct):
    """A key is sometimes forgotten."""

    def _request(self, key, content):
        if self._at_random():
            self._db.execute("DELETE FROM request WHERE key = ?", (key,))
        return super()._request(key, content)


class WritingRefused(Correct):
    """A refused append is sometimes written."""

    def append(self, events, *, expect=None, **options):
        try:
            return super().append(events, expect=expect, **options)
        except eb.VersionConflict:
            if events and self._at_random():
                super().append(events)
            raise


class ReservingPositions(Correct):
    """Positions are assigned before commits end, so later ones may be visible first."""

    def append(self, events, **options):
        events = list(events)
        with self._changed:
            if not self._at_random():
                return super().append(events, **options)
            with self._transaction("IMMEDIATE"):
                place = [("aside-1", "x", b"aside.0 0/1")]
                first = super().append(place).first_position
            time.sleep(0.002)
            done = super().append(events, **options)
            with self._transaction("IMMEDIATE"):
                self._db.execute("DELETE FROM event WHERE position = ?", (first,))
                if done.first_position is not None:
                    self._move(done, first)
            return done

    def _move(self, done, first):
        self._db.execute(
            "UPDATE event SET position = ? WHERE position = ?",
            (first, done.first_position),
        )


class Miscounting(Correct):
    """The result sometimes contains a wrong version."""

    def append(self, events, **options):
        done = super().append(events, **options)
        if not done.versions or not self._at_random():
            return done
        versions = {stream: version + 1 for stream, version in done.versions.items()}
        first, last = done.first_position, done.last_position
        return eb.Appended(first, last, versions, replayed=done.replayed)


FAULTS = {
    Losing: {"log"},
    Tearing: {"log", "order", "cycles", "streams"},
    Skipping: {"delivery"},
    Repeating: {"delivery"},
    AcknowledgingEarly: {"order"},
    ReadingStale: {"order", "cycles", "streams"},
    CheckingVersionsEarly: {"order"},
    CheckingOthersEarly: {"order", "cycles"},
    ReadingPiecewise: {"order", "cycles"},
    ForgettingKeys: {"keys"},
    WritingRefused: {"log"},
    ReservingPositions: {"log", "order"},
    Miscounting: {"log", "streams"},
}
"""Each fault, and the checks that must each find it."""
