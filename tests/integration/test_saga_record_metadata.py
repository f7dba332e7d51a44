"""Each record of a saga names its schema version, its saga and the event that led to it.

The hazard: a path that appends by itself and forgets one of them. Then the history of a
saga has a gap exactly where something unusual happened.
"""

from __future__ import annotations

import typing

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga import Signal, each, wait, when
from eventbraid.saga.machine import _events
from tests.saga_kit import (
    QUICK,
    SECOND,
    MortalStore,
    Receiver,
    Trip,
    inside,
    note,
    outside,
    recorded,
    trip,
)

pytestmark = pytest.mark.anyio

NOTICE = "saga.needs_attention"
ATTENTION = "saga-attention"
ID = "saga-1"


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


async def outcome_of(store, saga, *, wanted=eb.SagaOutcome.COMPLETED):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id=ID)
        assert (await handle.result()).outcome is wanted


async def completed(store):
    """A skipped step, a replaced one, and the ordinary ones."""
    receiver = Receiver({"tell": ["decline"]})
    await outcome_of(
        store,
        trip(
            inside("book"),
            inside("lounge", skip_if=lambda state: True),
            outside(receiver, "pay"),
            outside(receiver, "tell", otherwise=note("later"), compensatable=False),
        ),
    )


async def compensated(store):
    receiver = Receiver({"ship": ["decline"]})
    saga = trip(inside("book"), outside(receiver, "pay"), outside(receiver, "ship"))
    await outcome_of(store, saga, wanted=eb.SagaOutcome.COMPENSATED)


async def past_its_deadline(store):
    retry = eb.RetryPolicy(
        maximum_attempts="unlimited", initial_delay=SECOND, maximum_delay=SECOND
    )
    saga = trip(
        inside("book"),
        outside(Receiver({"pay": ["drop"]}), "pay", retry=retry),
        deadline=0.2 * SECOND,
    )
    await outcome_of(store, saga, wanted=eb.SagaOutcome.COMPENSATED)


async def stuck_and_decided_by_hand(store):
    saga = trip(inside("book", compensate_unless="never"), inside("pay", unless="no"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id=ID)
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
        await coordinator.retry(ID, by="mia", note="again")
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
        await coordinator.skip(ID, "book", by="mia", note="done by phone")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED


async def decided_without_the_declaration(store):
    saga = trip(inside("book", compensate_unless="never"), inside("pay", unless="no"))
    await outcome_of(store, saga, wanted=eb.SagaOutcome.STUCK)
    async with eb.SagaCoordinator(store, []) as lister:
        await lister.retry(ID, by="mia", note="again")


async def cancelled_during_a_call(store):
    entered, opened = anyio.Event(), anyio.Event()

    async def call(context) -> None:
        entered.set()
        await opened.wait()

    async def compensate(context, did) -> None:
        pass

    gate = eb.step("gate", call, timeout=20 * SECOND).compensated_by(compensate)
    saga = trip(inside("book"), gate)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id=ID)
        await entered.wait()
        await coordinator.cancel(ID, reason="changed her mind")
        opened.set()
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED


async def blocked_and_resumed(store):
    broken = [True]

    def reason(state):
        return 1 / 0 if broken[0] else None

    saga = trip(inside("book"), inside("pay", skip_if=reason))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id=ID)
        with pytest.raises(eb.errors.SagaBlocked):
            await handle.result()
        await recorded(store, ATTENTION, "needs_attention")
    broken[0] = False
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await (await coordinator.get(saga, ID)).result()


async def unfoldable_when_it_is_read_back(store):
    def fold(trip_, receipt):
        raise ZeroDivisionError

    receiver = Receiver({"ship": ["drop"]})
    retry = eb.RetryPolicy(
        maximum_attempts="unlimited",
        initial_delay=60 * SECOND,
        maximum_delay=60 * SECOND,
    )
    ship = outside(receiver, "ship", retry=retry)
    async with eb.SagaCoordinator(
        store, [saga := trip(outside(receiver, "pay"), ship)]
    ) as coordinator:
        await coordinator.start(saga, Trip("mia"), id=ID)
        await recorded(store, ID, "step_unknown")
    defective = trip(outside(receiver, "pay", then=fold), ship)
    async with eb.SagaCoordinator(store, [defective]):
        await recorded(store, ID, "blocked")
        await recorded(store, ATTENTION, "needs_attention")


async def interrupted_by_a_crash(store):
    receiver = Receiver()
    saga = trip(inside("book"), outside(receiver, "pay"), inside("close"))
    mortal = MortalStore(store, dies_at=3)
    with pytest.raises(eb.errors.StoreClosed):
        await outcome_of(mortal, saga)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await (await coordinator.get(saga, ID)).result()


async def refused_by_its_receiver_while_it_is_compensated(store):
    receiver = Receiver({"compensate pay": ["drop", "ok"]})
    saga = trip(
        outside(receiver, "pay", compensation_retry=QUICK), inside("close", unless="no")
    )
    await outcome_of(store, saga, wanted=eb.SagaOutcome.COMPENSATED)


async def chosen_listed_and_waited_for(store):
    number, text = Signal("answer", int), Signal("answer", str)
    saga = trip(
        when("never", lambda _: False, then=[inside("book")]),
        each(lambda _: {"a": 1}, inside("pack")),
        wait(number),
    )
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id=ID)
        await coordinator.signal(ID, text, "no number")
        await coordinator.signal(ID, number, 1)
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


SCENARIOS = {
    chosen_listed_and_waited_for: "branch_chosen items_listed items_completed "
    "wait_started signal_received signal_refused wait_ended",
    completed: "started step_started step_succeeded step_skipped step_failed "
    "step_given_up completed",
    compensated: "compensation_started compensation_attempted step_compensated "
    "compensated",
    past_its_deadline: "step_unknown compensation_started",
    stuck_and_decided_by_hand: "stuck retried_by_hand skipped_by_hand "
    "compensation_failed needs_attention",
    decided_without_the_declaration: "stuck retried_by_hand",
    cancelled_during_a_call: "compensation_started step_answered_late",
    blocked_and_resumed: "blocked needs_attention completed",
    unfoldable_when_it_is_read_back: "blocked needs_attention",
    interrupted_by_a_crash: "step_unknown completed",
    refused_by_its_receiver_while_it_is_compensated: "compensation_failed compensated",
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_each_record_names_its_version_its_saga_and_its_cause(store, scenario):
    with anyio.fail_after(30):
        await scenario(store)
    stream = [found async for found in store.read_stream(ID)]
    notices = [found async for found in store.read_stream(ATTENTION)]
    what = {found.type.removeprefix("saga.") for found in (*stream, *notices)}
    assert set(SCENARIOS[scenario].split()) <= what
    for found in (*stream, *notices):
        assert dict(found.metadata).keys() == {"causation_id", "correlation_id", "v"}
        assert found.metadata["v"] == "1"
        assert found.correlation_id == ID
    positions = {str(found.event_id): found.position for found in stream}
    start, *later = stream
    assert start.causation_id == ID
    for found in (*later, *notices):
        assert positions[found.causation_id] < found.position


async def test_the_records_of_one_commit_have_the_record_before_it_as_their_cause(
    store,
):
    await outcome_of(store, trip(outside(Receiver(), "pay")))
    started, step, succeeded, completed_ = [
        found async for found in store.read_stream(ID)
    ]
    assert started.causation_id == ID
    assert step.causation_id == str(started.event_id)
    cause = str(step.event_id)
    assert succeeded.causation_id == completed_.causation_id == cause


async def test_a_saga_that_a_step_starts_names_the_record_of_that_step(store):
    inner = trip(inside("book"), name="inner")

    async def begin(context) -> None:
        handle = await coordinators[0].start(inner, Trip("mia"), id="saga-inner")
        await handle.result()

    outer = trip(eb.step("begin", begin, timeout=20 * SECOND).without_compensation())
    async with eb.SagaCoordinator(store, [outer, inner]) as coordinator:
        coordinators = [coordinator]
        handle = await coordinator.start(outer, Trip("mia"), id=ID)
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    _, step, *_ = [found async for found in store.read_stream(ID)]
    start, *_ = [found async for found in store.read_stream("saga-inner")]
    assert step.type == "saga.step_started"
    assert start.causation_id == str(step.event_id)
    assert start.correlation_id == "saga-inner"


def test_the_scenarios_write_every_type_of_record():
    types = {eb.event_type(kind) for kind in typing.get_args(_events.SagaEvent)}
    written = {f"saga.{what}" for names in SCENARIOS.values() for what in names.split()}
    assert written == types | {NOTICE}
