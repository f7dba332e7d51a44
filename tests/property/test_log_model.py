"""Four stores under one grammar of commands: a model, SQLite, the engine on disk and in
memory. Every answer of each is compared with the model's, errors by type and facts.

The hazard: an unforeseen sequence of appends, conflicts, replays, reads and restarts,
after which the log differs from the acknowledged results.

A longer search: pytest tests/property/test_log_model.py --hypothesis-profile=search
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from itertools import islice
from pathlib import Path
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import eventbraid as eb
from tests.contract.model_store import ModelStore
from tests.contract.sqlite_store import SqliteStore

STREAMS = ["a", "a-1", "a-2", "b-1", "order-é", "A-1", "a%"]
TYPES = ["opened", "paid", "x"]
KEYS = ["k-1", "k-2", "k-é"]
SMALLEST_SEGMENT = 64 * 1024

streams = st.sampled_from(STREAMS)
metadata = st.dictionaries(
    st.sampled_from(["k", "correlation_id", "é\n"]), st.text(max_size=5), max_size=2
)
times = st.none() | st.datetimes(timezones=st.just(UTC))
event = st.tuples(
    streams, st.sampled_from(TYPES), st.binary(max_size=40), metadata, times
)
batches = st.lists(event, max_size=5)
# An exact version is drawn as its distance from the one that is: most should hold.
demands = st.one_of(
    st.sampled_from(list(eb.errors.StreamCondition)),
    st.sampled_from([0, 0, 0, 0, -1, 1, 7]),
)
checks = st.dictionaries(streams, demands, max_size=3)
categories = st.sampled_from(["a", "b", "order", "A", "a%", "z"])
category_checks = st.just({}) | st.dictionaries(categories, demands, max_size=2)
filters = st.fixed_dictionaries(
    {},
    optional={
        "prefix": st.sampled_from(["", "a", "a-", "A", "a%", "order-é", "é"]),
        "category": st.sampled_from(["a", "A", "b", "order", "a%", ""]),
        "types": st.lists(st.sampled_from([*TYPES, "X"]), max_size=2),
        "stream": st.sampled_from([*STREAMS, "z"]),
        "system": st.booleans(),
    },
)
places = st.integers(0, 60)
bounds = st.fixed_dictionaries(
    {"backward": st.booleans()},
    optional={"after": places, "before": places, "limit": st.integers(0, 70)},
)

# A defect in an otherwise good append, and the error that it must meet.
DEFECTS = {
    "stream": (eb.errors.InvalidStreamId, [("", "x", b""), ("a\n", "x", b"")]),
    "long stream": (eb.errors.InvalidStreamId, [("é" * 128, "x", b"")]),
    "event type": (eb.errors.InvalidEventType, [("a", "", b""), ("a", "t" * 256, b"")]),
    "data": (eb.errors.LimitExceeded, [("a", "x", bytes(8 * 2**20 + 1))]),
    "no event": (TypeError, [("a", "x"), ("a", "x", None), None]),
}


@dataclass
class Follower:
    """One subscription on each store, and how far the model says that it is."""

    wanted: dict[str, object]
    place: int
    subscriptions: list[object] = field(default_factory=list)


class StoresAgainstModel(RuleBasedStateMachine):
    @initialize(small=st.booleans())
    def start(self, small):
        self.folder = Path(tempfile.mkdtemp())
        self.options = {"segment_size": SMALLEST_SEGMENT} if small else {}
        self.lives = 0
        self.events = 0
        self.model = ModelStore()
        self.followers = []
        self.memory = eb.open("memory:", **self.options)
        self.open()

    def open(self):
        self.disk = eb.open(self.home / "disk", **self.options)
        self.sqlite = SqliteStore(self.home / "sqlite", synchronous="OFF")

    @property
    def home(self):
        home = self.folder / f"life-{self.lives}"
        home.mkdir(exist_ok=True)
        return home

    @property
    def stores(self):
        return {"disk": self.disk, "memory": self.memory, "sqlite": self.sqlite}

    def teardown(self):
        if hasattr(self, "sqlite"):
            self.everything()
            for store in self.stores.values():
                store.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # --- one question to all ----------------------------------------------------------

    def agreed(self, question):
        """Ask every store; each must answer what the model answers."""
        wanted = outcome(question, self.model)
        for name, store in self.stores.items():
            found = outcome(question, store)
            assert found == wanted, f"{name} answers {found}, the model {wanted}"
        return wanted

    def made(self, batch):
        made = []
        for stream, kind, data, facts, time in batch:
            self.events += 1
            made.append(
                eb.NewEvent(
                    stream,
                    kind,
                    data,
                    metadata=facts,
                    event_id=UUID(int=self.events),
                    original_time=time,
                )
            )
        return made

    def demanded(self, checks):
        return {
            stream: max(0, self.model.version(stream) + demand)
            if isinstance(demand, int)
            else demand
            for stream, demand in checks.items()
        }

    def demanded_of_categories(self, checks):
        return {
            category: max(0, self.model.category_streams(category).version + demand)
            if isinstance(demand, int)
            else demand
            for category, demand in checks.items()
        }

    # --- appending --------------------------------------------------------------------

    @rule(batch=batches, checks=checks, category_checks=category_checks)
    def append(self, batch, checks, category_checks):
        if not batch and not checks and not category_checks:
            return
        events, expect = self.made(batch), self.demanded(checks)
        categories = self.demanded_of_categories(category_checks)
        self.agreed(
            lambda store: store.append(
                events, expect=expect, expect_categories=categories
            )
        )

    @rule(stream=streams, count=st.integers(1, 300), size=st.integers(0, 1000))
    def append_much(self, stream, count, size):
        if self.model.head() > 1_000:
            return
        events = self.made([(stream, "x", bytes(size), {}, None)] * count)
        self.agreed(lambda store: store.append(events))

    @rule(
        key=st.sampled_from(KEYS),
        batch=batches,
        checks=checks,
        category_checks=category_checks,
    )
    def append_with_key(self, key, batch, checks, category_checks):
        """If the key is taken, this is most likely a mismatch."""
        events, expect = self.made(batch), self.demanded(checks)
        categories = self.demanded_of_categories(category_checks)
        self.agreed(
            lambda store: store.append(
                events,
                expect=expect,
                idempotency_key=key,
                expect_categories=categories,
            )
        )
        self.latest = (key, batch, events, expect, categories)

    @rule(fresh_ids=st.booleans(), turned=st.booleans())
    def append_again(self, fresh_ids, turned):
        if not hasattr(self, "latest"):
            return
        key, batch, events, expect, categories = self.latest
        events = self.made(batch) if fresh_ids else events
        expect = dict(reversed(expect.items())) if turned else expect
        self.agreed(
            lambda store: store.append(
                events,
                expect=expect,
                idempotency_key=key,
                expect_categories=categories,
            )
        )

    @rule(batch=batches, content=st.sampled_from([b"", b"one", b"two"]))
    def append_with_content(self, batch, content):
        events = self.made(batch)
        self.agreed(
            lambda store: store.append(
                events, idempotency_key="with content", content=content
            )
        )
        self.agreed(lambda store: store.committed("with content", content=b"one"))

    @rule(key=st.sampled_from([*KEYS, "with content", "unheard of"]))
    def ask_for_a_key(self, key):
        self.agreed(lambda store: store.committed(key))

    @rule(
        batch=batches,
        defect=st.sampled_from(sorted(DEFECTS)),
        which=st.integers(0, 2),
        where=st.integers(0, 5),
        key=st.none() | st.just("refused"),
    )
    def append_what_is_refused(self, batch, defect, which, where, key):
        kind, bad = DEFECTS[defect]
        events = [*self.made(batch)]
        events.insert(where, bad[which % len(bad)])
        for name, store in self.stores.items():
            found = outcome(
                lambda store: store.append(events, idempotency_key=key), store
            )
            assert found[:2] == ("raised", kind), (name, found)
        self.agreed(lambda store: store.committed("refused"))

    # --- reading ----------------------------------------------------------------------

    @rule(stream=streams, bounds=bounds)
    def read_stream(self, stream, bounds):
        self.agreed(lambda store: list(store.read_stream(stream, **bounds)))

    @rule(wanted=filters, bounds=bounds)
    def read_log(self, wanted, bounds):
        self.agreed(lambda store: list(store.read_all(**wanted, **bounds)))

    @rule(
        names=st.lists(streams, max_size=4),
        back=st.none() | st.integers(-2, 10),
        after=st.dictionaries(streams, st.integers(0, 5), max_size=2),
    )
    def read_snapshot(self, names, back, after):
        at = None if back is None else max(0, self.model.head() - back)
        self.agreed(lambda store: store.read_streams(names, at=at, after=after))

    @rule(
        category=categories,
        back=st.none() | st.integers(-2, 10),
        after=st.integers(0, 3),
        limit=st.none() | st.integers(0, 3),
    )
    def read_category(self, category, back, after, limit):
        at = None if back is None else max(0, self.model.head() - back)
        self.agreed(
            lambda store: store.category_streams(
                category, at=at, after=after, limit=limit
            )
        )

    @rule(prefix=st.sampled_from([None, "", "a", "a-", "A", "a%", "z"]))
    def list_streams(self, prefix):
        self.agreed(lambda store: list(store.streams(prefix)))

    # --- following --------------------------------------------------------------------

    @rule(back=st.integers(-3, 30), wanted=filters)
    def follow(self, back, wanted):
        if len(self.followers) == 3:
            self.leave(self.followers.pop(0))
        place = max(0, self.model.head() - back)
        self.followers.append(self.followed(Follower(wanted, place)))

    @rule(most=st.integers(1, 400))
    def catch_up(self, most):
        for follower in self.followers:
            pending = self.model.read_all(after=follower.place, **follower.wanted)
            pending = pending[:most]
            for name, subscription in follower.subscriptions.items():
                with closed_if_stuck(subscription):
                    seen = list(islice(subscription, len(pending)))
                assert shown(seen) == shown(pending), name
                if pending:
                    place = pending[-1].position
                    assert place <= subscription.position <= self.model.head()
            if pending:
                follower.place = pending[-1].position

    def followed(self, follower):
        follower.subscriptions = {
            name: store.subscribe(after=follower.place, **follower.wanted)
            for name, store in self.stores.items()
        }
        return follower

    def leave(self, follower):
        for subscription in follower.subscriptions.values():
            subscription.close()
            assert list(islice(subscription, 1)) == []

    # --- the store itself -------------------------------------------------------------

    @rule()
    def verify(self):
        for store in (self.disk, self.memory):
            found = store.verify()
            assert found.events == self.model.head()
            assert found.streams == len(self.model.streams())

    @rule()
    def reopen(self):
        self.disk.close()
        self.sqlite.close()
        self.open()
        self.resume()

    @rule()
    def lose_the_process(self):
        """Go on with what is in the files now, as after a SIGKILL: nothing is closed."""
        before, self.lives = self.home, self.lives + 1
        copied(before / "disk", self.home / "disk")
        for source in before.glob("sqlite*"):
            shutil.copy(source, self.home)
        self.disk.close()
        self.sqlite.close()
        self.open()
        self.resume()

    def resume(self):
        """Subscriptions go on where those before them had been."""
        for follower in self.followers:
            for subscription in follower.subscriptions.values():
                subscription.close()
            self.followed(follower)

    @invariant()
    def ends_where_the_model_ends(self):
        if hasattr(self, "sqlite"):
            self.agreed(lambda store: store.head())
            self.agreed(lambda store: [store.version(stream) for stream in STREAMS])

    @rule()
    def everything(self):
        self.agreed(lambda store: list(store.read_all()))
        for store in self.stores.values():
            times = [recorded.recorded_at for recorded in store.read_all()]
            assert times == sorted(times)
        for stream in STREAMS:
            self.agreed(lambda store, stream=stream: list(store.read_stream(stream)))
        self.catch_up(10_000)


@contextmanager
def closed_if_stuck(subscription):
    """An event that is lost never comes: the wait for it must not be endless."""
    timer = threading.Timer(30, subscription.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def copied(source, target):
    """Copy the files of an open store as of one moment.

    In the background it may be getting its next file ready: then the copy mixes two
    states that were never there together, and is made again.
    """
    while True:
        names = sorted(source.rglob("*"))
        try:
            shutil.copytree(source, target)
        except shutil.Error:
            shutil.rmtree(target)
            continue
        if sorted(source.rglob("*")) == names:
            return
        shutil.rmtree(target)


def outcome(question, store):
    """What a store answers, in a form that can be compared: values, or an error's facts."""
    try:
        return ("answered", shown(question(store)))
    except (eb.EventbraidError, TypeError) as error:
        return ("raised", type(error), facts(error))


def facts(error):
    match error:
        case eb.VersionConflict():
            failing = (*error.failures, *error.categories)
            return (len(failing), frozenset(failing))
        case eb.errors.IdempotencyMismatch():
            return error.key
        case eb.errors.LimitExceeded():
            return (error.what, error.actual, error.limit)
        case eb.errors.InvalidArgument():
            return error.what
    return None


def shown(answer):
    if isinstance(answer, list):
        return [shown(item) for item in answer]
    if hasattr(answer, "events"):
        versions = list(dict(answer.versions).items())
        return (answer.position, versions, shown(answer.events))
    if hasattr(answer, "event_id"):
        return (
            *(answer.stream, answer.version, answer.position, answer.type),
            *(answer.data, dict(answer.metadata), answer.event_id),
            answer.original_time,
        )
    if isinstance(answer, eb.Appended):
        versions = dict(answer.versions)
        return (
            *(answer.first_position, answer.last_position),
            *(versions, answer.replayed),
        )
    return answer


TestStoresAgainstModel = StoresAgainstModel.TestCase
TestStoresAgainstModel.settings = settings(stateful_step_count=40)
