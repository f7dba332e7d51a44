"""The expected results of a store, from lists and dictionaries: the model of model tests.

It has no limits and no durability.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import eventbraid as eb


@dataclass(frozen=True)
class Row:
    """One event in the log."""

    stream: str
    version: int
    position: int
    type: str
    data: bytes
    metadata: dict[str, str]
    event_id: object
    original_time: object

    @property
    def category(self):
        return self.stream.split("-", 1)[0]


@dataclass
class ModelStore:
    """The methods of `EventStore`, over a list."""

    log: list[Row] = field(default_factory=list)
    requests: dict[str, tuple[object, eb.Appended]] = field(default_factory=dict)

    def append(
        self,
        events,
        *,
        expect=None,
        idempotency_key=None,
        content=None,
        expect_categories=None,
    ):
        expect, expect_categories = expect or {}, expect_categories or {}
        meant = (
            content
            if content is not None
            else _meant(events, expect, expect_categories)
        )
        if idempotency_key in self.requests:
            return self.committed(idempotency_key, content=meant)
        failures = [
            eb.errors.ConflictedStream(stream, expected, self.version(stream))
            for stream, expected in expect.items()
            if not _holds(expected, self.version(stream))
        ]
        categories = [
            eb.errors.ConflictedCategory(category, expected, actual)
            for category, expected in expect_categories.items()
            if not _holds(expected, actual := len(self._members(category)))
        ]
        if failures or categories:
            raise eb.VersionConflict(failures, categories)
        done = self._write(events)
        if idempotency_key is not None:
            self.requests[idempotency_key] = (meant, done)
        return done

    def _write(self, events):
        before = self.head()
        for e in events:
            place = (self.version(e.stream) + 1, self.head() + 1)
            facts = (e.data, dict(e.metadata), e.event_id, e.original_time)
            row = Row(e.stream, *place, e.type, *facts)
            self.log.append(row)
        versions = {row.stream: row.version for row in self.log[before:]}
        if not versions:
            return eb.Appended(None, None, {}, replayed=False)
        return eb.Appended(before + 1, self.head(), versions, replayed=False)

    def committed(self, idempotency_key, *, content=None):
        if idempotency_key not in self.requests:
            return None
        meant, done = self.requests[idempotency_key]
        if content not in (None, meant):
            raise eb.errors.IdempotencyMismatch(idempotency_key)
        return eb.Appended(
            done.first_position, done.last_position, done.versions, replayed=True
        )

    def read_stream(self, stream, **bounds):
        mine = [row for row in self.log if row.stream == stream]
        return _part(mine, lambda row: row.version, **bounds)

    def read_all(
        self,
        *,
        stream=None,
        prefix=None,
        category=None,
        types=None,
        system=False,
        **bounds,
    ):
        system = system or _name_system(stream, prefix, category)
        passed = [
            row
            for row in self.log
            if (system or not row.stream.startswith("$"))
            and (stream is None or row.stream == stream)
            and row.stream.encode().startswith((prefix or "").encode())
            and (category is None or row.category == category)
            and (types is None or row.type in types)
        ]
        return _part(passed, lambda row: row.position, **bounds)

    def read_streams(self, streams, *, at=None, after=None):
        at = self.head() if at is None else min(at, self.head())
        past = [row for row in self.log[:at] if row.stream in streams]
        versions = {name: sum(r.stream == name for r in past) for name in streams}
        known = after or {}
        events = [row for row in past if row.version > known.get(row.stream, 0)]
        return ModelSnapshot(at, versions, events)

    def category_streams(self, category, /, *, at=None, after=0, limit=None):
        at = self.head() if at is None else min(at, self.head())
        members = self._members(category, at)
        end = None if limit is None else after + limit
        return eb.store.CategoryStreams(at, len(members), tuple(members[after:end]))

    def _members(self, category, at=None):
        rows = [row for row in self.log[:at] if row.category == category]
        return list(dict.fromkeys(row.stream for row in rows))

    def version(self, stream):
        return sum(row.stream == stream for row in self.log)

    def head(self):
        return len(self.log)

    def streams(self, prefix=None, *, system=False):
        system = system or _name_system(prefix)
        names = {
            row.stream.encode()
            for row in self.log
            if system or not row.stream.startswith("$")
        }
        wanted = (prefix or "").encode()
        return [name.decode() for name in sorted(names) if name.startswith(wanted)]


@dataclass(frozen=True)
class ModelSnapshot:
    position: int
    versions: dict[str, int]
    events: list[Row]


def _holds(expected, version):
    if isinstance(expected, int):
        return version == expected
    return {eb.ANY: True, eb.NO_STREAM: not version, eb.EXISTS: version > 0}[expected]


def _meant(events, expect, expect_categories):
    """Return the content that a key identifies; `ANY` is no part of it."""
    facts = [(e.stream, e.type, e.data, dict(e.metadata)) for e in events]
    return facts, *(
        {name: repr(e) for name, e in expected.items() if e is not eb.ANY}
        for expected in (expect, expect_categories)
    )


def _name_system(*beginnings):
    return any((beginning or "").startswith("$") for beginning in beginnings)


def _part(rows, place, *, after=0, before=None, limit=None, backward=False):
    rows = [
        row
        for row in rows
        if place(row) > after and (before is None or place(row) < before)
    ]
    return (rows[::-1] if backward else rows)[:limit]
