"""The state of a saga is what the log says, for every function that is given it.

The hazards: a note that one function leaves in a mutable state is seen by the next one
or by another saga, and is gone after a restart; a state or a result that a restart
gives back as something else; a start that isn't recognized when it is repeated.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import eventbraid as eb
from tests.saga_kit import MINUTE, QUICK, Crash, MortalStore, Note, ledger_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


class Watched:
    """Functions of one saga, each of which notes its name in the state it is given."""

    def __init__(self):
        self.seen = {}

    def note(self, name, state):
        self.seen[name] = dict(state)
        state[name] = "noted"

    async def act(self, context: eb.StepContext[dict]) -> list[int]:
        self.note("action", context.state)
        raise ConnectionError

    async def ask(
        self, context: eb.StepContext[dict]
    ) -> eb.StepCompleted[list[int]] | None:
        self.note("ask", context.state)
        return eb.StepCompleted([1])

    def then(self, state, result):
        self.note("then", state)
        result.append(2)
        return {"n": state["n"] + 1}

    def record(self, context, result):
        self.note("record", context.state)
        self.seen["record's result"] = [*result]
        return Note(ledger=ledger_of(context.saga_id), what="called")

    def skip_if(self, state):
        self.note("skip_if", state)

    def make(self, context):
        self.note("command", context.state)
        return Note(ledger=ledger_of(context.saga_id), what="made", unless="no")

    def otherwise(self, context, failure):
        self.note("otherwise", context.state)
        return Note(ledger=ledger_of(context.saga_id), what="instead")

    async def fail(self, context: eb.StepContext[dict]) -> None:
        self.note("last action", context.state)
        raise PermissionError

    async def compensate(self, context, did):
        self.note("compensation", context.state)
        self.seen["compensation's result"] = [*did.result]

    def compensation_record(self, context, _):
        self.note("compensation's record", context.state)

    def saga(self):
        first = eb.step(
            "call",
            self.act,
            timeout=MINUTE,
            retry=QUICK,
            ask=self.ask,
            then=self.then,
            record=self.record,
        ).compensated_by(self.compensate, retry=QUICK, record=self.compensation_record)
        second = eb.local_step(
            "make", self.make, skip_if=self.skip_if, otherwise=self.otherwise
        )
        last = eb.step(
            "fail",
            self.fail,
            timeout=MINUTE,
            retry=eb.RetryPolicy(maximum_attempts=1),
            refusals=(PermissionError,),
        )
        steps = [first, second, last.without_compensation()]
        return eb.Saga("watched", dict, steps=steps)


async def test_no_function_of_a_saga_sees_what_another_one_noted_in_the_state(store):
    watched, mine = Watched(), {"n": 1}
    saga = watched.saga()
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, mine, id="saga-1")
        ended = await handle.result(timeout=MINUTE)
        ended.state["caller"] = handle.state["caller"] = "noted"
        assert handle.state == (await handle.result()).state == {"n": 2}
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert mine == {"n": 1}
    before = ("action", "ask", "then", "record")
    after = ("skip_if", "command", "otherwise", "last action", "compensation")
    compensated = ("compensation's record",)
    states = {name: {"n": 1} for name in before}
    states |= {name: {"n": 2} for name in (*after, *compensated)}
    results = {"record's result": [1], "compensation's result": [1]}
    assert watched.seen == {**states, **results}


async def test_a_state_that_is_changed_after_the_start_is_not_the_sagas(store):
    async def look(context: eb.StepContext[dict]) -> int:
        return context.state["n"]

    last = eb.step("look", look, timeout=MINUTE, then=lambda _, n: {"seen": n})
    saga = eb.Saga("looking", dict, steps=[last.without_compensation()])
    mine = {"n": 1}
    async with eb.SagaCoordinator(store, [saga], concurrency=1) as coordinator:
        handle = await coordinator.start(saga, mine, id="saga-1")
        mine["n"] = 2
        assert (await handle.result(timeout=MINUTE)).state == {"seen": 1}


async def test_steps_see_the_same_state_before_and_after_a_restart(store):
    """Tuples of a bare dict are lists in JSON; the steps see lists from the start."""
    seen = []

    async def look(context: eb.StepContext[dict]) -> tuple:
        seen.append(context.state)
        return (1, 2)

    def fold(state, result):
        return {**state, "result": result, "pair": (3, 4)}

    steps = [
        eb.step(name, look, timeout=MINUTE, then=fold).without_compensation()
        for name in ("first", "second")
    ]
    saga = eb.Saga("looking", dict, steps=steps)

    async def run(used):
        async with eb.SagaCoordinator(used, [saga]) as coordinator:
            handle = await coordinator.start(saga, {"a": (1,)}, id="saga-1")
            return await handle.result(timeout=MINUTE)

    with pytest.raises(Crash):
        await run(MortalStore(store, 3))
    ended = await run(store)
    first, second, again = seen
    assert first == {"a": [1]}
    assert second == again == {"a": [1], "result": [1, 2], "pair": [3, 4]}
    assert ended.state == again


class Mutable(msgspec.Struct):
    """An event that can be changed."""

    items: list[int]


eb.register_event("saga-state.mutable")(Mutable)


class MutableStream(eb.Stream[Mutable], category="mutable"):
    """Holds them."""


class Write(eb.StatefulCommand[None, Mutable]):
    """Writes an event that it keeps, and changes later."""

    stream: eb.Declared[MutableStream]
    keep: list[int]

    def initial(self):
        return None

    def apply(self, state, recorded, /):
        return None

    def decide(self, state, /):
        yield self.stream.write(Mutable(self.keep))


async def test_a_local_step_folds_the_events_that_were_recorded(store):
    kept = [1]

    def fold(state, executed):
        kept.append(2)
        return [*state, *executed.events[0].items]

    write = eb.local_step(
        "write", lambda _: Write(stream="mutable-1", keep=kept), then=fold
    )
    saga = eb.Saga("writing", list, steps=[write.without_compensation()])
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, [], id="saga-1")
        assert (await handle.result(timeout=MINUTE)).state == [1]


@eb.value_object
class Base:
    """A state."""

    a: int


@eb.value_object
class Heir(Base):
    """A state with more than its base."""

    b: int = 0


@pytest.mark.parametrize(
    ("kind", "state", "then"),
    [
        (dict, {}, lambda state, _: state.update(a=1)),
        (dict, {}, lambda _, __: [1]),
        (Base, Base(1), lambda _, __: Heir(1, 2)),
        (int, 1, lambda _, __: "1"),
        (dict, {}, lambda _, __: {"a": object()}),
    ],
    ids=["nothing", "another type", "an heir", "a text", "what JSON can't hold"],
)
async def test_what_then_returns_must_be_a_state(store, kind, state, then):
    async def act(context) -> str:
        return "done"

    step = eb.step("act", act, timeout=MINUTE, retry=QUICK, then=then)
    saga = eb.Saga("folding", kind, steps=[step.without_compensation()])
    local = eb.local_step(
        "note", lambda c: Note(ledger=ledger_of(c.saga_id), what="x"), then=then
    )
    inside = eb.Saga("inside", kind, steps=[local.without_compensation()])
    async with eb.SagaCoordinator(store, [saga, inside]) as coordinator:
        for number, declared in enumerate((saga, inside)):
            handle = await coordinator.start(declared, state, id=f"saga-{number}")
            try:
                ended = await handle.result(timeout=MINUTE)
            except eb.errors.SagaBlocked as error:
                assert "`then`" in error.reason  # noqa: PT017 - either end is right
            else:
                assert ended.outcome is not eb.SagaOutcome.COMPLETED
                assert "`then`" in ended.failure


# --- starting again -------------------------------------------------------------------


class Money(eb.Int, ge=0):
    """Cents."""


@dataclass(eq=False)
class ByIdentity:
    """A state that is equal to itself alone."""

    a: int


async def nothing(context) -> None:
    """Do nothing."""


def quiet(kind):
    step = eb.step("nothing", nothing, timeout=MINUTE)
    return eb.Saga("quiet", kind, steps=[step.without_compensation()])


@pytest.mark.parametrize(
    ("kind", "state", "again"),
    [
        (dict, {"a": (1, 2)}, {"a": (1, 2)}),
        (dict, {1: 2}, {1: 2}),
        (dict, {"at": dt.datetime(2020, 1, 1)}, {"at": dt.datetime(2020, 1, 1)}),  # noqa: DTZ001 - as users write it
        (dict, {"a": Decimal("1.0")}, {"a": Decimal("1.0")}),
        (dict, {"a": {"x", "y", "z"}}, {"a": {"z", "y", "x"}}),
        (dict, {"a": Money(1)}, {"a": Money(1)}),
        (dict, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Sequence[int], (1, 2), [1, 2]),
        (tuple, (1, (2, 3)), (1, (2, 3))),
        (Any, (1,), (1,)),
        (float, 1, 1.0),
        (ByIdentity, ByIdentity(1), ByIdentity(1)),
        (Base, Base(1), Base(1)),
        (set[str], {"x", "y", "z"}, {"z", "y", "x"}),
    ],
)
async def test_starting_again_with_an_equal_state_answers_the_same_saga(
    store, kind, state, again
):
    saga = quiet(kind)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        first = await coordinator.start(saga, state, id="saga-1")
        await first.result(timeout=MINUTE)
        second = await coordinator.start(saga, again, id="saga-1")
        assert (await second.result()).outcome is eb.SagaOutcome.COMPLETED


@pytest.mark.parametrize(
    ("kind", "state", "other"),
    [
        (dict, {"a": (1, 2)}, {"a": (2, 1)}),
        (dict, {"a": {1}}, {"a": {1, 2}}),
        (Any, (1,), 1),
        (ByIdentity, ByIdentity(1), ByIdentity(2)),
        (Base, Base(1), Base(2)),
    ],
)
async def test_starting_again_with_another_state_is_refused(store, kind, state, other):
    saga = quiet(kind)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await coordinator.start(saga, state, id="saga-1")
        with pytest.raises(eb.errors.SagaExists, match="another state"):
            await coordinator.start(saga, other, id="saga-1")


ITSELF: list[object] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (Base, Heir(1, 2)),
        (dict, {"a": object()}),
        (dict, {"a": "\ud83d"}),
        (list, ITSELF),
        (dict, {"a": "x" * 9_000_000}),
        (dict, {(1, 2): 3}),
    ],
    ids=["heir", "object", "half a character", "cycle", "9 MB", "tuple as key"],
)
async def test_a_state_that_cannot_be_recorded_is_refused_at_once(store, kind, state):
    saga = quiet(kind)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        with pytest.raises((eb.InvalidValue, eb.errors.InvalidArgument)):
            await coordinator.start(saga, state, id="saga-1")
        assert await coordinator.list() == []
