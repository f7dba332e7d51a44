"""Stores that processes share and that each break one promise.

Every fault is one that an engine could have; the checks must see each of them.
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


class Sound(SqliteStore):
    """Nothing is wrong with it. A kill loses nothing, since no power is lost."""

    def __init__(self, path):
        super().__init__(path, synchronous="OFF")
        self._chance = random.Random()

    def _now_and_then(self) -> bool:
        return self._chance.random() < CHANCE


class Losing(Sound):
    """A commit that was acknowledged is not kept."""

    def append(self, events, **options):
        with self._changed:
            if not self._now_and_then():
                return super().append(events, **options)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                return super().append(events, **options)
            finally:
                self._db.execute("ROLLBACK")


class Tearing(Sound):
    """A commit is written in two halves, between which others may come."""

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


class Skipping(Sound):
    """A subscription leaves an event out."""

    def subscribe(self, *, after=0, **wanted):
        wanted = _filter(**wanted)
        return SkippingSubscription(self, after, wanted)


class SkippingSubscription(SqliteSubscription):
    def __next__(self):
        if self._store._now_and_then():
            super().__next__()
        return super().__next__()


class Repeating(Sound):
    """A subscription brings an event twice."""

    def subscribe(self, *, after=0, **wanted):
        wanted = _filter(**wanted)
        return RepeatingSubscription(self, after, wanted)


class RepeatingSubscription(SqliteSubscription):
    _last = None

    def __next__(self):
        if self._last is None or not self._store._now_and_then():
            self._last = super().__next__()
        return self._last


class Early(Sound):
    """A commit is acknowledged before others can see it."""

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
            self._settled()
            return super().append(events, **options)

    def _settled(self):
        # Of its own commits a process knows: only others are told too early.
        if getattr(self, "_late", None) is not None:
            self._late.join()
            self._late = None

    def _events(self, condition, values):
        with self._changed:
            self._settled()
            yield from super()._events(condition, values)

    def _one(self, query, values=()):
        with self._changed:
            if not self._db.in_transaction:
                self._settled()
            return super()._one(query, values)

    def close(self):
        with self._changed:
            self._settled()
        super().close()


class Stale(Sound):
    """Reads are of a state that others have left behind."""

    def __init__(self, path):
        super().__init__(path)
        self._view = Sound(path)
        self._since = 0.0

    @contextmanager
    def _renewed(self):
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
        with self._renewed() as view:
            return view.read_streams(streams, **options)

    def version(self, stream):
        with self._renewed() as view:
            return view.version(stream)

    def close(self):
        self._view.close()
        super().close()


class Careless(Sound):
    """Versions are looked at before the log is held, not while."""

    def append(self, events, *, expect=None, **options):
        with self._transaction():
            super()._judge(expect or {})
        time.sleep(0.001)
        return super().append(events, expect=expect, **options)

    def _judge(self, expect):
        pass


class Skewed(Sound):
    """Streams that are only checked are looked at before the log is held."""

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


class Piecewise(Sound):
    """A snapshot reads each stream as it is when its turn comes."""

    def read_streams(self, streams, *, at=None, after=None):
        parts = []
        for stream in streams:
            parts.append(super().read_streams([stream], at=at, after=after))
            time.sleep(0.001)
        versions = {s: v for part in parts for s, v in part.versions.items()}
        events = [event for part in parts for event in part.events]
        events.sort(key=lambda event: event.position)
        return SqliteSnapshot(max(p.position for p in parts), versions, events)


class Forgetful(Sound):
    """Now and then a key is not known any more."""

    def _request(self, key, content):
        if self._now_and_then():
            self._db.execute("DELETE FROM request WHERE key = ?", (key,))
        return super()._request(key, content)


class Regretful(Sound):
    """What was refused is written all the same."""

    def append(self, events, *, expect=None, **options):
        try:
            return super().append(events, expect=expect, **options)
        except eb.VersionConflict:
            if events and self._now_and_then():
                super().append(events)
            raise


class Reserving(Sound):
    """Positions are handed out before commits are done: later ones may show first."""

    def append(self, events, **options):
        events = list(events)
        with self._changed:
            if not self._now_and_then():
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


class Miscounting(Sound):
    """The answer names another version than the one that was made."""

    def append(self, events, **options):
        done = super().append(events, **options)
        if not done.versions or not self._now_and_then():
            return done
        versions = {stream: version + 1 for stream, version in done.versions.items()}
        first, last = done.first_position, done.last_position
        return eb.Appended(first, last, versions, replayed=done.replayed)


FAULTS = {
    Losing: {"log"},
    Tearing: {"log", "order", "cycles", "streams"},
    Skipping: {"delivery"},
    Repeating: {"delivery"},
    Early: {"order"},
    Stale: {"order", "cycles", "streams"},
    Careless: {"order"},
    Skewed: {"order", "cycles"},
    Piecewise: {"order", "cycles"},
    Forgetful: {"keys"},
    Regretful: {"log"},
    Reserving: {"log", "order"},
    Miscounting: {"log", "streams"},
}
"""Each fault, and the checks that must see it, each by itself."""
