"""However an attempt ends, its end is recorded and acted on.

The hazard: what came out of the attempt can't be written down (half a character, a
cycle, 9 MB, an exception without a text), so the saga stops where it is, and what was
paid is not compensated.
"""

from __future__ import annotations

import anyio
import pytest

import eventbraid as eb
from tests.saga_kit import (
    MINUTE,
    QUICK,
    Note,
    Noted,
    Receiver,
    Trip,
    ledger_of,
    note,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio

HALF = "\ud83d"
HUGE = "x" * 9_000_000
ITSELF: list[object] = []
ITSELF.append(ITSELF)
DEEP: list[object] = []
for _ in range(900):
    DEEP = [DEEP]


class Speechless(Exception):
    """An exception, or any object, that has no text."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def receiver():
    return Receiver()


async def ended(store, saga):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        return await handle.result(timeout=MINUTE)


async def readable(store) -> list[object]:
    """Decode every record of the saga, and its timeline."""
    found = [eb.decode_event(one) async for one in store.read_stream("saga-1")]
    assert eb.saga.read_timeline(store.as_sync(), "saga-1").entries
    return found


async def compensated(store, receiver, last) -> eb.saga.SagaResult[Trip]:
    """Run a saga that pays and then comes to a last step; what it paid is compensated."""
    end = await ended(store, trip(outside(receiver, "pay"), last))
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.standing() == []
    await readable(store)
    return end


def refusing(*refusal, **facts):
    def refuse(context):
        if refusal:
            raise eb.CommandRejected(*refusal)
        eb.require(False, "no", **facts)

    return eb.local_step("refuse", refuse).without_compensation()


@pytest.mark.parametrize(
    "fact",
    [HALF, HUGE, ITSELF, DEEP, object(), Speechless(), {1: {(2, 3)}}, 10**400],
    ids=[
        *("half a character", "9 MB", "cycle", "900 levels", "object"),
        *("no text", "keys", "large number"),
    ],
)
async def test_a_rejection_is_recorded_whatever_its_facts_are(store, receiver, fact):
    end = await compensated(store, receiver, refusing(fact=fact, left=3))
    assert end.failure.startswith("refuse: no: no (fact=")
    [failed] = [r for r in await readable(store) if hasattr(r, "facts")]
    assert bytes(failed.facts).endswith(b'"left":3}')
    assert len(bytes(failed.facts)) < 100_000


@pytest.mark.parametrize(
    "code",
    [HALF, HUGE, 404, None, Speechless()],
    ids=["half a character", "9 MB", "number", "nothing", "no text"],
)
async def test_a_rejection_is_recorded_whatever_its_code_is(store, receiver, code):
    await compensated(store, receiver, refusing(code))


@pytest.mark.parametrize(
    "message",
    [HALF, HUGE, 404, Speechless()],
    ids=["half a character", "9 MB", "number", "no text"],
)
async def test_a_rejection_is_recorded_whatever_its_text_is(store, receiver, message):
    await compensated(store, receiver, refusing("no", message))


def raising(error):
    async def act(context: eb.StepContext[Trip]) -> None:
        raise error

    return eb.step("act", act, timeout=MINUTE, retry=QUICK).without_compensation()


def named(name):
    return type(name, (ConnectionError,), {})()


@pytest.mark.parametrize(
    "error",
    [
        Speechless(),
        ConnectionError(HALF),
        ConnectionError(HUGE),
        named(HUGE),
        ExceptionGroup("some", [Speechless()]),
    ],
    ids=["no text", "half a character", "9 MB", "a name of 9 MB", "group"],
)
async def test_an_exception_is_recorded_whatever_its_text_is(store, receiver, error):
    await compensated(store, receiver, raising(error))


def returning(result, kind=str, **options):
    async def act(context: eb.StepContext[Trip]) -> object:
        return result

    step = eb.step("act", act, timeout=MINUTE, retry=QUICK, result=kind, **options)
    return step.without_compensation()


@pytest.mark.parametrize(
    ("result", "kind"),
    [(HUGE, str), (HALF, str), (ITSELF, list), (object(), dict), (Speechless(), str)],
    ids=["9 MB", "half a character", "cycle", "another type", "no text"],
)
async def test_a_result_that_cannot_be_recorded_compensates_the_saga(
    store, receiver, result, kind
):
    end = await compensated(store, receiver, returning(result, kind))
    assert "can't be recorded" in end.failure


async def test_a_result_and_a_command_too_large_together_compensate_the_saga(
    store, receiver
):
    """Each of them fits into a commit, both don't."""
    many = ["x" * 7_000_000] * 2

    def record(context, _):
        return Notes(ledger=ledger_of(context.saga_id), whats=many)

    end = await compensated(store, receiver, returning("x" * 7_000_000, record=record))
    assert "act: LimitExceeded" in end.failure


async def test_a_result_too_large_with_a_command_compensates_the_saga(store, receiver):
    await compensated(store, receiver, returning(HUGE, record=note("did")))


class Notes(Note):
    """Writes several marks."""

    what: str = ""
    whats: list[str]

    def decide(self, state, /):
        for what in self.whats:
            yield self.ledger.write(Noted(what))


async def blocked(store, receiver, last):
    """Run a saga whose last step has a defect: it is recorded, and nothing is compensated."""
    saga = trip(outside(receiver, "pay"), last)
    with pytest.raises(eb.errors.SagaBlocked):
        await ended(store, saga)
    await readable(store)
    assert (await records(store, "saga-1"))[-1] == "blocked"
    assert receiver.standing() == ["pay"]


async def test_a_local_step_whose_command_is_too_large_compensates_the_saga(
    store, receiver
):
    last = eb.local_step("large", note(HUGE)).without_compensation()
    end = await compensated(store, receiver, last)
    assert "large: LimitExceeded" in end.failure


async def test_a_replacement_that_is_too_large_compensates_the_saga(store, receiver):
    last = eb.local_step("book", note("book", unless="no"), otherwise=note(HUGE))
    end = await compensated(
        store, receiver, last.compensated_by(note("compensate book"))
    )
    assert "what should take its place: LimitExceeded" in end.failure


@pytest.mark.parametrize("where", ["command", "record"])
async def test_a_compensation_whose_command_is_too_large_is_tried_and_then_stuck(
    store, where
):
    async def compensate(context, did):
        return "compensated"

    async def pay(context: eb.StepContext[Trip]) -> str:
        return "paid"

    first = eb.local_step("pay", note("pay")).compensated_by(note(HUGE), retry=QUICK)
    if where == "record":
        first = eb.step("pay", pay, timeout=MINUTE).compensated_by(
            compensate, retry=QUICK, record=note(HUGE)
        )
    end = await ended(store, trip(first, raising(ConnectionError())))
    assert end.outcome is eb.SagaOutcome.STUCK
    assert "LimitExceeded" in end.failure or "too large" in end.failure
    await readable(store)


@pytest.mark.parametrize("where", ["then", "record"])
async def test_a_function_that_raises_on_an_answer_blocks_the_saga(
    store, receiver, where
):
    def refuse(*_):
        raise Speechless

    await blocked(store, receiver, returning("ok", **{where: refuse}))


async def test_an_answer_too_large_for_the_record_of_a_defect_is_left_out(
    store, receiver
):
    def refuse(*_):
        raise Speechless

    await blocked(store, receiver, returning(HUGE, record=refuse))


@eb.event("saga-ends.said")
class Said:
    what: str


class Conversation(eb.Stream[Said], category="conversation"): ...


class Say(eb.StatefulCommand[None, Said]):
    conversation: eb.Declared[Conversation]
    what: str

    def initial(self):
        return None

    def apply(self, state, recorded, /):
        return None

    def decide(self, state, /):
        yield self.conversation.write(Said(self.what))


@pytest.mark.parametrize("where", ["local", "record", "otherwise"])
async def test_a_command_with_half_a_character_compensates_the_saga(
    store, receiver, where
):
    def make(*_):
        return Say(conversation="conversation-1", what=HALF)

    match where:
        case "local":
            last = eb.local_step("say", make).without_compensation()
        case "record":
            last = returning("ok", record=make)
        case "otherwise":
            last = eb.local_step("say", note("say", unless="no"), otherwise=make)
            last = last.compensated_by(note("compensate say"))
    await compensated(store, receiver, last)


async def test_a_command_that_cannot_be_made_blocks_the_saga(store, receiver):
    def refuse(_):
        raise Speechless

    await blocked(store, receiver, eb.local_step("make", refuse).without_compensation())


async def test_a_replacement_that_is_rejected_without_a_text_compensates_the_saga(
    store, receiver
):
    def refuse(*_):
        raise eb.CommandRejected(HUGE, HALF, {"itself": ITSELF})

    last = eb.local_step("book", note("book", unless=HUGE), otherwise=refuse)
    end = await compensated(
        store, receiver, last.compensated_by(note("compensate book"))
    )
    assert "what should take its place" in end.failure


@pytest.mark.parametrize("failing", ["action", "record", "command"])
async def test_a_compensation_that_fails_without_a_text_is_tried_and_then_stuck(
    store, receiver, failing
):
    def refuse(*_):
        raise eb.CommandRejected(HUGE, HALF, {"itself": ITSELF})

    async def compensate(context, did):
        if failing == "action":
            raise Speechless(HUGE)

    async def pay(context: eb.StepContext[Trip]) -> str:
        return "paid"

    first = eb.step("pay", pay, timeout=MINUTE).compensated_by(
        compensate, retry=QUICK, record=refuse if failing == "record" else None
    )
    if failing == "command":
        first = eb.local_step("pay", note("pay")).compensated_by(refuse, retry=QUICK)
    end = await ended(store, trip(first, raising(ConnectionError())))
    assert end.outcome is eb.SagaOutcome.STUCK
    await readable(store)
    assert (await records(store, "saga-1")).count("compensation_failed") == 3


async def test_a_late_answer_that_cannot_be_recorded_is_compensated_as_unknown(store):
    told = []
    begun, go = anyio.Event(), anyio.Event()

    async def act(context: eb.StepContext[Trip]) -> str:
        begun.set()
        await go.wait()
        return HUGE

    async def compensate(context, did):
        told.append(did)

    step = eb.step("act", act, timeout=MINUTE).compensated_by(compensate)
    saga = trip(step)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await begun.wait()
        await coordinator.cancel("saga-1", reason="changed her mind")
        go.set()
        end = await handle.result(timeout=MINUTE)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert told == [eb.StepInDoubt("lost")]


@pytest.mark.parametrize("text", [HALF, HUGE], ids=["half a character", "9 MB"])
async def test_what_a_person_says_is_recorded_shortened(store, receiver, text):
    receiver.plan |= {
        "ship": ["decline"],
        "compensate pay": ["decline", "decline", "ok"],
    }
    saga = trip(outside(receiver, "pay"), outside(receiver, "ship"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
        await coordinator.retry("saga-1", by=text, note=text)
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
        await coordinator.skip("saga-1", "pay", by=text, note=text)
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
    said = [r for r in await readable(store) if hasattr(r, "note")]
    assert len(said) == 2
    assert all(len(one.note) < 10_000 for one in said)


@pytest.mark.parametrize("text", [HALF, HUGE], ids=["half a character", "9 MB"])
async def test_a_saga_is_cancelled_whatever_the_reason_is(store, text):
    begun, go = anyio.Event(), anyio.Event()

    async def act(context: eb.StepContext[Trip]) -> str:
        begun.set()
        await go.wait()
        return "done"

    saga = trip(eb.step("act", act, timeout=MINUTE).without_compensation())
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await begun.wait()
        await coordinator.cancel("saga-1", reason=text)
        go.set()
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
    await readable(store)


# --- steps that are not needed --------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "recorded"),
    [
        (True, "it is not needed"),
        ("it is free", "it is free"),
        (HALF, "\\ud83d"),
        (HUGE, f"{HUGE[:3_999]}…"),
    ],
    ids=["True", "text", "half a character", "9 MB"],
)
async def test_a_step_is_skipped_for_any_reason(store, receiver, reason, recorded):
    saga = trip(outside(receiver, "pay", skip_if=lambda _: reason))
    assert (await ended(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    [skipped] = [r for r in await readable(store) if hasattr(r, "reason")]
    assert skipped.reason == recorded
    assert receiver.log == []


@pytest.mark.parametrize("reason", [None, False])
async def test_a_step_without_a_reason_is_taken(store, receiver, reason):
    saga = trip(outside(receiver, "pay", skip_if=lambda _: reason))
    assert (await ended(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.log == ["pay"]


async def test_a_reason_of_another_type_is_refused_with_what_is_expected(
    store, receiver
):
    first = trip(outside(receiver, "pay", skip_if=lambda _: 1), name="first")
    second = trip(
        outside(receiver, "pay"),
        outside(receiver, "ship", skip_if=lambda _: 1),
        name="second",
    )
    async with eb.SagaCoordinator(store, [first, second]) as coordinator:
        handle = await coordinator.start(first, Trip("mia"), id="saga-0")
        with pytest.raises(
            eb.errors.SagaBlocked, match="expected the reason as text or True"
        ):
            await handle.result(timeout=MINUTE)
        handle = await coordinator.start(second, Trip("mia"), id="saga-1")
        with pytest.raises(
            eb.errors.SagaBlocked, match="expected the reason as text or True"
        ):
            await handle.result(timeout=MINUTE)
    # The step before has happened, so its end is recorded.
    assert (await records(store, "saga-1"))[-2:] == ["step_succeeded", "blocked"]


# --- names ----------------------------------------------------------------------------


def test_a_name_with_half_a_character_is_refused():
    with pytest.raises(eb.errors.InvalidSaga, match="printable text"):
        eb.local_step(HALF, note("x"))
    with pytest.raises(eb.errors.InvalidSaga, match="printable text"):
        trip(eb.local_step("x", note("x")).without_compensation(), name=HALF)


@pytest.mark.parametrize("name", [None, 7, b"x"])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(eb.errors.InvalidSaga, match="printable text"):
        eb.local_step(name, note("x"))
    with pytest.raises(eb.errors.InvalidSaga, match="printable text"):
        trip(eb.local_step("x", note("x")).without_compensation(), name=name)


def test_a_name_that_no_notice_could_hold_is_refused():
    with pytest.raises(eb.errors.InvalidSaga, match="at most 255 bytes"):
        trip(eb.local_step("x", note("x")).without_compensation(), name="x" * 256)
