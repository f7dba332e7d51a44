"""The table of limits agrees with the code, and each error says what its row says.

The hazard: a limit that the page doesn't have or has with another value, and an error
from which a caller can't find out the limit, the value, or the way round.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import eventbraid as eb
from eventbraid.command import _decision, _declared, _discovery, _snapshot_format
from eventbraid.command._executor import _DEFAULT_BOUNDS, _DEFAULT_TIMEOUT
from eventbraid.command._retry_policy import COMMAND_SCHEDULE
from eventbraid.domain import _id, _schema
from eventbraid.event import (
    EventDecoder,
    EventRegistry,
    UpcastEvent,
    _body_codec,
    _decode_steps,
    _event_type,
    _upcasting,
    upcaster,
)
from eventbraid.saga.definition import _saga, _step_checks
from eventbraid.saga.machine import (
    _facts,
    _idempotency_keys,
    _item_rules,
    _record_texts,
)
from eventbraid.store import _duration, _reservation
from eventbraid.testing import Conflict, FaultyStore

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "limits.md"
ENGINE = ROOT / "rust" / "engine" / "src"

KIB, MIB, GIB = 2**10, 2**20, 2**30
# What Python and msgspec convert between text and number; no constant of this library.
DIGITS = 4_300


def engine_constant(file: str, name: str) -> int:
    """Return a constant of the engine's source."""
    text = (ENGINE / file).read_text()
    found = re.search(rf"const {name}: \w+ = ([0-9_]+)(?: << ([0-9]+))?;", text)
    assert found, (file, name)
    return int(found[1]) << int(found[2] or 0)


NAME = engine_constant("names.rs", "NAME_LIMIT")
DATA = engine_constant("commit/append_limits.rs", "DATA_LIMIT")
METADATA = engine_constant("commit/append_limits.rs", "METADATA_LIMIT")
COMMIT = engine_constant("commit/append_limits.rs", "COMMIT_LIMIT")
STREAMS = engine_constant("commit/append_limits.rs", "STREAMS_LIMIT")
EXPECTATIONS = engine_constant("commit/append_limits.rs", "EXPECTATIONS_LIMIT")
FRAME = engine_constant("frame/header.rs", "FRAME_LIMIT")
EVENT = engine_constant("frame/encode.rs", "EVENT")
SESSIONS = engine_constant("coord/page.rs", "MAX_SESSIONS")
RESERVED = engine_constant("coord/page.rs", "MAX_RESERVED_STREAMS")


@dataclass(frozen=True)
class Row:
    """A row of the page."""

    limit: str
    beyond: str
    way_round: str


@dataclass(frozen=True)
class Limit:
    """A limit of the code.

    Attributes:
        shown: The limit as the page shows it.
        exceed: Exceeds it; None if nothing is raised.
        limit: The limit in the message.
        actual: The value in the message.
    """

    shown: str
    exceed: Callable[[], object] | None = None
    limit: object = ""
    actual: object = ""


def rows() -> Iterator[tuple[str, Row]]:
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 5 and cells[0] != "of":
            of, what, *rest = cells
            yield f"{of}: {what}", Row(*rest)


ROWS = dict(rows())


# --- limits that are exceeded by one ------------------------------------------------


def append(events: Any = (), **options: Any) -> None:
    with eb.open("memory:") as store:
        try:
            store.append(events, **options)
        finally:
            assert store.head() == 0


def decode(registry: EventRegistry, kind: str, data: bytes = b"{}") -> None:
    with eb.open("memory:") as store:
        store.append([("limits-1", kind, data)])
        [recorded] = store.read_stream("limits-1")
    EventDecoder(registry=registry).events([recorded])


@eb.value_object
class Branch:
    branches: tuple[Branch, ...] = ()


@eb.event("limits.branched")
class Branched:
    root: Branch


@eb.event("limits.counted")
class Counted:
    number: int


class Counter(eb.Stream[Counted], category="counter"): ...


class CounterId(eb.Id, prefix="counter"): ...


class CountAll(eb.Command):
    counters: eb.DeclaredMany[Counter]

    def decide(self) -> tuple[()]:
        return ()


class CountOften(eb.Command):
    counter: eb.Declared[Counter]
    number: int

    def decide(self) -> Iterator[eb.Write]:
        for _ in range(self.number):
            yield self.counter.write(Counted(0))


class Discover(eb.Command):
    """Discovers streams: one a round, many at once, one often, or a category."""

    how: str

    def discover(self) -> Iterator[Counter | type[Counter]]:
        match self.how:
            case "rounds":
                rounds = len(self.__dict__[" states"].get(Counter, {}))
                yield Counter(f"counter-{rounds}")
            case "streams":
                yield from (Counter(f"counter-{number}") for number in range(2_000))
            case "requests":
                while True:
                    yield Counter("counter-1")
            case _:
                yield Counter

    def decide(self) -> tuple[()]:
        return ()


def execute(command: eb.Command, **options: Any) -> None:
    with eb.open("memory:") as store:
        eb.Executor(store, **options).execute(command)


def write_too_often() -> None:
    with eb.open("memory:") as store:
        count = _decision.COMMIT_EVENTS_LIMIT + 1
        eb.Executor(store).execute(
            CountOften(counter="counter-1", number=0),
            also=[eb.Write("counter-1", Counted(0))] * count,
        )


def discover_category() -> None:
    with eb.open("memory:") as store:
        names = [f"counter-{number}" for number in range(1_001)]
        store.append([(name, "limits.counted", b'{"number":1}') for name in names])
        eb.Executor(store).execute(Discover(how="category"))


def conflict(times: int) -> None:
    with eb.open("memory:") as store:
        faulty = FaultyStore(store, Conflict(times=times))
        short = timedelta(milliseconds=1)
        options = {} if times < 99 else {"retry_timeout": short}
        eb.Executor(faulty, **options).execute(
            CountOften(counter="counter-1", number=1)
        )


def nest() -> None:
    branch = Branch()
    for _ in range(_schema.MAX_NESTING):
        branch = Branch((branch,))
    eb.encode_event(Branched(branch))


def decode_nested() -> None:
    registry = EventRegistry()

    @eb.event("limits.nested", registry=registry)
    class Nested:
        value: Any

    levels = _schema.MAX_NESTING
    decode(
        registry, "limits.nested", b'{"value":' + b"[" * levels + b"]" * levels + b"}"
    )


def split() -> None:
    registry = EventRegistry()

    @eb.event("limits.part", registry=registry)
    class Part: ...

    @upcaster("limits.whole", from_version=1, into=["limits.part"], registry=registry)
    def divide(body: Any) -> list[UpcastEvent]:
        return [UpcastEvent("limits.part", {})] * (_upcasting.SPLIT_LIMIT + 1)

    decode(registry, "limits.whole")


def decode_in_a_circle() -> None:
    registry = EventRegistry()
    for one, other in (("a", "b"), ("b", "a")):
        upcaster(
            f"limits.{one}", from_version=1, into=[f"limits.{other}"], registry=registry
        )(lambda body, other=other: [UpcastEvent(f"limits.{other}", body)])
    decode(registry, "limits.a")


def define_event(name: str, version: int = 1) -> None:
    eb.event(name, version=version, registry=EventRegistry())(type("Any", (), {}))


def define_saga(name: str, step: str) -> eb.Saga[int]:
    only = eb.local_step(step, lambda _: None).without_compensation()
    return eb.Saga(name, int, steps=[only])


class Codec:
    """A codec that changes nothing."""

    def __init__(self, codec_id: str) -> None:
        self.id = codec_id

    def encode(self, body: bytes, context: object) -> bytes:
        return body

    def decode(self, body: bytes, context: object) -> bytes:
        return body


def constructed(file: str, what: str, limit: int) -> None:
    """Raise what the engine raises, for a limit that no test can reach."""
    assert f'"{what}"' in (ENGINE / file).read_text()
    raise eb.errors.LimitExceeded(what, limit + 1, limit)


def numbered(count: int, prefix: str = "counter-") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


U32 = 2**32 - 1
EXECUTOR = inspect.signature(eb.Executor).parameters
KEY = _idempotency_keys.MAXIMUM_KEY_BYTES

LIMITS: dict[str, Limit] = {
    "names: stream id": Limit(
        f"{NAME} bytes", partial(append, [("x" * 256, "x", b"")]), NAME, 256
    ),
    "names: event type": Limit(
        f"{NAME} bytes", partial(append, [("x", "x" * 256, b"")]), NAME, 256
    ),
    "names: category of an expectation": Limit(
        f"{NAME} bytes", partial(append, expect_categories={"x" * 256: 0}), NAME, 256
    ),
    "names: idempotency key": Limit(
        f"{NAME} bytes", partial(append, idempotency_key="x" * 256), NAME, 256
    ),
    "names: value of a kind of `eb.Id`": Limit(
        f"{_id.MOST_BYTES} bytes", partial(CounterId, "counter-" + "x" * 248), 255, 256
    ),
    "names: id of a codec": Limit(
        f"{_body_codec.ID_BYTES_LIMIT} bytes",
        lambda: eb.event(
            "limits.coded", codec=Codec("x" * 65), registry=EventRegistry()
        )(type("Any", (), {})),
        64,
        65,
    ),
    "names: name of a saga": Limit(
        f"{_saga._MAXIMUM_NAME_BYTES} bytes",
        partial(define_saga, "x" * 256, "step"),
        255,
        256,
    ),
    "names: name of a step": Limit(
        f"{_step_checks._MAXIMUM_NAME_BYTES} bytes",
        partial(define_saga, "saga", "x" * 81),
        80,
        81,
    ),
    "names: id of a saga together with the name of a step": Limit(
        f"{KEY} bytes",
        lambda: _idempotency_keys.check_saga_id(define_saga("saga", "step"), "x" * 250),
        KEY,
        250 + len("/step/1000/compensation"),
    ),
    "an event: data": Limit(
        f"{DATA // MIB} MiB",
        partial(append, [("x", "x", bytes(DATA + 1))]),
        f"{DATA:,}",
        f"{DATA + 1:,}",
    ),
    "an event: metadata": Limit(
        f"{METADATA // KIB} KiB",
        lambda: append([eb.NewEvent("x", "x", b"", metadata={"k": "x" * METADATA})]),
        f"{METADATA:,}",
        f"{METADATA + len('{:}') + 5:,}",
    ),
    "an event: nesting of data": Limit(
        f"{_schema.MAX_NESTING} levels", nest, "more than 100 levels"
    ),
    "an event: nesting of data that is decoded": Limit(
        f"{_schema.MAX_NESTING} levels", decode_nested, "more than 100 levels"
    ),
    "an event: digits of a whole number": Limit(
        f"{DIGITS:,}",
        lambda: eb.encode_event(Counted(10**DIGITS)),
        f"more than {DIGITS:,}",
    ),
    "an event: schema version": Limit(
        f"{_event_type.HIGHEST_VERSION:,}",
        partial(define_event, "limits.late", 10**9),
        "999,999,999",
        "1,000,000,000",
    ),
    "an event: events that an upcaster makes of it": Limit(
        f"{_upcasting.SPLIT_LIMIT:,}", split, "more than 1,000"
    ),
    "an event: upcasters that it passes through": Limit(
        f"{_decode_steps._STEPS_LIMIT:,}", decode_in_a_circle, "more than 10,000"
    ),
    "a commit: bytes of types, metadata and data": Limit(
        f"{COMMIT // MIB} MiB",
        partial(append, [("x", "x", bytes(DATA))] * 2),
        f"{COMMIT:,}",
        f"{COMMIT + 2:,}",
    ),
    "a commit: these bytes, with 40 for each event": Limit(
        f"{FRAME // MIB} MiB",
        partial(append, [("x", "x", b"")] * (FRAME // (EVENT + 1) + 1)),
        f"{FRAME:,}",
        f"{(FRAME // (EVENT + 1) + 1) * (EVENT + 1):,}",
    ),
    "a commit: events of a command": Limit(
        f"{_decision.COMMIT_EVENTS_LIMIT:,}",
        write_too_often,
        f"{_decision.COMMIT_EVENTS_LIMIT:,}",
        f"{_decision.COMMIT_EVENTS_LIMIT + 1:,}",
    ),
    "a commit: written streams": Limit(
        f"{STREAMS:,}",
        lambda: append([(name, "x", b"") for name in numbered(STREAMS + 1)]),
        f"{STREAMS:,}",
        f"{STREAMS + 1:,}",
    ),
    "a commit: expectations on streams and categories": Limit(
        f"{EXPECTATIONS:,}",
        lambda: append(
            [],
            expect=dict.fromkeys(numbered(EXPECTATIONS), 0),
            expect_categories={"counter": 0},
        ),
        f"{EXPECTATIONS:,}",
        f"{EXPECTATIONS + 1:,}",
    ),
    "a command: streams of a `DeclaredMany` field": Limit(
        f"{_declared.STREAMS_LIMIT:,}",
        lambda: CountAll(counters=numbered(10_001)),
        "10,000",
        "10,001",
    ),
    "a command: ids given for such a field, with repetitions": Limit(
        f"{_declared.GIVEN_LIMIT:,}",
        lambda: CountAll(counters=["counter-1"] * 100_001),
        "100,000",
        "100,001",
    ),
    "a command: rounds of discovery": Limit(
        f"{_DEFAULT_BOUNDS.rounds}", lambda: execute(Discover(how="rounds")), 16, 17
    ),
    "a command: discovered streams": Limit(
        f"{_DEFAULT_BOUNDS.streams:,}",
        lambda: execute(Discover(how="streams")),
        "1,000",
        "1,001",
    ),
    "a command: streams of a discovered kind": Limit(
        f"{_DEFAULT_BOUNDS.streams:,}", discover_category, "1,000", "1,001"
    ),
    "a command: requests of `discover` in one round, with repetitions": Limit(
        f"{_discovery.REQUESTS_LIMIT:,}",
        lambda: execute(Discover(how="requests")),
        "100,000",
        "100,001",
    ),
    "a command: attempts": Limit(
        f"{COMMAND_SCHEDULE.maximum_attempts}", partial(conflict, 98), "10 attempts"
    ),
    "a command: duration of all attempts": Limit(
        f"{_DEFAULT_TIMEOUT.seconds} s", partial(conflict, 99), "0.001 s", "attempts in"
    ),
    "a command: recorded snapshot of a state": Limit(
        f"{_snapshot_format.LARGEST_BYTES // MIB} MiB"
    ),
    "a command: cached states, in a process": Limit(
        f"{EXECUTOR['state_cache_bytes'].default // MIB} MiB"
    ),
    "a command: cached decoded events, in a process": Limit(
        f"{EXECUTOR['remembered_bytes'].default // MIB} MiB"
    ),
    "a command: streams and categories that a reservation delays": Limit(f"{RESERVED}"),
    "a command: duration of a reservation": Limit(
        f"{_reservation.LONGEST_SECONDS:.0f} s"
    ),
    "a store: streams": Limit(
        f"{U32:,}",
        partial(constructed, "index/apply_error.rs", "the streams of a store", U32),
        f"{U32:,}",
        f"{U32 + 1:,}",
    ),
    "a store: idempotency keys": Limit(
        f"{U32:,}",
        partial(
            constructed, "index/apply_error.rs", "the idempotency keys of a store", U32
        ),
        f"{U32:,}",
        f"{U32 + 1:,}",
    ),
    "a store: index of the events' positions": Limit(
        "16 GiB",
        partial(
            constructed,
            "index/apply_error.rs",
            "the bytes of postings in the index of a store",
            16 * GIB,
        ),
        f"{16 * GIB:,}",
        f"{16 * GIB + 1:,}",
    ),
    "a store: sessions that have it open": Limit(
        f"{SESSIONS}",
        partial(
            constructed, "coord/session.rs", "the sessions of this store", SESSIONS
        ),
        SESSIONS,
        SESSIONS + 1,
    ),
    "a store: duration of any argument": Limit(
        f"{_duration.LONGEST_DURATION.days:,} days"
    ),
    "a saga: facts of a rejection that it records": Limit(
        f"{_facts._MAXIMUM_BYTES // KIB} KiB"
    ),
    "a saga: nesting of these facts": Limit(f"{_facts._MAXIMUM_LEVELS} levels"),
    "a saga: text of a record": Limit(
        f"{_record_texts._MAXIMUM_RECORDED:,} characters"
    ),
    "a saga: keys of the items of a step, together": Limit(
        f"{_item_rules.KEYS_LIMIT // MIB} MiB"
    ),
}

RAISING = [name for name, limit in LIMITS.items() if limit.exceed is not None]


def test_the_page_has_a_row_for_each_limit():
    assert ROWS.keys() == LIMITS.keys()


@pytest.mark.parametrize("name", LIMITS)
def test_a_row_shows_the_limit_of_the_code(name):
    shown, _, argument = ROWS[name].limit.partition(", or ")
    assert shown == LIMITS[name].shown
    assert not argument or re.fullmatch(r"`(RetryPolicy\()?\w+=\)?`", argument)
    is_raising = re.fullmatch(r"`\w+`", ROWS[name].beyond) is not None
    assert is_raising is (LIMITS[name].exceed is not None)


@pytest.mark.parametrize("name", RAISING)
def test_an_error_names_the_limit_the_value_and_the_way_round(name):
    row, limit = ROWS[name], LIMITS[name]
    with pytest.raises(eb.EventbraidError) as raised:
        limit.exceed()
    message = str(raised.value)
    assert type(raised.value).__name__ == row.beyond.strip("`")
    assert str(limit.limit) in message
    assert str(limit.actual) in message
    assert row.way_round.replace("`", "") in message


def test_an_event_class_with_a_long_name_is_refused_like_its_events():
    with pytest.raises(eb.errors.InvalidEventType, match="256 bytes of UTF-8, .* 255"):
        define_event("x" * 256)
