"""The log against a model of lists and dictionaries, with reopening.

The hazard: a sequence of appends, conflicts, replays and restarts that nobody thought
of, after which the log says something else than what was acknowledged.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

import eventbraid as eb

STREAMS = ["a", "a-1", "a-2", "b-1", "order-é", "c"]
TYPES = ["opened", "paid", "x"]
streams = st.sampled_from(STREAMS)
events = st.lists(
    st.tuples(
        streams,
        st.sampled_from(TYPES),
        st.binary(max_size=40),
        st.dictionaries(st.sampled_from(["k", "correlation_id"]), st.text(max_size=5)),
    ),
    max_size=6,
)
conditions = st.one_of(st.sampled_from(list(eb.StreamCondition)), st.integers(0, 12))


class Model:
    """What the log should say."""

    def __init__(self):
        self.log: list[tuple[str, int, str, bytes, dict[str, str]]] = []
        self.keys: dict[str, tuple[object, eb.Appended]] = {}

    def version(self, stream):
        return sum(name == stream for name, *_ in self.log)

    def fails(self, stream, expected):
        version = self.version(stream)
        return not {
            eb.ANY: True,
            eb.EXISTS: version > 0,
            eb.NO_STREAM: version == 0,
        }.get(expected, version == expected)

    def conflicts(self, expect):
        return {
            eb.ConflictedStream(stream, expected, self.version(stream))
            for stream, expected in expect.items()
            if self.fails(stream, expected)
        }

    def append(self, batch):
        first = len(self.log) + 1
        for stream, kind, data, metadata in batch:
            self.log.append((stream, self.version(stream) + 1, kind, data, metadata))
        versions = {stream: self.version(stream) for stream, *_ in batch}
        if not batch:
            return eb.Appended(None, None, {}, replayed=False)
        return eb.Appended(first, len(self.log), versions, replayed=False)


def shown(recorded):
    return (
        recorded.stream,
        recorded.version,
        recorded.type,
        recorded.data,
        dict(recorded.metadata),
    )


class LogAgainstModel(RuleBasedStateMachine):
    used_keys = Bundle("used keys")

    @initialize(size=st.sampled_from([64 * 1024, 1024 * 1024]))
    def start(self, size):
        self.folder = Path(tempfile.mkdtemp())
        self.size = size
        self.model = Model()
        self.ids = set()
        self.open()

    def open(self):
        self.store = eb.open(self.folder / "store.braid", segment_size=self.size)

    def teardown(self):
        if hasattr(self, "folder"):
            self.store.close()
            shutil.rmtree(self.folder)

    def attempt(self, batch, expect, key=None):
        new = [eb.NewEvent(s, t, d, metadata=m) for s, t, d, m in batch]
        return self.store.append(new, expect=expect, idempotency_key=key)

    @rule(batch=events, expect=st.dictionaries(streams, conditions, max_size=3))
    def append(self, batch, expect):
        if not batch and not expect:
            return
        self.judged(batch, expect)

    @rule(stream=streams, size=st.integers(1, 30_000))
    def append_much(self, stream, size):
        self.judged([(stream, "x", bytes(size), {})], {})

    @rule(
        target=used_keys,
        number=st.integers(0, 5),
        batch=events,
        expect=st.dictionaries(streams, conditions, max_size=2),
    )
    def append_with_key(self, number, batch, expect):
        key = f"key-{number}"
        # ANY demands nothing, so it is no part of what a key stands for.
        content = (batch, {s: e for s, e in expect.items() if e is not eb.ANY})
        if key not in self.model.keys:
            done = self.judged(batch, expect, key)
            if done is not None:
                self.model.keys[key] = (content, done)
        elif self.model.keys[key][0] != content:
            with pytest.raises(eb.IdempotencyMismatch):
                self.attempt(batch, expect, key)
        return key

    @rule(key=used_keys)
    def ask_again(self, key):
        known = self.model.keys.get(key)
        found = self.store.committed(key)
        if known is None:
            assert found is None
            return
        (batch, expect), done = known
        replay = eb.Appended(
            done.first_position, done.last_position, done.versions, replayed=True
        )
        assert found == replay == self.attempt(batch, expect, key)

    @rule(key=consumes(used_keys))
    def forget(self, key):
        """Shrink the bundle."""

    def judged(self, batch, expect, key=None):
        conflicts = self.model.conflicts(expect)
        if conflicts:
            with pytest.raises(eb.VersionConflict) as refused:
                self.attempt(batch, expect, key)
            assert set(refused.value.failures) == conflicts
            return None
        done = self.attempt(batch, expect, key)
        assert done == self.model.append(batch)
        return done

    @rule()
    def reopen(self):
        self.store.close()
        self.open()

    @rule(after=st.integers(0, 40), limit=st.integers(0, 20), backward=st.booleans())
    def read_part(self, after, limit, backward):
        log = [(position, *facts) for position, facts in enumerate(self.model.log, 1)]
        wanted = [
            row for row in log if (row[0] < after if backward else row[0] > after)
        ]
        bounds = {"before": after} if backward else {"after": after}
        wanted = wanted[::-1] if backward else wanted
        found = self.store.read_all(limit=limit, backward=backward, **bounds)
        assert [(r.position, *shown(r)) for r in found] == wanted[:limit]

    @rule(
        prefix=st.sampled_from([None, "", "a", "a-", "order-"]),
        category=st.sampled_from([None, "a", "b", "order"]),
        types=st.none() | st.lists(st.sampled_from(TYPES), max_size=2),
    )
    def read_filtered(self, prefix, category, types):
        def passes(stream, _version, kind, *_):
            return (
                stream.startswith(prefix or "")
                and category in {None, stream.split("-")[0]}
                and (types is None or kind in types)
            )

        found = self.store.read_all(prefix=prefix, category=category, types=types)
        assert list(map(shown, found)) == [
            row for row in self.model.log if passes(*row)
        ]

    @rule(names=st.lists(streams, unique=True, max_size=4), back=st.integers(0, 5))
    def read_snapshot(self, names, back):
        at = max(0, len(self.model.log) - back)
        past = self.model.log[:at]
        snapshot = self.store.read_streams(names, at=at)
        assert snapshot.position == at
        assert list(map(shown, snapshot.events)) == [r for r in past if r[0] in names]
        assert snapshot.versions == {n: sum(r[0] == n for r in past) for n in names}

    @rule()
    def verify(self):
        assert self.store.verify().events == len(self.model.log)

    @invariant()
    def the_log_is_the_model(self):
        if not hasattr(self, "store"):
            return
        assert self.store.head() == len(self.model.log)
        found = list(self.store.read_all())
        assert list(map(shown, found)) == self.model.log
        assert [r.position for r in found] == list(range(1, len(found) + 1))
        assert len({r.event_id for r in found}) == len(found)
        for stream in STREAMS:
            mine = [row for row in self.model.log if row[0] == stream]
            assert self.store.version(stream) == len(mine)
            assert list(map(shown, self.store.read_stream(stream))) == mine
        written = sorted({row[0] for row in self.model.log}, key=str.encode)
        assert list(self.store.streams()) == written


TestLogAgainstModel = LogAgainstModel.TestCase
# Each step is a real commit and a reading of the whole log.
TestLogAgainstModel.settings = settings(stateful_step_count=30)
