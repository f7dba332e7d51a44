"""A bug in a step's code blocks its saga, compensates nothing, and leaves a traceback.

The hazard: a typo in a deployment counts as a failed attempt, is tried five times, and
then every customer is refunded, while nobody can see where the program failed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from dataclasses import replace
from unittest.mock import AsyncMock

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga.running import _clock, _pauses, _saga_reader
from eventbraid.saga.running._shard_mapping import shard_of
from tests.saga_kit import (
    MINUTE,
    QUICK,
    SECOND,
    Declined,
    Note,
    Noted,
    Receiver,
    Trip,
    inside,
    ledger_of,
    note,
    notes,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio
SOON = MINUTE

DEFECTS = [
    AssertionError("x > 0"),
    AttributeError("no attribute 'amout'"),
    ImportError("cannot import name"),
    IndexError("list index out of range"),
    KeyError("amount"),
    ModuleNotFoundError("no module"),
    NameError("name 'amout' is not defined"),
    NotImplementedError(),
    RecursionError("maximum recursion depth exceeded"),
    TypeError("unsupported operand"),
    UnboundLocalError("local variable"),
    ZeroDivisionError("division by zero"),
    ExceptionGroup("of a task group", [ConnectionError("lost"), TypeError("oops")]),
]


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def receiver():
    return Receiver()


class Bug:
    """Raises an error until it is mended, and counts how often it is called.

    Args:
        error: The error.
        times: After how many calls it is mended by itself; None: it isn't.
    """

    def __init__(self, error: BaseException, times: int | None = None) -> None:
        self.error = error
        self.times = times
        self.calls = 0
        self.mended = False

    def __call__(self) -> None:
        self.calls += 1
        if not self.mended and (self.times is None or self.calls <= self.times):
            raise self.error


def acting(bug: Bug, **options):
    """An external step whose action has a bug."""

    async def act(context: eb.StepContext[Trip]) -> str:
        await anyio.lowlevel.checkpoint()
        bug()
        return "acted"

    options.setdefault("retry", QUICK)
    return eb.step("act", act, timeout=MINUTE, **options).without_compensation()


async def blocked(store, saga, saga_id="saga-1"):
    """Start a saga that gets blocked; gives the error of those who wait for it."""
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id=saga_id)
        with pytest.raises(eb.errors.SagaBlocked) as caught:
            await handle.result(timeout=SOON)
        assert [one.id for one in await coordinator.blocked()] == [saga_id]
        return caught.value


async def resumed(store, saga, saga_id="saga-1"):
    """Let a new coordinator, with a program of its own, end a saga."""
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, saga_id)
        return await handle.result(timeout=SOON)


async def block_record(store, saga_id="saga-1"):
    found = [
        eb.decode_event(recorded)
        async for recorded in store.read_stream(saga_id)
        if recorded.type == "saga.blocked"
    ]
    return found[-1]


# --- actions --------------------------------------------------------------------------


@pytest.mark.parametrize("error", DEFECTS, ids=lambda error: type(error).__name__)
async def test_a_defect_in_an_action_blocks_the_saga_and_compensates_nothing(
    store, receiver, error
):
    bug = Bug(error)
    saga = trip(outside(receiver, "pay"), acting(bug))
    raised = await blocked(store, saga)
    assert type(error).__name__ in raised.reason
    assert raised.__cause__ is error
    assert receiver.standing() == ["pay"]
    assert bug.calls == 1
    assert "compensation_started" not in await records(store, "saga-1")


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration()])
async def test_the_end_of_an_iterator_that_leaves_an_action_is_a_defect(store, error):
    """Python raises a RuntimeError in its place."""
    raised = await blocked(store, trip(acting(Bug(error))))
    assert type(error).__name__ in raised.reason


async def test_the_traceback_of_a_defect_is_recorded(store, receiver):
    bug = Bug(AttributeError("no attribute 'amout'"))
    await blocked(store, trip(acting(bug)))
    record = await block_record(store)
    assert (record.step, record.where) == ("act", "action")
    assert (record.code, record.message) == ("AttributeError", "no attribute 'amout'")
    assert "raise self.error" in record.traceback
    assert record.traceback.endswith("AttributeError: no attribute 'amout'\n")
    entry = eb.saga.read_timeline(store.as_sync(), "saga-1").entries[-1]
    assert entry.what == "blocked"
    assert entry.traceback == record.traceback


async def test_a_traceback_of_any_size_is_recorded_shortened(store):
    def dive(depth):
        if depth == 0:
            raise TypeError("x" * 100_000 + "\ud83d" + "the end")
        dive(depth - 1)

    async def act(context: eb.StepContext[Trip]) -> str:
        dive(200)
        return ""

    step = eb.step("act", act, timeout=MINUTE).without_compensation()
    await blocked(store, trip(step))
    record = await block_record(store)
    assert len(record.traceback) < 4_000
    assert record.traceback.endswith("the end\n")


async def test_a_coordinator_with_corrected_code_resumes_a_blocked_saga(
    store, receiver
):
    bug = Bug(TypeError("oops"))
    saga = trip(outside(receiver, "pay"), acting(bug), inside("pack"))
    await blocked(store, saga)
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert bug.calls == 2
    assert await notes(store, "saga-1") == ["pay", "pack"]


async def test_a_defect_spends_no_attempt(store):
    """The only attempt is still there after three programs with the bug."""
    bug = Bug(TypeError("oops"))
    saga = trip(acting(bug, retry=eb.RetryPolicy(maximum_attempts=1)))
    await blocked(store, saga)
    for _ in range(2):
        with pytest.raises(eb.errors.SagaBlocked):
            await resumed(store, saga)
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPLETED


async def test_the_same_program_does_not_make_a_defective_call_again(store):
    bug = Bug(TypeError("oops"))
    saga = trip(acting(bug))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        for _ in range(3):
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            with pytest.raises(eb.errors.SagaBlocked, match="TypeError: oops"):
                await handle.result(timeout=SOON)
            handle = await coordinator.get(saga, "saga-1")
            with pytest.raises(eb.errors.SagaBlocked, match="TypeError: oops"):
                await handle.result(timeout=SOON)
    assert bug.calls == 1


async def test_a_blocked_saga_can_be_cancelled(store, receiver):
    """The call may have had an effect before its bug, so it is compensated as unknown."""
    compensated = []
    bug = Bug(TypeError("oops"))

    async def compensate(context, did):
        compensated.append(did)

    step = replace(acting(bug), needs_no_compensation=False).compensated_by(compensate)
    saga = trip(outside(receiver, "pay"), step)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        with pytest.raises(eb.errors.SagaBlocked):
            await handle.result(timeout=SOON)
        await coordinator.cancel("saga-1", reason="it takes too long")
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPENSATED
    assert compensated == [eb.StepInDoubt("lost")]
    assert receiver.standing() == []


async def test_other_sagas_go_on_beside_a_blocked_one(store, receiver):
    bug = Bug(TypeError("oops"))
    sick, well = trip(acting(bug)), trip(outside(receiver, "pay"), name="well")
    async with eb.SagaCoordinator(store, [sick, well]) as coordinator:
        first = await coordinator.start(sick, Trip("mia"), id="saga-1")
        with pytest.raises(eb.errors.SagaBlocked):
            await first.result(timeout=SOON)
        second = await coordinator.start(well, Trip("ben"), id="saga-2")
        assert (await second.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED


# --- which exceptions count -----------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("lost"), ValueError("bad"), MemoryError()])
async def test_other_exceptions_are_retried_as_before(store, error):
    bug = Bug(error)
    saga = trip(acting(bug))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert bug.calls == QUICK.maximum_attempts


async def test_a_refusal_is_no_defect(store):
    bug = Bug(KeyError("no such customer"))
    saga = trip(acting(bug, refusals=(KeyError,)))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert bug.calls == 1


@pytest.mark.parametrize("of_step", [True, False])
async def test_the_exceptions_that_are_defects_can_be_chosen(store, of_step):
    chosen = {"defects": (ValueError,)}
    in_step, in_saga = (chosen, {}) if of_step else ({}, chosen)
    bug = Bug(ValueError("bad"))
    await blocked(store, trip(acting(bug, **in_step), **in_saga))
    assert bug.calls == 1
    bug = Bug(TypeError("oops"))
    saga = trip(acting(bug, **in_step), name="second", **in_saga)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-2")
        ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert bug.calls == QUICK.maximum_attempts


@pytest.mark.parametrize("wrong", [TypeError, ["x"], ("TypeError",), (int,)])
def test_defects_that_are_no_exceptions_are_refused(wrong):
    with pytest.raises(eb.errors.InvalidArgument, match="tuple of exception classes"):
        trip(acting(Bug(TypeError())), defects=wrong)
    with pytest.raises(eb.errors.InvalidArgument, match="tuple of exception classes"):
        acting(Bug(TypeError()), defects=wrong)


# --- the saga's own functions ---------------------------------------------------------


def step_with(where: str, receiver: Receiver, bug: Bug):
    """A step one of whose functions has a bug."""

    def function(*arguments):
        bug()
        match where:
            case "then":
                return arguments[0]
            case "skip_if":
                return None
        return note(where)(arguments[0])

    match where:
        case "command":
            return eb.local_step("act", function).without_compensation()
        case "decide":
            return deciding(bug)
        case "then of a command":
            return inside("act", then=lambda state, _: (bug(), state)[1])
        case "otherwise":
            receiver.plan["act"] = ["decline"]
            return outside(receiver, "act", otherwise=function, compensatable=False)
    return outside(receiver, "act", **{where: function})


def deciding(bug: Bug):
    class Buggy(Note):
        def decide(self, state, /):
            bug()
            yield self.ledger.write(Noted("decided"))

    return eb.local_step(
        "act", lambda c: Buggy(ledger=ledger_of(c.saga_id), what="")
    ).without_compensation()


FUNCTIONS = [
    "command",
    "decide",
    "otherwise",
    "record",
    "skip_if",
    "then",
    "then of a command",
]


@pytest.mark.parametrize("error", [TypeError("oops"), MemoryError(), RecursionError()])
@pytest.mark.parametrize("where", FUNCTIONS)
async def test_a_defect_in_a_function_of_the_saga_blocks_it(
    store, receiver, where, error
):
    bug = Bug(error)
    saga = trip(
        outside(receiver, "pay"), step_with(where, receiver, bug), inside("pack")
    )
    raised = await blocked(store, saga)
    assert "act" in raised.reason
    assert "pay" in receiver.standing()
    assert "compensation_started" not in await records(store, "saga-1")
    assert "oops" in (await block_record(store)).traceback or not str(error)
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert (await notes(store, "saga-1"))[-1] == "pack"


@pytest.mark.parametrize("where", FUNCTIONS)
async def test_a_cancelled_error_that_a_function_raises_is_a_defect(
    store, receiver, where
):
    """As ``future.result()`` raises it; nothing has cancelled the saga's task."""
    saga = trip(step_with(where, receiver, Bug(asyncio.CancelledError())))
    with anyio.fail_after(60):
        raised = await blocked(store, saga)
    assert "CancelledError" in raised.reason


@pytest.mark.parametrize(
    "error",
    [eb.errors.StoreClosed(), eb.VersionConflict([]), eb.errors.CoordinatorClosed()],
)
@pytest.mark.parametrize("where", ["command", "otherwise", "record"])
async def test_an_error_of_another_store_in_a_function_is_a_defect(
    store, receiver, where, error
):
    saga = trip(step_with(where, receiver, Bug(error)))
    with anyio.fail_after(60):
        raised = await blocked(store, saga)
    assert type(error).__name__ in raised.reason


def command_raising(where: str, error: eb.EventbraidError):
    """Make commands one of whose functions fails with an error of another store."""

    def fail_if(function: str) -> None:
        if where == function:
            raise error

    class Raising(Note):
        def initial(self):
            fail_if("initial")
            return []

        def apply(self, state, recorded, /):
            fail_if("apply")
            return state

        def discover(self, state, /):
            fail_if("discover")
            return []

        def decide(self, state, /):
            fail_if("decide")
            return self._writes()

        def _writes(self):
            fail_if("what decide yields")
            yield self.ledger.write(Noted("decided"))

    return lambda context, *_: Raising(ledger=ledger_of(context.saga_id), what="")


@pytest.mark.parametrize(
    "error",
    [
        eb.errors.StoreClosed(),
        eb.VersionConflict([]),
        eb.OutcomeUnknown("lost"),
        eb.errors.EventDecodeError("kind", "stream", 1, "damaged"),
    ],
)
@pytest.mark.parametrize(
    "function", ["initial", "apply", "discover", "decide", "what decide yields"]
)
@pytest.mark.parametrize("place", ["local", "record", "otherwise", "compensation"])
async def test_an_error_of_another_store_in_a_command_is_a_defect(
    store, receiver, place, function, error
):
    """It says nothing of the store of the sagas, whose coordinator goes on."""
    make = command_raising(function, error)
    await store.append([(ledger_of("saga-1"), *eb.encode_event(Noted("before")))])
    steps = []
    match place:
        case "local":
            steps = [eb.local_step("act", make).without_compensation()]
        case "record":
            steps = [outside(receiver, "act", record=make)]
        case "otherwise":
            receiver.plan["act"] = ["decline"]
            steps = [outside(receiver, "act", otherwise=make, compensatable=False)]
        case "compensation":
            compensatable = eb.local_step("act", note("act")).compensated_by(make)
            steps = [compensatable, refusing(receiver)]
    with anyio.fail_after(60):
        raised = await blocked(store, trip(*steps))
    assert type(error).__name__ in raised.reason
    assert (await block_record(store)).code == type(error).__name__


@pytest.mark.parametrize("where", ["record", "then", "then of a command"])
async def test_a_coordinator_is_left_in_time_while_the_system_refuses_something(
    store, receiver, where, monkeypatch
):
    """The answer is kept, so the receiver is not called again."""
    monkeypatch.setattr(_pauses, "_FIRST_PAUSE_SECONDS", 3_600.0)
    monkeypatch.setattr(_pauses, "_MAXIMUM_PAUSE_SECONDS", 3_600.0)
    bug = Bug(OSError(24, "Too many open files"))
    saga = trip(step_with(where, receiver, bug), inside("pack"))
    with anyio.fail_after(60):
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Trip("mia"), id="saga-1")
            while not bug.calls:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        bug.mended = True
        assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert all(calls == 1 for calls in receiver.calls.values())


@pytest.mark.parametrize("answer", ["a receipt", True, 0])
async def test_an_ask_that_returns_something_else_is_a_defect(store, receiver, answer):
    async def ask(context):
        return answer

    receiver.plan["pay"] = ["lose"]
    saga = trip(outside(receiver, "pay", ask=ask))
    raised = await blocked(store, saga)
    assert "ask of step 'pay' raised TypeError" in raised.reason
    assert (await block_record(store)).where == "ask"


@pytest.mark.parametrize("where", ["record", "then"])
async def test_a_call_that_has_answered_is_not_made_again_after_the_fix(
    store, receiver, where
):
    bug = Bug(TypeError("oops"))
    saga = trip(step_with(where, receiver, bug))
    await blocked(store, saga)
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls == {"saga-1/act/1": 1}


async def test_a_defect_in_then_does_not_hold_back_the_record_of_the_step(
    store, receiver
):
    saga = trip(step_with("then", receiver, Bug(TypeError("oops"))))
    await blocked(store, saga)
    assert (await records(store, "saga-1"))[-2:] == ["step_succeeded", "blocked"]
    assert await notes(store, "saga-1") == ["act"]


async def test_a_defect_in_the_first_steps_condition_does_not_refuse_the_start(
    store, receiver
):
    bug = Bug(NameError("name 'vip' is not defined"))
    saga = trip(step_with("skip_if", receiver, bug))
    await blocked(store, saga)
    assert await records(store, "saga-1") == ["started", "blocked"]


async def test_the_same_defect_is_recorded_once(store, receiver):
    bug = Bug(TypeError("oops"))
    saga = trip(step_with("skip_if", receiver, bug))
    await blocked(store, saga)
    for _ in range(3):
        with pytest.raises(eb.errors.SagaBlocked):
            await resumed(store, saga)
    assert (await records(store, "saga-1")).count("blocked") == 1


# Before `otherwise` the receiver is called again, which is recorded.
@pytest.mark.parametrize("where", [one for one in FUNCTIONS if one != "otherwise"])
async def test_coordinators_that_meet_the_same_defect_add_no_records(
    store, receiver, where
):
    bug = Bug(TypeError("oops"))
    saga = trip(outside(receiver, "pay"), step_with(where, receiver, bug))
    await blocked(store, saga)
    before = await records(store, "saga-1")
    for number in range(4):
        bug.error = TypeError(f"oops of {object()} at {number}")
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            with anyio.fail_after(60):
                while not await coordinator.blocked():  # noqa: ASYNC110
                    await anyio.sleep(0.005)
    now = await records(store, "saga-1")
    # Other texts than those of the first defect are another one, but for numbers.
    assert len(now) <= len(before) + 1
    assert bug.calls > 4
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPLETED


@pytest.mark.parametrize("where", FUNCTIONS)
async def test_what_the_system_refuses_to_a_function_is_tried_again(
    store, receiver, where
):
    """An OSError, as for too many open files, is neither a rejection nor a bug."""
    bug = Bug(OSError(24, "Too many open files"), times=2)
    saga = trip(
        outside(receiver, "pay"), step_with(where, receiver, bug), inside("pack")
    )
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.COMPLETED
    assert bug.calls > 2
    assert "blocked" not in await records(store, "saga-1")


@pytest.mark.parametrize("kind", ["raises", "returns another type"])
@pytest.mark.parametrize("where", ["then", "then of a command"])
async def test_a_defect_in_then_that_is_met_at_a_resume_is_recorded_once(
    store, receiver, where, kind
):
    """The program that recorded the result had no defect; the next one has."""

    def defective(state, _):
        if kind == "raises":
            raise TypeError(f"oops {object()}")
        return "no trip"

    def saga_with(then):
        first = (
            outside
            if where == "then"
            else functools.partial(lambda _, *a, **k: inside(*a, **k))
        )
        return trip(first(receiver, "act", then=then), outside(receiver, "pay"))

    # Before the step is built: its call never returns, so its timeout is a short one.
    receiver.plan = {"pay": ["stall"]}
    good = saga_with(lambda state, _: state)
    async with eb.SagaCoordinator(store, [good]) as coordinator:
        handle = await coordinator.start(good, Trip("mia"), id="saga-1")
        with anyio.fail_after(60):
            while handle.status is not eb.saga.SagaStatus.RUNNING or not receiver.calls:  # noqa: ASYNC110
                await anyio.sleep(0.005)
    receiver.plan = {}
    bad = saga_with(defective)
    for _ in range(3):
        async with eb.SagaCoordinator(store, [bad]) as coordinator:
            assert [one.id for one in await coordinator.blocked()] == ["saga-1"]
            with pytest.raises(eb.errors.SagaBlocked, match="can't be folded"):
                await (await coordinator.get(bad, "saga-1")).result(timeout=SOON)
    record = await block_record(store)
    assert (record.step, record.where) == ("act", "then")
    assert record.code == ("TypeError" if kind == "raises" else "UnfitValue")
    assert ("defective" in record.traceback) == (kind == "raises")
    assert (await records(store, "saga-1")).count("blocked") == 1
    assert (await resumed(store, good)).outcome is eb.SagaOutcome.COMPLETED
    assert "compensation_started" not in await records(store, "saga-1")


@pytest.fixture
def quick_outages(monkeypatch):
    """Let an outage be reported after 0.1 s, and the code be called again then."""
    monkeypatch.setattr(_pauses, "_MAXIMUM_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(_pauses, "_BLOCKED_SECONDS", 0.05)
    monkeypatch.setattr(_pauses, "_MAXIMUM_BLOCKED_SECONDS", 0.05)


MISSING = FileNotFoundError(2, "no rates.csv")
OUTAGES = [
    *((where, MISSING) for where in (*FUNCTIONS, "compensation")),
    ("command", PermissionError(13, "denied")),
    ("command", eb.errors.DeadlineExceeded("rates", 3)),
]


@pytest.mark.usefixtures("quick_outages")
@pytest.mark.parametrize(("where", "error"), OUTAGES)
async def test_what_the_system_refuses_for_long_blocks_the_saga_until_it_does_not(
    store, receiver, where, error
):
    bug = Bug(error)
    if where == "compensation":
        buggy = eb.local_step("act", note("act")).compensated_by(
            lambda context: (bug(), note("compensated")(context))[1]
        )
        saga = trip(buggy, refusing(receiver))
    else:
        saga = trip(outside(receiver, "pay"), step_with(where, receiver, bug))
    with anyio.fail_after(60):
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            with pytest.raises(eb.errors.SagaBlocked, match=type(error).__name__):
                await handle.result()
            calls = bug.calls
            while bug.calls < calls + 2:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            recorded = await records(store, "saga-1")
            assert recorded.count("blocked") == 1
            while bug.calls < calls + 4:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            # The calls themselves are recorded where a receiver is asked again.
            if where != "otherwise":
                assert await records(store, "saga-1") == recorded
            bug.mended = True
            while not handle.status.ended:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            compensated = where == "compensation"
            ended = await handle.result()
            assert (ended.outcome is eb.SagaOutcome.COMPENSATED) == compensated
            assert (ended.outcome is eb.SagaOutcome.COMPLETED) != compensated
            assert await coordinator.blocked() == []
    assert all(calls == 1 for calls in receiver.calls.values()) or where == "otherwise"


# --- compensations --------------------------------------------------------------------


def compensating(bug: Bug, name: str = "pay", **options):
    """A step whose compensation has a bug."""

    async def act(context: eb.StepContext[Trip]) -> str:
        return "paid"

    async def compensate(context, did):
        bug()

    return eb.step(name, act, timeout=MINUTE).compensated_by(
        compensate,
        retry=options.pop("retry", eb.RetryPolicy(maximum_attempts=1)),
        **options,
    )


def refusing(receiver: Receiver):
    receiver.plan["ship"] = ["decline"]
    return outside(receiver, "ship")


async def test_a_defect_in_a_compensation_blocks_the_saga_and_spends_no_attempt(
    store, receiver
):
    bug = Bug(AttributeError("oops"))
    saga = trip(compensating(bug), refusing(receiver))
    raised = await blocked(store, saga)
    assert "compensation of step 'pay' raised AttributeError: oops" in raised.reason
    with pytest.raises(eb.errors.SagaBlocked):
        await resumed(store, saga)
    assert "compensation_failed" not in await records(store, "saga-1")
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert bug.calls == 3


@pytest.mark.parametrize("function", ["command", "record"])
async def test_a_defect_in_a_compensations_command_blocks_the_saga(
    store, receiver, function
):
    bug = Bug(TypeError("oops"))

    def make(context, *_):
        bug()
        return note("compensated")(context)

    if function == "command":
        step = eb.local_step("pay", note("pay")).compensated_by(make)
    else:
        step = compensating(Bug(TypeError()), record=make)
        step = outside(receiver, "pay", compensation_record=make)
    saga = trip(step, refusing(receiver))
    await blocked(store, saga)
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert (await notes(store, "saga-1"))[-1] == "compensated"


async def test_a_blocked_compensation_holds_back_none_of_the_others(store, receiver):
    bug = Bug(TypeError("oops"))
    saga = trip(
        outside(receiver, "book"), compensating(bug), inside("pack"), refusing(receiver)
    )
    await blocked(store, saga)
    assert receiver.standing() == []
    assert (await notes(store, "saga-1"))[-1] == "compensate pack"
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.calls["saga-1/book/1/compensation"] == 1


async def test_a_strict_order_stops_at_a_blocked_compensation(store, receiver):
    bug = Bug(TypeError("oops"))
    saga = trip(
        outside(receiver, "book"),
        compensating(bug),
        refusing(receiver),
        compensation_order="strict",
    )
    await blocked(store, saga)
    assert receiver.standing() == ["book"]
    bug.mended = True
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.standing() == []


async def test_the_same_program_does_not_make_a_defective_compensation_again(
    store, receiver
):
    bug = Bug(TypeError("oops"))
    saga = trip(outside(receiver, "book"), compensating(bug), refusing(receiver))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        for _ in range(3):
            with pytest.raises(eb.errors.SagaBlocked):
                await handle.result(timeout=SOON)
            handle = await coordinator.get(saga, "saga-1")
    assert bug.calls == 1


# --- several coordinators -------------------------------------------------------------


async def holds(coordinator, shards: int) -> None:
    with anyio.fail_after(SOON.total_seconds()):
        while len(coordinator._parts.state.shards.held) < shards:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.005)


async def test_a_defect_is_known_where_the_saga_is_waited_for_and_resumed_elsewhere(
    tmp_path, receiver
):
    """A rolling deployment: the program with the bug goes, the corrected one stays."""
    broken, mended = Bug(TypeError("oops")), Bug(TypeError("oops"))
    mended.mended = True
    path = tmp_path / "shop.braid"
    async with eb.open_async(path) as one, eb.open_async(path) as two:
        old = eb.SagaCoordinator(one, [trip(outside(receiver, "pay"), acting(broken))])
        fixed = trip(outside(receiver, "pay"), acting(mended))
        async with eb.SagaCoordinator(two, [fixed]) as new:
            async with old:
                await holds(old, 8)
                ids = (f"saga-{number}" for number in range(1000))
                owned = next(
                    one for one in ids if shard_of(one) in old._parts.state.shards.held
                )
                handle = await new.start(fixed, Trip("mia"), id=owned)
                with pytest.raises(eb.errors.SagaBlocked, match="TypeError: oops"):
                    await handle.result(timeout=SOON)
                assert broken.calls == 1
            await holds(new, 16)
            assert (
                await handle.result(timeout=SOON)
            ).outcome is eb.SagaOutcome.COMPLETED
    assert mended.calls == 1
    assert receiver.calls[f"{owned}/pay/1"] == 1


# --- deadlines ------------------------------------------------------------------------


async def test_the_deadline_does_not_compensate_a_blocked_saga(
    store, receiver, monkeypatch
):
    bug = Bug(TypeError("oops"))
    saga = trip(outside(receiver, "pay"), acting(bug), deadline=3_600 * SECOND)
    await blocked(store, saga)
    # A process that starts a day later, with a clock that is known to be right.
    day = 86_400.0
    later = _clock.Clock(lambda: time.time() + day, lambda: time.monotonic() + day)
    monkeypatch.setattr(_saga_reader, "PROCESS_CLOCK", later)
    monkeypatch.setattr(_clock, "CONFIRMATION", 0.0)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert handle._run.clock.now() > handle._run.progress.deadline
        with pytest.raises(eb.errors.SagaBlocked):
            await handle.result(timeout=SOON)
    assert receiver.standing() == ["pay"]


# --- declarations ---------------------------------------------------------------------


def synchronous(context: eb.StepContext[Trip]) -> str:
    return "done"


class Synchronous:
    def __call__(self, context: eb.StepContext[Trip]) -> str:
        return "done"


class Asynchronous:
    async def __call__(self, context: eb.StepContext[Trip]) -> str:
        return "done"


async def keyed(key: str, context: eb.StepContext[Trip]) -> str:
    return key


def keyed_synchronously(key: str, context: eb.StepContext[Trip]) -> str:
    return key


@pytest.mark.parametrize(
    "action",
    [synchronous, Synchronous(), functools.partial(keyed_synchronously, "k")],
    ids=["function", "object", "partial"],
)
def test_a_synchronous_action_is_refused(action):
    for options in ({}, {"result": str}):
        with pytest.raises(eb.errors.InvalidSaga, match="isn't asynchronous") as caught:
            eb.step("act", action, timeout=MINUTE, **options)
        assert caught.value.step == "act"


def test_a_synchronous_compensation_or_question_is_refused():
    step = eb.step("act", Asynchronous(), timeout=MINUTE)
    with pytest.raises(eb.errors.InvalidSaga, match="the compensation of step 'act'"):
        step.compensated_by(lambda_of(synchronous))
    with pytest.raises(eb.errors.InvalidSaga, match="the ask of step 'act'"):
        eb.step("act", Asynchronous(), timeout=MINUTE, ask=synchronous)


def lambda_of(function):
    """A function with a name, that only calls another one."""

    def called(*arguments):
        return function(*arguments)

    return called


@pytest.mark.parametrize(
    "action",
    [
        Asynchronous(),
        functools.partial(keyed, "k"),
        functools.partial(Asynchronous()),
        AsyncMock(),
    ],
    ids=["object", "partial", "partial of an object", "mock"],
)
async def test_what_returns_an_awaitable_is_an_action(store, action):
    if isinstance(action, AsyncMock):
        action.return_value = "done"
    step = eb.step("act", action, timeout=MINUTE, result=str).without_compensation()
    saga = trip(step)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.COMPLETED


async def test_an_action_that_turns_out_to_be_synchronous_blocks_its_saga(store):
    step = eb.step("act", lambda c: "done", timeout=MINUTE, result=str)
    raised = await blocked(store, trip(step.without_compensation()))
    assert "TypeError" in raised.reason


@pytest.mark.parametrize("where", ["then", "record", "otherwise", "skip_if"])
def test_an_asynchronous_function_of_the_saga_is_refused(where):
    async def function(*_):
        raise AssertionError

    with pytest.raises(
        eb.errors.InvalidSaga, match=f"`{where}` of step 'act' is async"
    ):
        eb.step("act", Asynchronous(), timeout=MINUTE, **{where: function})
    with pytest.raises(eb.errors.InvalidSaga, match="`command` of step 'act' is async"):
        eb.local_step("act", function)
    with pytest.raises(eb.errors.InvalidSaga, match="`command` of step 'act' is async"):
        inside("act").compensated_by(function)


# --- the log of the program -----------------------------------------------------------


def logged(caplog, level: int) -> list[logging.LogRecord]:
    return [
        record
        for record in caplog.records
        if record.name == "eventbraid.saga" and record.levelno == level
    ]


async def test_each_failed_attempt_is_reported_with_its_traceback(
    store, receiver, caplog
):
    receiver.plan["pay"] = ["drop"]
    saga = trip(outside(receiver, "pay"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result(timeout=SOON)
    reported = logged(caplog, logging.WARNING)
    assert len(reported) == QUICK.maximum_attempts
    for number, record in enumerate(reported, 1):
        assert f"'pay' of saga 'saga-1' failed in attempt {number}" in record.message
        assert record.exc_info[0] is ConnectionError
        assert record.exc_info[2] is not None


async def test_a_rejected_command_is_reported(store, caplog):
    saga = trip(inside("book", unless="sold_out"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result(timeout=SOON)
    [record] = logged(caplog, logging.WARNING)
    assert record.exc_info[0] is eb.CommandRejected
    assert "sold_out" in record.message


async def test_a_blocked_saga_is_reported_as_an_error(store, caplog):
    await blocked(store, trip(acting(Bug(TypeError("oops")))))
    [record] = logged(caplog, logging.ERROR)
    assert "saga-1" in record.message
    assert record.exc_info[0] is TypeError


async def test_a_stuck_saga_is_reported_as_an_error(store, receiver, caplog):
    receiver.plan |= {"compensate pay": ["decline"]}
    saga = trip(outside(receiver, "pay"), refusing(receiver))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert (await handle.result(timeout=SOON)).outcome is eb.SagaOutcome.STUCK
    [record] = logged(caplog, logging.ERROR)
    assert (
        "saga 'saga-1' is stuck: can't be compensated: pay: Declined" in record.message
    )
    assert Declined.__name__ in record.message


async def test_a_saga_without_trouble_is_not_reported(store, receiver, caplog):
    saga = trip(inside("book"), outside(receiver, "pay"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result(timeout=SOON)
    assert [one for one in caplog.records if one.name.startswith("eventbraid")] == []
