"""Sagas over a real store: what is recorded, what is called, and what stands at the end.

The hazards: an effect without its record or the other way round, a second effect of one
step, a failure that leaves something standing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.testing import RecordingHooks
from tests.saga_kit import (
    DEADLINES,
    MINUTE,
    QUICK,
    SLEEPY,
    Declined,
    MortalStore,
    Receiver,
    Trip,
    inside,
    note,
    notes,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def receiver():
    return Receiver()


async def ended(store, saga, *, state=None, **options):
    async with eb.SagaCoordinator(store, [saga], **options) as coordinator:
        handle = await coordinator.start(saga, state or Trip("mia"), id="saga-1")
        with anyio.fail_after(60):
            return await handle.result()


def journey(receiver, **last):
    return trip(
        inside("book"),
        outside(receiver, "pay"),
        outside(receiver, "ship", **last),
    )


# --- forward --------------------------------------------------------------------------


async def test_a_saga_runs_to_its_end(store, receiver):
    end = await ended(store, journey(receiver))
    assert end.outcome is eb.SagaOutcome.COMPLETED
    assert end.failure is None
    assert end.state.receipts == ("receipt saga-1/pay/1", "receipt saga-1/ship/1")
    assert receiver.log == ["pay", "ship"]
    assert await notes(store, "saga-1") == ["book", "pay", "ship"]


async def test_each_step_is_one_commit(store, receiver):
    counted = MortalStore(store)
    await ended(counted, journey(receiver))
    # The start, three steps, and the checkpoint of the end.
    assert counted.appends == 1 + 3 + 1
    assert await records(store, "saga-1") == [
        "started",
        "step_succeeded",
        "step_started",
        "step_succeeded",
        "step_started",
        "step_succeeded",
        "completed",
    ]


async def test_a_step_and_what_it_means_are_adjacent_in_the_log(store, receiver):
    await ended(store, journey(receiver))
    everything = [r.stream async for r in store.read_all()]
    streams = [stream for stream in everything if stream[0] != "$"][:8]
    ledger, saga = "ledger-saga-1", "saga-1"
    assert streams == [saga, ledger, saga, saga, ledger, saga, saga, ledger]


async def test_commands_carry_the_saga_as_correlation_and_the_key_as_cause(
    store, receiver
):
    await ended(store, journey(receiver))
    told = [
        (r.correlation_id, r.causation_id)
        async for r in store.read_stream("ledger-saga-1")
    ]
    assert told == [
        ("saga-1", "saga-1/book/1"),
        ("saga-1", "saga-1/pay/1"),
        ("saga-1", "saga-1/ship/1"),
    ]


async def test_the_start_is_recorded_before_the_call(store):
    seen = []

    async def look(context: eb.StepContext[Trip]) -> None:
        seen.extend(await records(store, context.saga_id))

    saga = trip(eb.step("look", look, timeout=MINUTE).without_compensation())
    await ended(store, saga)
    assert seen == ["started", "step_started"]


async def test_a_step_that_is_not_needed_is_skipped(store, receiver):
    saga = trip(
        inside("book"),
        outside(receiver, "pay", skip_if=lambda state: "it is free"),
        outside(receiver, "ship"),
    )
    assert (await ended(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.log == ["ship"]
    timeline = eb.saga.read_timeline(store.as_sync(), "saga-1")
    [skipped] = [entry for entry in timeline.entries if entry.what == "skipped"]
    assert (skipped.step, skipped.detail) == ("pay", "it is free")


async def test_a_local_step_may_fold_what_it_executed(store, receiver):
    def shown(state, executed):
        places = f"{executed.first_position}-{executed.last_position}"
        return replace(state, who=f"{executed.events} {places} {executed.versions}")

    saga = trip(
        outside(receiver, "pay"),
        inside("book", then=shown),
        outside(receiver, "ship", skip_if=lambda state: None),
    )
    end = await ended(store, saga)
    assert end.state.who == "(Noted(what='book'),) 22-22 {'ledger-saga-1': 2}"
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        again = await coordinator.get(saga, "saga-1")
        assert (await again.result()).state == end.state


async def test_names_may_hold_any_text(store, receiver):
    saga = trip(outside(receiver, "größte Übung / 2"))
    await ended(store, saga)
    [key] = receiver.effects
    assert key == "saga-1/gr%C3%B6%C3%9Fte%20%C3%9Cbung%20%2F%202/1"
    assert key.isascii()


# --- failures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fails", "noted"),
    [
        ("pay", ["book", "compensate book"]),
        ("ship", ["book", "pay", "compensate book"]),
    ],
)
async def test_a_decline_compensates_what_was_done(store, receiver, fails, noted):
    receiver.plan[fails] = ["decline"]
    end = await ended(store, journey(receiver))
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert end.failure == f"{fails}: Declined: {fails} declined"
    assert receiver.standing() == []
    assert await notes(store, "saga-1") == noted


async def test_a_rejected_command_is_the_failure_of_its_step(store, receiver):
    saga = trip(outside(receiver, "pay"), inside("book", unless="sold_out"))
    end = await ended(store, saga)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert end.failure == "book: sold_out: sold_out (seen=1)"
    [failed] = [
        eb.decode_event(r) async for r in store.read_all(types=["saga.step_failed"])
    ]
    assert (failed.code, bytes(failed.facts)) == ("sold_out", b'{"seen":1}')
    assert receiver.log == ["pay", "compensate pay"]


async def test_a_bug_in_a_command_compensates_nothing(store, receiver):
    def broken(context):
        raise ZeroDivisionError("oops")

    saga = trip(
        outside(receiver, "pay"), eb.local_step("book", broken).without_compensation()
    )
    with pytest.raises(
        eb.errors.SagaBlocked, match="command of step 'book' raised ZeroDivis"
    ):
        await ended(store, saga)
    assert receiver.standing() == ["pay"]


async def test_a_failed_step_is_not_compensated_and_others_are_in_reverse(
    store, receiver
):
    receiver.plan["c"] = ["decline"]
    saga = trip(*(outside(receiver, name) for name in "abc"))
    await ended(store, saga)
    assert receiver.log == ["a", "b", "compensate b", "compensate a"]


async def test_the_compensation_knows_why(store, receiver):
    receiver.plan["ship"] = ["decline"]
    reasons = []

    def cancel(context):
        reasons.append(context.failure)
        return note("cancelled")(context)

    saga = trip(
        eb.local_step("book", note("book")).compensated_by(cancel),
        outside(receiver, "ship"),
    )
    await ended(store, saga)
    assert reasons == ["ship: Declined: ship declined"]


async def test_a_compensation_may_record_what_it_did(store, receiver):
    receiver.plan["ship"] = ["decline"]

    def refunded(context, receipt):
        return note(f"refunded {receipt}")(context)

    saga = trip(
        outside(receiver, "pay", compensation_record=refunded),
        outside(receiver, "ship"),
    )
    await ended(store, saga)
    assert await notes(store, "saga-1") == [
        "pay",
        "refunded receipt saga-1/pay/1/compensation",
    ]


async def test_a_step_whose_command_is_refused_is_compensated_with_its_result(
    store, receiver
):
    saga = trip(outside(receiver, "pay", record=note("pay", unless="closed")))
    end = await ended(store, saga)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert end.failure.startswith("pay: closed")
    assert receiver.log == ["pay", "compensate pay"]
    assert end.state.receipts == ("receipt saga-1/pay/1",)


# --- unknown outcomes -----------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["lose", "drop", "hang", "stall"])
async def test_an_unknown_outcome_is_tried_again_with_the_same_key(
    store, receiver, trouble
):
    receiver.plan["pay"] = [trouble, "ok"]
    end = await ended(store, journey(receiver))
    assert end.outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls["saga-1/pay/1"] == 2
    assert receiver.standing() == ["pay", "ship"]
    [unknown] = [
        eb.decode_event(r) async for r in store.read_all(types=["saga.step_unknown"])
    ]
    assert unknown.why == ("lost" if trouble in {"lose", "drop"} else "timeout")
    assert unknown.retry_at is not None


@pytest.mark.parametrize("trouble", ["lose", "drop", "hang", "stall"])
async def test_an_outcome_that_stays_unknown_is_compensated_by_its_key(
    store, receiver, trouble
):
    receiver.plan["ship"] = [trouble]
    end = await ended(store, journey(receiver))
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.calls["saga-1/ship/1"] == QUICK.maximum_attempts
    assert receiver.voided == {"saga-1/ship/1", "saga-1/pay/1"}
    assert receiver.standing() == []


@pytest.mark.parametrize("trouble", ["lose", "hang"])
async def test_the_receiver_is_asked_before_it_is_called_again(
    store, receiver, trouble
):
    receiver.plan["pay"] = [trouble]

    async def ask(context: eb.StepContext[Trip]) -> eb.StepCompleted[str] | None:
        known = receiver.knows(context.idempotency_key)
        return None if known is None else eb.StepCompleted(known)

    saga = trip(outside(receiver, "pay", ask=ask))
    end = await ended(store, saga)
    assert end.outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls["saga-1/pay/1"] == 1
    assert (await records(store, "saga-1"))[-3:] == [
        "step_unknown",
        "step_succeeded",
        "completed",
    ]


async def test_a_receiver_that_cannot_be_asked_is_called_again(store, receiver):
    receiver.plan["pay"] = ["lose", "ok"]

    async def ask(context: eb.StepContext[Trip]) -> eb.StepCompleted[str] | None:
        raise ConnectionError

    end = await ended(store, trip(outside(receiver, "pay", ask=ask)))
    assert end.outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls["saga-1/pay/1"] == 2


async def test_a_result_of_another_type_is_compensated_as_unknown(store, receiver):
    async def lie(context: eb.StepContext[Trip]) -> str:
        receiver.take_effect("pay", context.idempotency_key)
        return 3

    async def compensate(
        context: eb.StepContext[Trip], did: eb.StepCompleted[str] | eb.StepInDoubt
    ) -> None:
        assert did == eb.StepInDoubt("lost")
        await receiver.compensate("pay", context.forward_key, context.idempotency_key)

    step = eb.step("pay", lie, timeout=MINUTE, retry=QUICK).compensated_by(compensate)
    end = await ended(store, trip(step))
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert "can't be recorded" in end.failure
    assert receiver.standing() == []


# --- behind the point of no return ----------------------------------------------------


async def test_a_retriable_step_is_tried_until_it_succeeds(store, receiver):
    receiver.plan["tell"] = ["drop"] * 20 + ["ok"]
    saga = trip(
        outside(receiver, "pay", kind=eb.StepKind.PIVOT),
        outside(
            receiver,
            "tell",
            kind=eb.StepKind.RETRIABLE,
            retry=replace(QUICK, maximum_attempts="unlimited"),
        ),
    )
    assert (await ended(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls["saga-1/tell/1"] == 21


async def test_a_step_that_failed_for_good_is_replaced(store, receiver):
    receiver.plan["tell"] = ["decline"]
    failures = []

    def later(context, failure):
        failures.append(str(failure))
        return note("tell later")(context)

    saga = trip(
        outside(receiver, "pay"),
        outside(receiver, "tell", otherwise=later, compensatable=False),
        inside("close"),
    )
    assert (await ended(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert failures == ["Declined: tell declined"]
    assert await notes(store, "saga-1") == ["pay", "tell later", "close"]
    assert "step_given_up" in await records(store, "saga-1")


async def test_a_replacement_that_is_refused_too_compensates_the_saga(store, receiver):
    receiver.plan["tell"] = ["decline"]
    saga = trip(
        outside(receiver, "pay"),
        outside(
            receiver, "tell", otherwise=note("later", unless="no"), compensatable=False
        ),
        inside("close"),
    )
    end = await ended(store, saga)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert "what should take its place: no" in end.failure


async def test_a_replaced_step_is_not_compensated(store, receiver):
    receiver.plan["tell"] = ["decline"]
    saga = trip(
        outside(receiver, "tell", otherwise=note("later"), compensatable=False),
        inside("close", unless="no"),
    )
    assert (await ended(store, saga)).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.log == []


# --- deadlines ------------------------------------------------------------------------


async def test_a_saga_that_is_too_late_is_compensated(store, receiver):
    # The deadline passes in the pause after the attempt, which is longer than any test.
    receiver.plan["ship"] = ["drop"]
    for n, deadline in enumerate(DEADLINES):
        saga = trip(
            outside(receiver, "pay"),
            outside(receiver, "ship", retry=SLEEPY),
            deadline=deadline,
        )
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id=f"saga-{n}")
            end = await handle.result()
        assert end.outcome is eb.SagaOutcome.COMPENSATED
        assert end.failure == "the saga's deadline has passed"
        if "step_unknown" in await records(store, f"saga-{n}"):
            break
    assert {f"saga-{n}/ship/1", f"saga-{n}/pay/1"} <= receiver.voided


# --- stuck ----------------------------------------------------------------------------


async def test_a_compensation_that_fails_for_good_waits_for_a_person(store, receiver):
    receiver.plan |= {"ship": ["decline"], "compensate pay": ["decline", "ok"]}
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        end = await handle.result()
        assert end.outcome is eb.SagaOutcome.STUCK
        assert end.failure == "can't be compensated: pay: Declined: pay declined"
        [listed] = await coordinator.stuck()
        assert (listed.id, listed.step) == ("saga-1", "pay")
        [told] = [eb.decode_event(r) async for r in store.read_stream("saga-attention")]
        assert (told.saga_id, told.step) == ("saga-1", "pay")
        assert told.reason == listed.failure == end.failure

        await coordinator.retry("saga-1", by="mia", note="the bank is back")
        end = await handle.result()
        assert end.outcome is eb.SagaOutcome.COMPENSATED
        assert await coordinator.stuck() == []
    assert receiver.standing() == []
    timeline = eb.saga.read_timeline(store.as_sync(), "saga-1")
    [by_hand] = [entry for entry in timeline.entries if entry.what == "retried by hand"]
    assert (by_hand.step, by_hand.detail) == ("pay", "mia: the bank is back")


async def test_a_stuck_step_may_be_skipped(store, receiver):
    saga = trip(inside("book", compensate_unless="never"), inside("pay", unless="no"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
        with pytest.raises(eb.errors.InvalidTransition, match="stuck at 'book'"):
            await coordinator.skip("saga-1", "pay", by="mia", note="?")
        with pytest.raises(
            eb.errors.InvalidArgument, match="the reason of the decision"
        ):
            await coordinator.skip("saga-1", "book", by="", note="?")
        await coordinator.skip("saga-1", "book", by="mia", note="cancelled by phone")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
    assert "skipped_by_hand" in await records(store, "saga-1")


async def test_a_stuck_saga_is_still_listed_after_a_restart(store, receiver):
    receiver.plan["tell"] = ["decline", "ok"]
    saga = trip(
        outside(receiver, "pay", kind=eb.StepKind.PIVOT),
        outside(receiver, "tell", kind=eb.StepKind.RETRIABLE, compensatable=False),
    )
    assert (await ended(store, saga)).outcome is eb.SagaOutcome.STUCK
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        [listed] = await coordinator.stuck()
        assert listed.step == "tell"
        await coordinator.retry("saga-1", by="mia", note="again")
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.effects == {"saga-1/pay/1": "pay", "saga-1/tell/2": "tell"}


async def test_only_a_stuck_saga_is_retried_by_hand(store, receiver):
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result()
        with pytest.raises(eb.errors.InvalidTransition, match="must be stuck"):
            await coordinator.retry("saga-1", by="mia", note="again")
        with pytest.raises(eb.errors.SagaNotFound, match="saga-2"):
            await coordinator.retry("saga-2", by="mia", note="again")


async def test_compensations_are_retried(store, receiver):
    receiver.plan |= {"ship": ["decline"], "compensate pay": ["drop", "hang", "ok"]}
    end = await ended(store, journey(receiver))
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.calls["saga-1/pay/1/compensation"] == 3
    assert receiver.standing() == []


async def test_refusals_are_not_retried(store, receiver):
    receiver.plan["pay"] = ["decline"]
    retry = eb.RetryPolicy(maximum_attempts=9)
    saga = trip(outside(receiver, "pay", retry=retry, refusals=(Declined,)))
    await ended(store, saga)
    assert receiver.calls["saga-1/pay/1"] == 1


async def test_a_compensation_whose_command_is_refused_waits_for_a_person(
    store, receiver
):
    receiver.plan["ship"] = ["decline"]
    saga = trip(
        outside(receiver, "pay", compensation_record=note("refunded", unless="closed")),
        outside(receiver, "ship"),
    )
    end = await ended(store, saga)
    assert end.outcome is eb.SagaOutcome.STUCK
    assert "it is compensated, but its command was refused: closed" in end.failure
    # It was tried again with the same key, so the receiver did it once.
    assert receiver.calls["saga-1/pay/1/compensation"] == QUICK.maximum_attempts
    assert receiver.log == ["pay", "compensate pay"]


class Pieces(eb.Int, ge=0):
    """How many."""


class Never:
    def __repr__(self):
        return "<never>"

    __str__ = __repr__


async def test_the_facts_of_a_rejection_are_kept_as_json(store):
    def refuse(context):
        raise eb.CommandRejected("no", None, {"left": Pieces(3), "what": Never()})

    await ended(store, trip(eb.local_step("book", refuse).without_compensation()))
    [failed] = [
        eb.decode_event(r) async for r in store.read_all(types=["saga.step_failed"])
    ]
    assert bytes(failed.facts) == b'{"left":3,"what":"<never>"}'


class Contended(MortalStore):
    """Somebody else writes to the ledger just before the appends of one note."""

    def __init__(self, store, what):
        super().__init__(store)
        self.what = what.encode()
        self.left = 3

    async def append(self, events, **options):
        noted = [e.data for e in events if e.stream == LEDGER]
        if self.left and any(self.what in data for data in noted):
            self.left -= 1
            conflict = eb.errors.ConflictedStream(LEDGER, expected=0, actual=1)
            raise eb.VersionConflict([conflict])
        return await super().append(events, **options)


LEDGER = "ledger-saga-1"


@pytest.mark.parametrize(
    "options",
    [
        {"command_retry": eb.RetryPolicy(maximum_attempts=1)},
        {"command_retry_timeout": timedelta(0)},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_commands_that_meet_too_many_conflicts_are_tried_until_they_are_done(
    store, receiver, options, caplog
):
    """Contention is nobody's failure: no saga is compensated, no receiver is called again."""
    saga = journey(receiver)
    end = await ended(Contended(store, "book"), saga, **options)
    assert end.outcome is eb.SagaOutcome.COMPLETED
    assert "failed in each of 1 attempts" in caplog.text
    assert await notes(store, "saga-1") == ["book", "pay", "ship"]


async def test_the_commands_of_steps_are_reported_to_hooks(store, receiver):
    hooks = RecordingHooks()
    saga = journey(receiver)
    end = await ended(Contended(store, "book"), saga, command_hooks=[hooks])
    assert end.outcome is eb.SagaOutcome.COMPLETED
    # The local step, and the records that the external ones make of their results.
    assert [(one.start.name, one.end.outcome) for one in hooks.executions] == [
        ("Note", "succeeded")
    ] * 3
    outcomes = [at.outcome for at in hooks.executions[0].attempts]
    assert outcomes == ["conflict"] * 3 + ["succeeded"]


async def test_an_answer_is_recorded_without_another_call(store, receiver):
    impatient = eb.RetryPolicy(maximum_attempts=1)
    saga = journey(receiver)
    end = await ended(Contended(store, "pay"), saga, command_retry=impatient)
    assert end.outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls["saga-1/pay/1"] == 1


async def test_a_pivot_whose_command_is_refused_waits_for_a_person(store, receiver):
    """It happened, so it can't be compensated, and what it means can't be recorded."""
    saga = trip(
        inside("book"),
        outside(
            receiver, "pay", kind=eb.StepKind.PIVOT, record=note("pay", unless="closed")
        ),
    )
    end = await ended(store, saga)
    assert end.outcome is eb.SagaOutcome.STUCK
    assert "it happened, but its command was refused: closed" in end.failure
    assert receiver.calls["saga-1/pay/1"] == QUICK.maximum_attempts
    assert receiver.standing() == ["pay"]
