"""What a saga does next is a function from values to values: no store, no clock.

The hazards: an attempt that may have happened and isn't compensated; a compensation in the wrong
order; a step behind the point of no return that compensates the saga.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

import eventbraid as eb
from eventbraid.saga.machine import _events as e
from eventbraid.saga.machine._consequences import (
    cancelled,
    compensated,
    compensation_failed,
    failed,
    interrupted,
    refused_after_success,
    retried_by_hand,
    skipped_by_hand,
    succeeded,
)
from eventbraid.saga.machine._next_action import (
    Blocked,
    Call,
    Commit,
    Compensate,
    Execute,
    Record,
    Terminal,
    Wait,
    next_action,
)
from eventbraid.saga.machine._transitions import after, fold

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STEADY = eb.Retry(attempts=2, first=SECOND, jitter="none")
LOST = eb.StepFailure("OSError", "gone", doubt="lost")
NO = eb.StepFailure("Declined", "no")


async def call(context: eb.StepContext[int]) -> str:
    raise NotImplementedError


async def compensate(
    context: eb.StepContext[int], did: eb.Done[str] | eb.Unknown
) -> None:
    raise NotImplementedError


def outside(name, **options):
    options.setdefault("retry", STEADY)
    step = eb.step(name, call, timeout=SECOND, **options)
    if options.get("kind") is not None or "otherwise" in options:
        return step
    return step.compensated_by(compensate, retry=STEADY)


def inside(name, **options):
    step = eb.local(name, lambda c: None, **options)
    if options.get("kind") is not None:
        return step
    return step.compensated_by(
        lambda c: None, retry=eb.Retry(attempts=2, jitter="none")
    )


PIVOT = {"kind": eb.Kind.PIVOT}
RETRIABLE = {"kind": eb.Kind.RETRIABLE}
JOURNEY = eb.Saga("journey", int, steps=[outside("a"), inside("b"), outside("c")])
SIMPLE = eb.Saga(
    "simple",
    int,
    steps=[
        outside("a"),
        eb.local("b", lambda c: None).compensated_by(
            lambda c: None, retry=eb.Retry(attempts=1)
        ),
        outside("c"),
    ],
)
STRICT = eb.Saga("strict", int, steps=SIMPLE.steps, compensation_order="strict")
POINTED = eb.Saga(
    "pointed",
    int,
    steps=[outside("a"), outside("p", **PIVOT), outside("r", **RETRIABLE)],
)


def started(saga, *events, deadline=None):
    begin = e.SagaStarted(
        saga.name,
        saga.version,
        saga.graph_hash,
        saga.graph,
        saga.state_codec.encode(0),
        deadline,
    )
    return fold("saga-1", [begin, *events])


def did(step, attempt=1):
    return e.StepSucceeded(step, attempt, msgspec.Raw(b'"r"'))


def tried(step, attempt=1):
    return e.StepStarted(step, attempt)


def state_of(saga, state=0):
    return saga.state_codec.record(state)


def moved(saga, progress, now=NOW, defective=()):
    return next_action(saga, progress, state_of(saga), now, defective)


def failed_compensation(saga, progress, failure, step="a"):
    return compensation_failed(saga, progress, step, failure, NOW)


# --- forward --------------------------------------------------------------------------


def test_an_external_step_is_started_before_it_is_called():
    progress = started(JOURNEY)
    assert moved(JOURNEY, progress) == Commit((tried("a"),))
    progress = after(progress, [tried("a")])
    assert moved(JOURNEY, progress) == Call(JOURNEY.steps[0], 1)


def test_a_local_step_has_no_record_before_its_command():
    progress = started(JOURNEY, tried("a"), did("a"))
    assert moved(JOURNEY, progress) == Execute(JOURNEY.steps[1], 1)


def test_a_success_starts_the_next_external_step_in_the_same_commit():
    progress = started(JOURNEY, tried("a"), did("a"))
    assert succeeded(JOURNEY, progress, state_of(JOURNEY), did("b"), NOW) == (
        did("b"),
        tried("c"),
    )


def test_the_last_success_completes_the_saga_in_the_same_commit():
    progress = started(JOURNEY, tried("a"), did("a"), did("b"), tried("c"))
    events = succeeded(JOURNEY, progress, state_of(JOURNEY), did("c"), NOW)
    assert events == (did("c"), e.SagaCompleted())
    assert moved(JOURNEY, after(progress, events)) == Terminal(eb.Status.COMPLETED)


def test_steps_that_are_not_needed_are_skipped_with_their_reason():
    free = {"skip_if": lambda cents: "nothing to pay" if cents == 0 else None}
    saga = eb.Saga("s", int, steps=[inside("a"), outside("b", **free), outside("c")])
    progress = started(saga)
    assert succeeded(saga, progress, state_of(saga), did("a"), NOW) == (
        did("a"),
        e.StepSkipped("b", "nothing to pay"),
        tried("c"),
    )
    assert succeeded(saga, progress, state_of(saga, 5), did("a"), NOW) == (
        did("a"),
        tried("b"),
    )


def test_a_saga_whose_steps_are_all_skipped_completes():
    saga = eb.Saga("s", int, steps=[outside("a", skip_if=lambda state: "no")])
    assert moved(saga, started(saga)) == Commit(
        (e.StepSkipped("a", "no"), e.SagaCompleted())
    )


# --- failures -------------------------------------------------------------------------


def test_a_proven_failure_is_not_retried_and_not_compensated():
    progress = started(JOURNEY, tried("a"), did("a"), did("b"), tried("c"))
    verdict = failed(JOURNEY, progress, NO, NOW)
    assert verdict.events == (
        e.StepFailed("c", "Declined", "no"),
        e.CompensationStarted("failed", ("b", "a"), "c"),
        e.CompensationAttempted("b"),
    )


def test_a_failure_with_nothing_to_compensate_ends_the_saga_at_once():
    verdict = failed(JOURNEY, started(JOURNEY, tried("a")), NO, NOW)
    assert verdict.events == (
        e.StepFailed("a", "Declined", "no"),
        e.CompensationStarted("failed", (), "a"),
        e.SagaCompensated(),
    )


def test_an_unknown_outcome_is_retried_after_a_delay():
    progress = started(JOURNEY, tried("a"))
    verdict = failed(JOURNEY, progress, LOST, NOW)
    due = NOW + SECOND
    assert verdict.events == (e.StepUnknown("a", "lost", "OSError", "gone", 1, due),)
    progress = after(progress, verdict.events)
    assert moved(JOURNEY, progress) == Wait(due)
    assert moved(JOURNEY, progress, due) == Commit((tried("a", 2),))


def test_an_unknown_outcome_is_compensated_when_attempts_end():
    progress = started(JOURNEY, tried("a"), e.StepUnknown("a", "lost"), tried("a", 2))
    verdict = failed(JOURNEY, progress, LOST, NOW)
    assert verdict.events[1] == e.CompensationStarted("unknown", ("a",), "a")


def test_a_late_no_does_not_prove_that_an_earlier_attempt_failed():
    progress = started(JOURNEY, tried("a"), e.StepUnknown("a", "lost"), tried("a", 2))
    verdict = failed(JOURNEY, progress, NO, NOW)
    assert verdict.events[1] == e.CompensationStarted("unknown", ("a",), "a")


def test_a_rejected_command_is_not_retried():
    progress = started(JOURNEY, tried("a"), did("a"))
    verdict = failed(JOURNEY, progress, NO, NOW)
    assert verdict.events == (
        e.StepFailed("b", "Declined", "no"),
        e.CompensationStarted("failed", ("a",), "b"),
        e.CompensationAttempted("a"),
    )


def test_a_retriable_local_step_is_retried_when_rejected():
    saga = eb.Saga(
        "s", int, steps=[inside("r", retry=eb.Retry(jitter="none"), **RETRIABLE)]
    )
    verdict = failed(saga, started(saga), NO, NOW)
    [record] = verdict.events
    assert record.retry_at == NOW + timedelta(milliseconds=100)
    progress = after(started(saga), verdict.events)
    assert moved(saga, progress, record.retry_at) == Execute(saga.steps[0], 2)


def test_a_replaceable_step_is_given_up_and_the_saga_goes_on():
    saga = eb.Saga("s", int, steps=[outside("tell", otherwise=lambda c, f: None)])
    progress = started(saga, tried("tell"))
    verdict = failed(saga, progress, NO, NOW)
    assert verdict.is_replaced
    assert verdict.events == (
        e.StepFailed("tell", "Declined", "no"),
        e.StepGivenUp("tell"),
    )
    assert moved(saga, after(progress, verdict.events)) == Commit((e.SagaCompleted(),))


def test_a_crash_during_a_call_leaves_its_outcome_unknown():
    progress = started(JOURNEY, tried("a"))
    assert interrupted(JOURNEY, started(JOURNEY), NOW) == ()
    settled = after(progress, [e.StepUnknown("a", "lost")])
    assert interrupted(JOURNEY, settled, NOW) == ()
    [record] = interrupted(JOURNEY, progress, NOW, chance=0)
    assert record.why == "crash"
    assert record.retry_at == NOW


def test_a_step_that_happened_but_whose_command_was_refused_is_compensated_too():
    progress = started(JOURNEY, tried("a"))
    events = refused_after_success(progress, did("a"), NO)
    assert events == (
        did("a"),
        e.CompensationStarted("failed", ("a",), "a", "a: Declined: no"),
        e.CompensationAttempted("a"),
    )


# --- the point of no return -----------------------------------------------------------


def test_a_proven_failure_of_the_pivot_compensates_the_saga():
    progress = started(POINTED, tried("a"), did("a"), tried("p"))
    verdict = failed(POINTED, progress, NO, NOW)
    assert verdict.events[1] == e.CompensationStarted("failed", ("a",), "p")


def test_a_pivot_whose_outcome_stays_unknown_waits_for_a_person():
    progress = started(
        POINTED,
        tried("a"),
        did("a"),
        tried("p"),
        e.StepUnknown("p", "lost"),
        tried("p", 2),
    )
    verdict = failed(POINTED, progress, LOST, NOW)
    assert verdict.events[1] == e.SagaStuck("p", "p: OSError: gone")


def test_a_pivot_with_a_compensation_is_compensated_when_unknown():
    pivot = outside("p", **PIVOT).compensated_by(compensate)
    saga = eb.Saga("s", int, steps=[outside("a"), pivot])
    history = [
        tried("a"),
        did("a"),
        tried("p"),
        e.StepUnknown("p", "lost"),
        tried("p", 2),
    ]
    verdict = failed(saga, started(saga, *history), LOST, NOW)
    assert verdict.events[1] == e.CompensationStarted("unknown", ("p", "a"), "p")


def test_a_retriable_step_that_gives_up_waits_for_a_person():
    progress = started(POINTED, tried("a"), did("a"), tried("p"), did("p"), tried("r"))
    assert failed(POINTED, progress, NO, NOW).events == (
        e.StepFailed("r", "Declined", "no"),
        e.SagaStuck("r", "r: Declined: no"),
    )


# --- deadlines ------------------------------------------------------------------------


def test_a_passed_deadline_compensates_the_saga_before_the_next_step():
    progress = started(JOURNEY, tried("a"), did("a"), deadline=NOW)
    move = moved(JOURNEY, progress)
    assert move.events[0].reason == "deadline"
    assert move.events[0].plan == ("a",)


def test_a_wait_ends_at_the_deadline():
    due = NOW + 2 * SECOND
    progress = started(
        JOURNEY,
        tried("a"),
        e.StepUnknown("a", "lost", retry_at=due),
        deadline=NOW + SECOND,
    )
    assert moved(JOURNEY, progress) == Wait(NOW + SECOND)
    move = moved(JOURNEY, progress, NOW + SECOND)
    assert move.events[0].plan == ("a",)


def test_the_deadline_does_not_count_behind_the_point_of_no_return():
    history = [tried("a"), did("a"), tried("p"), did("p"), tried("r")]
    progress = started(POINTED, *history, deadline=NOW)
    verdict = failed(POINTED, progress, LOST, NOW)
    [record] = verdict.events
    assert record.retry_at == NOW + SECOND


def test_the_deadline_does_not_compensate_a_pivot_that_may_have_happened():
    due = NOW + SECOND
    progress = started(
        POINTED,
        tried("a"),
        did("a"),
        tried("p"),
        e.StepUnknown("p", "lost", retry_at=due),
        deadline=NOW,
    )
    assert moved(POINTED, progress) == Wait(due)


def test_the_deadline_does_not_compensate_a_saga_that_only_has_harmless_steps_left():
    saga = eb.Saga(
        "s", int, steps=[outside("a"), outside("tell", otherwise=lambda c, f: None)]
    )
    progress = started(saga, tried("a"), did("a"), deadline=NOW)
    assert moved(saga, progress) == Commit((tried("tell"),))


# --- backward -------------------------------------------------------------------------


def compensating(*events):
    return started(
        JOURNEY,
        *(tried("a"), did("a"), did("b"), tried("c")),
        *failed(
            JOURNEY,
            started(JOURNEY, tried("a"), did("a"), did("b"), tried("c")),
            NO,
            NOW,
        ).events,
        *events,
    )


def test_steps_are_compensated_in_the_reverse_of_their_completion():
    progress = compensating()
    assert moved(JOURNEY, progress) == Compensate(JOURNEY.steps[1], 1)
    events = compensated(JOURNEY, progress, "b", NOW)
    assert events == (e.StepCompensated("b"), e.CompensationAttempted("a"))
    progress = after(progress, events)
    assert moved(JOURNEY, progress) == Compensate(JOURNEY.steps[0], 1)
    assert compensated(JOURNEY, progress, "a", NOW) == (
        e.StepCompensated("a"),
        e.SagaCompensated(),
    )


def test_an_attempt_to_compensate_is_recorded_before_it_is_made():
    progress = compensating(e.StepCompensated("b"))
    attempt = e.CompensationAttempted("a")
    assert moved(JOURNEY, progress) == Commit((attempt,))
    progress = after(progress, [attempt])
    assert moved(JOURNEY, progress) == Compensate(JOURNEY.steps[0], 1)


def test_a_failed_compensation_is_retried_and_then_waits_for_a_person():
    progress = compensating(e.StepCompensated("b"))
    [record] = failed_compensation(JOURNEY, progress, LOST)
    assert record.retry_at == NOW + SECOND
    progress = after(progress, [record])
    assert moved(JOURNEY, progress) == Wait(NOW + SECOND)
    again = e.CompensationAttempted("a", 2)
    assert moved(JOURNEY, progress, NOW + SECOND) == Commit((again,))
    record, stuck = failed_compensation(JOURNEY, after(progress, [again]), LOST)
    assert record.attempt == 2
    assert stuck == e.SagaStuck("a", "can't be compensated: a: OSError: gone")


def test_a_receiver_that_refuses_to_compensate_is_not_asked_again():
    progress = compensating(e.StepCompensated("b"))
    record, stuck = failed_compensation(JOURNEY, progress, NO)
    assert record.retry_at is None
    assert stuck.step == "a"


def test_a_rejected_local_compensation_is_retried():
    [record] = failed_compensation(JOURNEY, compensating(), NO, "b")
    assert record.retry_at is not None


def test_a_stuck_compensation_holds_back_none_of_the_others():
    progress = compensating()
    record, follow = compensation_failed(SIMPLE, progress, "b", NO, NOW)
    assert record.retry_at is None
    assert follow == e.CompensationAttempted("a")
    progress = after(progress, [record, follow])
    assert progress.stuck_steps == ("b",)
    events = compensated(SIMPLE, progress, "a", NOW)
    assert events[1] == e.SagaStuck("b", "can't be compensated: b: Declined: no")
    progress = after(progress, events)
    assert progress.plan == ("b",)
    assert moved(SIMPLE, progress) == Terminal(eb.Status.STUCK)


def test_a_strict_order_stops_at_a_stuck_compensation():
    progress = compensating()
    _, stuck = compensation_failed(STRICT, progress, "b", NO, NOW)
    assert stuck == e.SagaStuck("b", "can't be compensated: b: Declined: no")


def test_several_stuck_compensations_are_retried_together_and_skipped_one_by_one():
    progress = compensating()
    for step in ("b", "a"):
        events = compensation_failed(SIMPLE, progress, step, NO, NOW)
        progress = after(progress, events)
    assert progress.status is eb.Status.STUCK
    assert progress.current == "b"
    retried = retried_by_hand(progress, "mia", "again")
    assert [event.step for event in retried] == ["b", "a"]
    assert after(progress, retried).open_steps == ("b", "a")
    skip = skipped_by_hand(
        SIMPLE, progress, state_of(SIMPLE), "b", "mia", "by phone", NOW
    )
    progress = after(progress, skip)
    assert progress.status is eb.Status.STUCK
    assert progress.current == "a"
    assert progress.stuck_for == "can't be compensated: a: Declined: no"
    skip = skipped_by_hand(
        SIMPLE, progress, state_of(SIMPLE), "a", "mia", "by phone", NOW
    )
    assert after(progress, skip).status is eb.Status.COMPENSATED


def test_cancelling_compensates_what_may_have_happened():
    progress = started(JOURNEY, tried("a"))
    assert cancelled(progress, "changed my mind") == (
        e.CompensationStarted("cancelled", ("a",), "", "cancelled: changed my mind"),
    )


# --- crashes and defects --------------------------------------------------------------


def crash_in(saga, progress):
    return after(progress, interrupted(saga, progress, NOW, chance=0))


def test_a_crash_counts_against_no_number_of_attempts():
    progress = started(JOURNEY, tried("a"))
    progress = crash_in(JOURNEY, progress)
    progress = after(progress, [tried("a", 2), e.StepUnknown("a", "lost", attempt=2)])
    progress = after(progress, [tried("a", 3)])
    record = failed(JOURNEY, progress, LOST, NOW).events[0]
    assert record.retry_at is None  # Two of its attempts have failed, as `retry` says.


def test_after_two_crashes_a_call_is_made_alone():
    progress = crash_in(JOURNEY, started(JOURNEY, tried("a")))
    assert moved(JOURNEY, progress) == Commit((tried("a", 2),))
    progress = crash_in(JOURNEY, after(progress, [tried("a", 2)]))
    assert moved(JOURNEY, progress) == Call(
        JOURNEY.steps[0], 3, alone=True, start=e.StepStarted("a", 3, alone=True)
    )


def test_crashes_beside_other_calls_never_leave_a_saga_stuck():
    progress = started(JOURNEY)
    for attempt in range(1, 20):
        progress = crash_in(JOURNEY, after(progress, [tried("a", attempt)]))
        assert progress.status is eb.Status.RUNNING


def test_a_saga_whose_process_ends_in_its_own_call_becomes_stuck():
    progress = started(JOURNEY)
    for attempt in (1, 2, 3, 4):
        start = e.StepStarted("a", attempt, alone=attempt > 2)
        progress = crash_in(JOURNEY, after(progress, [start]))
    assert progress.status is eb.Status.STUCK
    assert "the process ended 2 times during the call" in progress.stuck_for


def test_a_compensation_whose_process_ends_in_its_own_call_becomes_stuck():
    progress = compensating(e.StepCompensated("b"))
    for attempt in (1, 2, 3, 4):
        start = e.CompensationAttempted("a", attempt, alone=attempt > 2)
        progress = crash_in(JOURNEY, after(progress, [start]))
    assert progress.stuck_steps == ("a",)
    move = moved(JOURNEY, progress)
    assert "the process ended 2 times during the call" in move.events[0].reason


def test_the_attempt_of_a_local_step_that_crashed_has_had_no_effect():
    progress = started(JOURNEY, tried("a"), did("a"), tried("b"))
    assert progress.compensation_plan == ("a",)
    assert moved(JOURNEY, progress) == Execute(JOURNEY.steps[1], 1)
    progress = crash_in(JOURNEY, progress)
    assert progress.compensation_plan == ("a",)
    assert moved(JOURNEY, progress) == Commit((tried("b", 2),))
    progress = after(progress, [tried("b", 2)])
    events = succeeded(JOURNEY, progress, state_of(JOURNEY), did("b", 2), NOW)
    assert after(progress, events).step == "c"


def test_a_local_step_whose_process_ends_each_time_becomes_stuck():
    progress = started(JOURNEY, tried("a"), did("a"))
    for attempt in (1, 2, 3, 4):
        start = e.StepStarted("b", attempt, alone=attempt > 2)
        progress = crash_in(JOURNEY, after(progress, [start]))
    assert progress.status is eb.Status.STUCK
    [retried] = retried_by_hand(progress, "mia", "mended")
    assert moved(JOURNEY, after(progress, [retried])) == Execute(JOURNEY.steps[1], 1)


def test_a_coordinator_that_is_ended_during_a_call_is_not_charged_to_it():
    progress = started(JOURNEY)
    for attempt in range(1, 20):
        start = e.StepStarted("a", attempt, alone=attempt > 2)
        ended = e.StepUnknown("a", "crash", attempt=attempt, cancelled=True)
        progress = after(progress, [start, ended])
    assert progress.status is eb.Status.RUNNING
    assert progress.crashes_alone == 0


def test_an_outcome_ends_a_row_of_crashes():
    progress = crash_in(JOURNEY, started(JOURNEY, tried("a")))
    progress = crash_in(JOURNEY, after(progress, [tried("a", 2)]))
    lost = e.StepUnknown("a", "lost", attempt=3)
    progress = after(progress, [tried("a", 3), lost])
    assert (progress.crashes, progress.crashes_alone) == (0, 0)


def test_the_pause_after_crashes_grows():
    progress = started(JOURNEY)
    pauses = []
    for attempt in range(1, 5):
        progress = after(progress, [tried("a", attempt)])
        [record] = interrupted(JOURNEY, progress, NOW)
        pauses.append(record.retry_at - NOW)
        progress = after(progress, [record])
    assert pauses == sorted(set(pauses))


def test_a_defect_counts_as_no_attempt_and_may_have_had_an_effect():
    blocked = e.DefectRecorded("a", "action", "TypeError", attempt=1)
    progress = started(JOURNEY, tried("a"), blocked)
    assert progress.compensation_plan == ("a",)
    assert moved(JOURNEY, progress) == Commit((tried("a", 2),))
    progress = after(progress, [tried("a", 2)])
    record = failed(JOURNEY, progress, LOST, NOW).events[0]
    assert record.retry_at is not None


def test_an_answer_that_a_defect_kept_from_being_recorded_is_not_asked_for_again():
    blocked = e.DefectRecorded(
        "a", "record", "TypeError", attempt=1, answer=msgspec.Raw(b"1"), answered=True
    )
    progress = started(JOURNEY, tried("a"), blocked)
    assert moved(JOURNEY, progress) == Record(JOURNEY.steps[0], 1)


def test_the_deadline_of_a_blocked_saga_does_not_compensate_it():
    blocked = e.DefectRecorded("a", "action", "TypeError", attempt=1)
    progress = started(JOURNEY, tried("a"), blocked, deadline=NOW)
    later = NOW + SECOND
    assert moved(JOURNEY, progress, later) == Commit((tried("a", 2),))


def test_a_compensation_with_a_defect_holds_back_none_of_the_others():
    blocked = e.DefectRecorded("b", "compensation", "TypeError", attempt=1)
    progress = compensating(blocked)
    defective = {"b"}
    [start] = moved(SIMPLE, progress, defective=defective).events
    assert start == e.CompensationAttempted("a")
    progress = after(progress, [start])
    events = compensated(SIMPLE, progress, "a", NOW, defective=defective)
    progress = after(progress, events)
    assert progress.plan == ("b",)
    assert moved(SIMPLE, progress, defective=defective) == Blocked()
    [start] = moved(SIMPLE, progress).events
    assert start == e.CompensationAttempted("b", 2)


# --- by hand --------------------------------------------------------------------------


def stuck(failure):
    progress = compensating(e.StepCompensated("b"))
    return after(progress, failed_compensation(JOURNEY, progress, failure))


def test_a_retry_after_a_proven_failure_gets_a_new_key():
    assert retried_by_hand(stuck(NO), "mia", "bank is back") == (
        e.RetriedByHand("a", "mia", "bank is back", 2),
    )


def test_a_retry_after_a_doubt_keeps_the_key():
    progress = compensating(
        e.StepCompensated("b"), e.CompensationFailed("a", "x", "", 1, "lost", NOW)
    )
    progress = after(progress, failed_compensation(JOURNEY, progress, LOST))
    assert retried_by_hand(progress, "mia", "again")[0].generation == 1


def test_a_retried_step_begins_its_attempts_anew():
    progress = after(stuck(NO), retried_by_hand(stuck(NO), "mia", "again"))
    assert moved(JOURNEY, progress) == Commit((e.CompensationAttempted("a"),))
    assert progress.compensation("a").generation == 2


def test_a_skipped_compensation_counts_as_done():
    progress = stuck(NO)
    events = skipped_by_hand(
        JOURNEY, progress, state_of(JOURNEY), "a", "mia", "paid in cash", NOW
    )
    assert events == (
        e.SkippedByHand("a", "mia", "paid in cash"),
        e.SagaCompensated(),
    )
    assert after(progress, events).status is eb.Status.COMPENSATED


def test_a_skipped_step_lets_the_saga_go_on():
    history = [tried("a"), did("a"), tried("p"), did("p"), tried("r")]
    progress = started(POINTED, *history)
    progress = after(progress, failed(POINTED, progress, NO, NOW).events)
    assert moved(POINTED, progress) == Terminal(eb.Status.STUCK)
    events = skipped_by_hand(
        POINTED, progress, state_of(POINTED), "r", "mia", "by phone", NOW
    )
    assert after(progress, events).status is eb.Status.COMPLETED


def test_a_retried_forward_step_keeps_its_doubt():
    history = [
        *(tried("a"), did("a"), tried("p"), e.StepUnknown("p", "lost"), tried("p", 2)),
        *(e.StepUnknown("p", "lost", attempt=2), e.SagaStuck("p", "?")),
    ]
    progress = started(POINTED, *history)
    [record] = retried_by_hand(progress, "mia", "again")
    assert record.generation == 1
    progress = after(progress, [record])
    assert progress.may_have_happened
    assert moved(POINTED, progress) == Commit((tried("p"),))


@pytest.mark.parametrize("status", [eb.Status.COMPLETED, eb.Status.COMPENSATED])
def test_an_ended_saga_rests(status):
    progress = msgspec.structs.replace(started(JOURNEY), status=status)
    assert moved(JOURNEY, progress) == Terminal(status)
    assert replace(Terminal(status)).status.ended


# --- recorded times -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "is_waited_for"),
    [(0.9, True), (1.9, True), (2.1, False), (3_600, False), (-1, False)],
)
def test_a_recorded_time_is_waited_for_as_long_as_its_policy_allows(
    ahead, is_waited_for
):
    """A time further ahead was recorded by a clock that has been set back since."""
    due = NOW + timedelta(seconds=ahead)
    lost = e.StepUnknown("a", "lost", retry_at=due)
    move = moved(JOURNEY, started(JOURNEY, tried("a"), lost))
    assert isinstance(move, Wait) is is_waited_for
    failed_attempt = e.CompensationFailed("a", "OSError", "gone", 1, "lost", due)
    move = moved(JOURNEY, compensating(e.StepCompensated("b"), failed_attempt))
    assert isinstance(move, Wait) is is_waited_for
