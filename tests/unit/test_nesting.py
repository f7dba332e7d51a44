"""Deep nesting is refused by one limit on the way in and on the way out.

orjson doesn't count every level of dataclasses in tuples and writes beyond its buffer,
which ends the interpreter; the other parsers raise RecursionError, which no reader of
events expects. The first test runs in a process of its own for that reason.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

import eventbraid as eb
from eventbraid.domain._schema import MAX_NESTING
from eventbraid.saga.definition._codec import Codec


@eb.value_object
class Tree:
    children: tuple[Tree, ...] = ()


@eb.value_object
class Link:
    number: int
    next: Link | None = None


@eb.value_object
class Leaf:
    name: str


@eb.value_object
class Branch:
    inside: tuple[Branch | Leaf, ...] = ()


@dataclasses.dataclass
class Loose:
    inside: list[Loose]


class Struct(msgspec.Struct):
    inside: list[Struct] = []


@eb.event("test_nesting.planted")
class Planted:
    tree: Tree


@eb.event("test_nesting.chained")
class Chained:
    first: Link


@eb.event("test_nesting.branched")
class Branched:
    branch: Branch


@eb.event("test_nesting.loose")
class Loosened:
    loose: Loose


@eb.event("test_nesting.struct")
class Structured:
    struct: Struct


@eb.event("test_nesting.free")
class Freed:
    free: Any


def planted(depth):
    tree = Tree()
    for _ in range(depth):
        tree = Tree((tree,))
    return Planted(tree)


def chained(depth):
    link = Link(0)
    for number in range(depth):
        link = Link(number, link)
    return Chained(link)


def branched(depth):
    branch: Branch | Leaf = Leaf("x")
    for _ in range(depth):
        branch = Branch((branch,))
    return Branched(Branch((branch,)))


def loosened(depth):
    loose = Loose([])
    for _ in range(depth):
        loose = Loose([loose])
    return Loosened(loose)


def structured(depth):
    struct = Struct([])
    for _ in range(depth):
        struct = Struct([struct])
    return Structured(struct)


def freed(depth):
    free: Any = []
    for _ in range(depth):
        free = [free]
    return Freed(free)


MAKERS = [planted, chained, branched, loosened, structured, freed]


def recorded(name, data):
    return eb.RecordedEvent(
        stream="deep-1",
        version=1,
        position=1,
        type=name,
        event_id=UUID(int=1),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
        metadata=None,
    )


def levels(data):
    depth = deepest = 0
    for character in data.decode():
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_accepted_up_to_the_limit_can_be_read_back(make):
    accepted = 0
    for depth in range(MAX_NESTING + 5):
        event = make(depth)
        try:
            name, data = eb.encode_event(event)
        except eb.errors.InvalidArgument as error:
            assert "nested more than" in str(error)  # noqa: PT017 - it may not be raised
            break
        except eb.InvalidValue:
            assert make is freed
            break
        assert levels(data) <= MAX_NESTING
        accepted = max(accepted, levels(data))
        assert eb.encode_event(eb.decode_event(recorded(name, data))) == (name, data)
    assert accepted >= MAX_NESTING - 1


@pytest.mark.parametrize("depth", [200, 800, 1_500, 20_000])
@pytest.mark.parametrize("make", MAKERS)
def test_deep_values_are_refused(make, depth):
    try:
        event = make(depth)
    except eb.InvalidValue:
        return
    with pytest.raises((eb.errors.InvalidArgument, eb.InvalidValue)):
        eb.encode_event(event)


@pytest.mark.timeout(120)
def test_deep_values_never_end_the_interpreter():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import eventbraid as eb, test_nesting as t\n"
        "for depth in (100, 400, 800, 1500, 3000):\n"
        "    for make in t.MAKERS:\n"
        "        for _ in range(20):\n"
        "            try: eb.encode_event(make(depth))\n"
        "            except eb.EventbraidError: pass\n"
    )
    folder = __file__.rpartition("/")[0]
    run = subprocess.run(
        [sys.executable, "-c", program, folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 1_000, 100_000])
@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("planted", '{"tree":', ""),
        ("planted", '{"tree":{"children":[', "]}}"),
        ("free", '{"free":', "}"),
        ("branched", '{"branch":{"inside":[', "]}}"),
        ("planted", '{"unknown":', "}"),
    ],
)
def test_deep_bodies_of_others_are_errors(name, start, end, depth):
    body = f"{start}{'[' * depth}{']' * depth}{end}".encode()
    with pytest.raises(eb.errors.EventDecodeError):
        eb.decode_event(recorded(f"test_nesting.{name}", body))


def test_brackets_in_texts_are_no_levels():
    text = '[{"\\' * 200
    event = Freed({"a": text, text: [text]})
    name, data = eb.encode_event(event)
    assert eb.decode_event(recorded(name, data)) == event


def test_a_value_that_holds_itself_is_refused():
    loose = Loose([])
    loose.inside.append(loose)
    free: list[Any] = []
    free.append(free)
    with pytest.raises((eb.errors.InvalidArgument, eb.InvalidValue)):
        eb.encode_event(Loosened(loose))
    with pytest.raises((eb.errors.InvalidArgument, eb.InvalidValue)):
        eb.encode_event(Freed(free))


@pytest.mark.parametrize("depth", [MAX_NESTING, 5_000])
def test_a_deep_state_of_a_saga_is_refused(depth):
    codec = Codec(Tree, what="the state")
    with pytest.raises(eb.InvalidValue):
        codec.encode(planted(depth).tree)
    body = msgspec.Raw(b'{"children":[' * depth + b"]}" * depth)
    with pytest.raises(ValueError, match="nested|recursion"):
        codec.decode(body)


def test_a_state_that_is_accepted_fits_into_its_record():
    from eventbraid.saga.machine._events import SagaStarted

    codec = Codec(Any, what="the state")
    depth = next(d for d in range(MAX_NESTING + 1) if not is_accepted(codec, d + 1))
    started = SagaStarted(
        saga="x", version=1, graph_hash="", graph=(), input=codec.encode(nested(depth))
    )
    name, data = eb.encode_event(started)
    assert eb.decode_event(recorded(name, data)) == started


def nested(depth):
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def is_accepted(codec, depth):
    try:
        codec.encode(nested(depth))
    except eb.InvalidValue:
        return False
    return True


class Ledger(eb.Stream[Planted], category="ledger"): ...


class Plant(eb.StatefulCommand[None, Planted]):
    ledger: eb.Declared[Ledger]
    what: Any

    def initial(self):
        return None

    def apply(self, state, recorded, /):
        return None

    def decide(self, state, /):
        return ()


def test_a_deep_field_of_a_keyed_command_is_refused():
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        for depth in (MAX_NESTING + 1, 5_000):
            command = Plant(ledger="ledger-1", what=nested(depth))
            with pytest.raises(eb.errors.InvalidArgument, match="nested|too deep"):
                executor.execute(command, idempotency_key="a")


def test_a_command_that_meets_a_deep_body_gets_the_error_of_its_event():
    with eb.open("memory:") as store:
        body = b'{"tree":' + b'{"children":[' * 5_000 + b"]}" * 5_000 + b"}"
        store.append([("ledger-1", "test_nesting.planted", body)])
        with pytest.raises(eb.errors.EventDecodeError):
            eb.Executor(store).execute(Plant(ledger="ledger-1", what=1))
