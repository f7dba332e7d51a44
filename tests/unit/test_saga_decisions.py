"""A decision about a saga is a function from values to values: no store, no clock.

The hazards: an attempt that may have happened and isn't compensated; a compensation in
the wrong order; a step after the pivot that compensates the saga; a state that differs
from the one that the next process folds.
"""

from __future__ import annotations

from dataclasses import replace as replace_field
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

import eventbraid as eb
from eventbraid.saga._defect_classification import Defect
from eventbraid.saga.machine import _events as e
from eventbraid.saga.machine._compensation_plan import compensation_plan
from eventbraid.saga.machine._decider import decide, decide_without_declaration
from eventbraid.saga.machine._fold import fold, fold_onto
from eventbraid.saga.machine._next_action import (
    Blocked,
    Call,
    Compensate,
    Execute,
    Record,
    Terminal,
    Wait,
    next_action,
)
from eventbraid.saga.machine._outcomes import (
    AttemptBegun,
    CancelRequest,
    CompensationFailure,
    CompensationSuccess,
    Crash,
    CutOff,
    Failure,
    LateAnswer,
    NoLongerAlone,
    Proceed,
    RefusedSuccess,
    RetryRequest,
    SkipRequest,
    Start,
    Success,
)
from eventbraid.saga.machine._progress import Progress
from eventbraid.saga.machine._state import SagaState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STEADY = eb.RetryPolicy(maximum_attempts=2, initial_delay=SECOND, jitter="none")
LOST = eb.saga.StepFailure("OSError", "gone", doubt="lost")
NO = eb.saga.StepFailure("Declined", "no")
RESULT = msgspec.Raw(b'"r"')


async def call(context: eb.StepContext[int]) -> str:
    raise NotImplementedError


async def compensate(
    context: eb.StepContext[int], did: eb.StepCompleted[str] | eb.StepInDoubt
) -> None:
    raise NotImplementedError


def outside(name, **options):
    options.setdefault("retry", STEADY)
    step = eb.step(name, call, timeout=SECOND, **options)
    if options.get("kind") is not None or "otherwise" in options:
        return step
    return step.compensated_by(compensate, retry=STEADY)


def inside(name, **options):
    step = eb.local_step(name, lambda c: None, **options)
    if options.get("kind") is not None:
        return step
    return step.compensated_by(
        lambda c: None, retry=eb.RetryPolicy(maximum_attempts=2, jitter="none")
    )


PIVOT = {"kind": eb.StepKind.PIVOT}
RETRIABLE = {"kind": eb.StepKind.RETRIABLE}
JOURNEY = eb.Saga("journey", int, steps=[outside("a"), inside("b"), outside("c")])
SIMPLE = eb.Saga(
    "simple",
    int,
    steps=[
        outside("a"),
        eb.local_step("b", lambda c: None).compensated_by(
            lambda c: None, retry=eb.RetryPolicy(maximum_attempts=1)
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
    return e.StepSucceeded(step, attempt, RESULT)


def tried(step, attempt=1):
    return e.StepStarted(step, attempt)


def state_of(saga, state=0):
    return saga.state_codec.record(state)


NEXT = "?"


def placed(outcome, progress):
    """Return an outcome whose step `NEXT` is replaced by the step that is next."""
    if isinstance(outcome, RefusedSuccess):
        return msgspec.structs.replace(
            outcome, success=placed(outcome.success, progress)
        )
    if getattr(outcome, "step", None) == NEXT:
        return msgspec.structs.replace(outcome, step=progress.step)
    return outcome


def decided(saga, progress, outcome, state=0):
    """Return the records of a decision, whose state is what a replay of them yields."""
    before = SagaState(progress, state_of(saga, state))
    events, reached = decide(saga, before, placed(outcome, progress), NOW)
    assert reached.progress == fold_onto(progress, events)
    return events


def requested(progress, request):
    events, reached = decide_without_declaration(progress, request)
    assert reached == fold_onto(progress, events)
    return events


def moved(saga, progress, now=NOW, defective=()):
    return next_action(saga, SagaState(progress, state_of(saga)), now, defective)


def records_due(saga, progress, now=NOW, defective=()):
    """Return the records that are committed before anything else is done."""
    action = moved(saga, progress, now, defective)
    assert action.state.progress == fold_onto(progress, action.events)
    return action.events


# --- forward --------------------------------------------------------------------------


def test_an_external_step_is_started_before_it_is_called():
    progress = started(JOURNEY)
    assert records_due(JOURNEY, progress) == (tried("a"),)
    progress = fold_onto(progress, [tried("a")])
    assert moved(JOURNEY, progress) == Call(JOURNEY.steps[0], 1)


def test_a_local_step_has_no_record_before_its_command():
    progress = started(JOURNEY, tried("a"), did("a"))
    assert moved(JOURNEY, progress) == Execute(JOURNEY.steps[1], 1)


def test_a_success_starts_the_next_external_step_in_the_same_commit():
    progress = started(JOURNEY, tried("a"), did("a"))
    assert decided(JOURNEY, progress, Success(NEXT, RESULT)) == (
        did("b"),
        tried("c"),
    )


def test_the_last_success_completes_the_saga_in_the_same_commit():
    progress = started(JOURNEY, tried("a"), did("a"), did("b"), tried("c"))
    events = decided(JOURNEY, progress, Success(NEXT, RESULT))
    assert events == (did("c"), e.SagaCompleted())
    assert moved(JOURNEY, fold_onto(progress, events)) == Terminal(
        eb.saga.SagaStatus.COMPLETED
    )


def test_steps_that_are_not_needed_are_skipped_with_their_reason():
    free = {"skip_if": lambda cents: "nothing to pay" if cents == 0 else None}
    saga = eb.Saga("s", int, steps=[inside("a"), outside("b", **free), outside("c")])
    progress = started(saga)
    assert decided(saga, progress, Success(NEXT, RESULT)) == (
        did("a"),
        e.StepSkipped("b", "nothing to pay"),
        tried("c"),
    )
    assert decided(saga, progress, Success(NEXT, RESULT), 5) == (
        did("a"),
        tried("b"),
    )


def test_a_saga_whose_steps_are_all_skipped_completes():
    saga = eb.Saga("s", int, steps=[outside("a", skip_if=lambda state: "no")])
    assert records_due(saga, started(saga)) == (
        e.StepSkipped("a", "no"),
        e.SagaCompleted(),
    )


# --- failures -------------------------------------------------------------------------


def test_a_proven_failure_is_not_retried_and_not_compensated():
    progress = started(JOURNEY, tried("a"), did("a"), did("b"), tried("c"))
    events = decided(JOURNEY, progress, Failure(NEXT, NO))
    assert events == (
        e.StepFailed("c", "Declined", "no"),
        e.CompensationStarted("failed", ("b", "a"), "c"),
        e.CompensationAttempted("b"),
    )


def test_a_failure_with_nothing_to_compensate_ends_the_saga_at_once():
    events = decided(JOURNEY, started(JOURNEY, tried("a")), Failure(NEXT, NO))
    assert events == (
        e.StepFailed("a", "Declined", "no"),
        e.CompensationStarted("failed", (), "a"),
        e.SagaCompensated(),
    )


def test_an_unknown_outcome_is_retried_after_a_delay():
    progress = started(JOURNEY, tried("a"))
    events = decided(JOURNEY, progress, Failure(NEXT, LOST))
    due = NOW + SECOND
    assert events == (e.StepUnknown("a", "lost", "OSError", "gone", 1, due),)
    progress = fold_onto(progress, events)
    assert moved(JOURNEY, progress) == Wait(due)
    assert records_due(JOURNEY, progress, due) == (tried("a", 2),)


def test_an_unknown_outcome_is_compensated_when_attempts_end():
    progress = started(JOURNEY, tried("a"), e.StepUnknown("a", "lost"), tried("a", 2))
    events = decided(JOURNEY, progress, Failure(NEXT, LOST))
    assert events[1] == e.CompensationStarted("unknown", ("a",), "a")


def test_a_late_no_does_not_prove_that_an_earlier_attempt_failed():
    progress = started(JOURNEY, tried("a"), e.StepUnknown("a", "lost"), tried("a", 2))
    events = decided(JOURNEY, progress, Failure(NEXT, NO))
    assert events[1] == e.CompensationStarted("unknown", ("a",), "a")


def test_a_rejected_command_is_not_retried():
    progress = started(JOURNEY, tried("a"), did("a"))
    events = decided(JOURNEY, progress, Failure(NEXT, NO))
    assert events == (
        e.StepFailed("b", "Declined", "no"),
        e.CompensationStarted("failed", ("a",), "b"),
        e.CompensationAttempted("a"),
    )


def test_a_retriable_local_step_is_retried_when_rejected():
    saga = eb.Saga(
        "s", int, steps=[inside("r", retry=eb.RetryPolicy(jitter="none"), **RETRIABLE)]
    )
    events = decided(saga, started(saga), Failure(NEXT, NO))
    [record] = events
    assert record.retry_at == NOW + timedelta(milliseconds=100)
    progress = fold_onto(started(saga), events)
    assert moved(saga, progress, record.retry_at) == Execute(saga.steps[0], 2)


def test_a_replaceable_step_is_given_up_and_the_saga_goes_on():
    saga = eb.Saga("s", int, steps=[outside("tell", otherwise=lambda c, f: None)])
    progress = started(saga, tried("tell"))
    events = decided(saga, progress, Failure(NEXT, NO))
    assert events == (
        e.StepFailed("tell", "Declined", "no"),
        e.StepGivenUp("tell"),
        e.SagaCompleted(),
    )


def test_a_crash_during_a_call_leaves_its_outcome_unknown():
    progress = started(JOURNEY, tried("a"))
    assert decided(JOURNEY, started(JOURNEY), Crash()) == ()
    settled = fold_onto(progress, [e.StepUnknown("a", "lost")])
    assert decided(JOURNEY, settled, Crash()) == ()
    [record] = decided(JOURNEY, progress, Crash(0))
    assert record.why == "crash"
    assert record.retry_at == NOW


def test_a_step_that_happened_but_whose_command_was_refused_is_compensated_too():
    progress = started(JOURNEY, tried("a"))
    events = decided(JOURNEY, progress, RefusedSuccess(Success(NEXT, RESULT), NO))
    assert events == (
        did("a"),
        e.CompensationStarted("failed", ("a",), "a", "a: Declined: no"),
        e.CompensationAttempted("a"),
    )


# --- the point of no return -----------------------------------------------------------


def test_a_proven_failure_of_the_pivot_compensates_the_saga():
    progress = started(POINTED, tried("a"), did("a"), tried("p"))
    events = decided(POINTED, progress, Failure(NEXT, NO))
    assert events[1] == e.CompensationStarted("failed", ("a",), "p")


def test_a_pivot_whose_outcome_stays_unknown_waits_for_a_person():
    progress = started(
        POINTED,
        tried("a"),
        did("a"),
        tried("p"),
        e.StepUnknown("p", "lost"),
        tried("p", 2),
    )
    events = decided(POINTED, progress, Failure(NEXT, LOST))
    assert events[1] == e.SagaStuck("p", "p: OSError: gone")


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
    events = decided(saga, started(saga, *history), Failure(NEXT, LOST))
    assert events[1] == e.CompensationStarted("unknown", ("p", "a"), "p")


def test_a_retriable_step_that_gives_up_waits_for_a_person():
    progress = started(POINTED, tried("a"), did("a"), tried("p"), did("p"), tried("r"))
    assert decided(POINTED, progress, Failure(NEXT, NO)) == (
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
    events = decided(POINTED, progress, Failure(NEXT, LOST))
    [record] = events
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
    assert records_due(saga, progress) == (tried("tell"),)


# --- backward -------------------------------------------------------------------------


def compensating(*events):
    return started(
        JOURNEY,
        *(tried("a"), did("a"), did("b"), tried("c")),
        *decided(
            JOURNEY,
            started(JOURNEY, tried("a"), did("a"), did("b"), tried("c")),
            Failure(NEXT, NO),
        ),
        *events,
    )


def test_steps_are_compensated_in_the_reverse_of_their_completion():
    progress = compensating()
    assert moved(JOURNEY, progress) == Compensate(JOURNEY.steps[1], 1)
    events = decided(JOURNEY, progress, CompensationSuccess("b"))
    assert events == (e.StepCompensated("b"), e.CompensationAttempted("a"))
    progress = fold_onto(progress, events)
    assert moved(JOURNEY, progress) == Compensate(JOURNEY.steps[0], 1)
    assert decided(JOURNEY, progress, CompensationSuccess("a")) == (
        e.StepCompensated("a"),
        e.SagaCompensated(),
    )


def test_an_attempt_to_compensate_is_recorded_before_it_is_made():
    progress = compensating(e.StepCompensated("b"))
    attempt = e.CompensationAttempted("a")
    assert records_due(JOURNEY, progress) == (attempt,)
    progress = fold_onto(progress, [attempt])
    assert moved(JOURNEY, progress) == Compensate(JOURNEY.steps[0], 1)


def test_a_failed_compensation_is_retried_and_then_waits_for_a_person():
    progress = compensating(e.StepCompensated("b"))
    [record] = decided(JOURNEY, progress, CompensationFailure("a", LOST))
    assert record.retry_at == NOW + SECOND
    progress = fold_onto(progress, [record])
    assert moved(JOURNEY, progress) == Wait(NOW + SECOND)
    again = e.CompensationAttempted("a", 2)
    assert records_due(JOURNEY, progress, NOW + SECOND) == (again,)
    record, stuck = decided(
        JOURNEY, fold_onto(progress, [again]), CompensationFailure("a", LOST)
    )
    assert record.attempt == 2
    assert stuck == e.SagaStuck("a", "can't be compensated: a: OSError: gone")


def test_a_receiver_that_refuses_to_compensate_is_not_asked_again():
    progress = compensating(e.StepCompensated("b"))
    record, stuck = decided(JOURNEY, progress, CompensationFailure("a", NO))
    assert record.retry_at is None
    assert stuck.step == "a"


def test_a_rejected_local_compensation_is_retried():
    [record] = decided(JOURNEY, compensating(), CompensationFailure("b", NO))
    assert record.retry_at is not None


def test_a_stuck_compensation_holds_back_none_of_the_others():
    progress = compensating()
    record, follow = decided(SIMPLE, progress, CompensationFailure("b", NO))
    assert record.retry_at is None
    assert follow == e.CompensationAttempted("a")
    progress = fold_onto(progress, [record, follow])
    assert progress.stuck_steps == ("b",)
    events = decided(SIMPLE, progress, CompensationSuccess("a"))
    assert events[1] == e.SagaStuck("b", "can't be compensated: b: Declined: no")
    progress = fold_onto(progress, events)
    assert progress.plan == ("b",)
    assert moved(SIMPLE, progress) == Terminal(eb.saga.SagaStatus.STUCK)


def test_a_strict_order_stops_at_a_stuck_compensation():
    progress = compensating()
    _, stuck = decided(STRICT, progress, CompensationFailure("b", NO))
    assert stuck == e.SagaStuck("b", "can't be compensated: b: Declined: no")


def test_several_stuck_compensations_are_retried_together_and_skipped_one_by_one():
    progress = compensating()
    for step in ("b", "a"):
        events = decided(SIMPLE, progress, CompensationFailure(step, NO))
        progress = fold_onto(progress, events)
    assert progress.status is eb.saga.SagaStatus.STUCK
    assert progress.current == "b"
    retried = requested(progress, RetryRequest("mia", "again"))
    assert [event.step for event in retried] == ["b", "a"]
    assert fold_onto(progress, retried).open_steps == ("b", "a")
    skip = decided(SIMPLE, progress, SkipRequest("b", "mia", "by phone"))
    progress = fold_onto(progress, skip)
    assert progress.status is eb.saga.SagaStatus.STUCK
    assert progress.current == "a"
    assert progress.stuck_for == "can't be compensated: a: Declined: no"
    skip = decided(SIMPLE, progress, SkipRequest("a", "mia", "by phone"))
    assert fold_onto(progress, skip).status is eb.saga.SagaStatus.COMPENSATED


def test_cancelling_compensates_what_may_have_happened():
    progress = started(JOURNEY, tried("a"))
    assert requested(progress, CancelRequest("changed my mind")) == (
        e.CompensationStarted("cancelled", ("a",), "", "cancelled: changed my mind"),
    )


# --- crashes and defects --------------------------------------------------------------


def crash_in(saga, progress):
    return fold_onto(progress, decided(saga, progress, Crash(0)))


def test_a_crash_counts_against_no_number_of_attempts():
    progress = started(JOURNEY, tried("a"))
    progress = crash_in(JOURNEY, progress)
    progress = fold_onto(
        progress, [tried("a", 2), e.StepUnknown("a", "lost", attempt=2)]
    )
    progress = fold_onto(progress, [tried("a", 3)])
    record = decided(JOURNEY, progress, Failure(NEXT, LOST))[0]
    assert record.retry_at is None  # Two of its attempts have failed, as `retry` says.


def test_after_two_crashes_a_call_is_made_alone():
    progress = crash_in(JOURNEY, started(JOURNEY, tried("a")))
    assert records_due(JOURNEY, progress) == (tried("a", 2),)
    progress = crash_in(JOURNEY, fold_onto(progress, [tried("a", 2)]))
    assert moved(JOURNEY, progress) == Call(
        JOURNEY.steps[0], 3, alone=True, is_recorded=False
    )


def test_crashes_beside_other_calls_never_leave_a_saga_stuck():
    progress = started(JOURNEY)
    for attempt in range(1, 20):
        progress = crash_in(JOURNEY, fold_onto(progress, [tried("a", attempt)]))
        assert progress.status is eb.saga.SagaStatus.RUNNING


def test_a_saga_whose_process_ends_in_its_own_call_becomes_stuck():
    progress = started(JOURNEY)
    for attempt in (1, 2, 3, 4):
        start = e.StepStarted("a", attempt, alone=attempt > 2)
        progress = crash_in(JOURNEY, fold_onto(progress, [start]))
    assert progress.status is eb.saga.SagaStatus.STUCK
    assert "the process ended 2 times during the call" in progress.stuck_for


def test_a_compensation_whose_process_ends_in_its_own_call_becomes_stuck():
    progress = compensating(e.StepCompensated("b"))
    for attempt in (1, 2, 3, 4):
        start = e.CompensationAttempted("a", attempt, alone=attempt > 2)
        progress = crash_in(JOURNEY, fold_onto(progress, [start]))
    assert progress.stuck_steps == ("a",)
    move = moved(JOURNEY, progress)
    assert "the process ended 2 times during the call" in move.events[0].reason


def test_the_attempt_of_a_local_step_that_crashed_has_had_no_effect():
    progress = started(JOURNEY, tried("a"), did("a"), tried("b"))
    assert compensation_plan(progress) == ("a",)
    assert moved(JOURNEY, progress) == Execute(JOURNEY.steps[1], 1)
    progress = crash_in(JOURNEY, progress)
    assert compensation_plan(progress) == ("a",)
    assert records_due(JOURNEY, progress) == (tried("b", 2),)
    progress = fold_onto(progress, [tried("b", 2)])
    events = decided(JOURNEY, progress, Success(NEXT, RESULT))
    assert fold_onto(progress, events).step == "c"


def test_a_local_step_whose_process_ends_each_time_becomes_stuck():
    progress = started(JOURNEY, tried("a"), did("a"))
    for attempt in (1, 2, 3, 4):
        start = e.StepStarted("b", attempt, alone=attempt > 2)
        progress = crash_in(JOURNEY, fold_onto(progress, [start]))
    assert progress.status is eb.saga.SagaStatus.STUCK
    [retried] = requested(progress, RetryRequest("mia", "mended"))
    assert moved(JOURNEY, fold_onto(progress, [retried])) == Execute(
        JOURNEY.steps[1], 1
    )


def test_a_coordinator_that_is_ended_during_a_call_is_not_charged_to_it():
    progress = started(JOURNEY)
    for attempt in range(1, 20):
        start = e.StepStarted("a", attempt, alone=attempt > 2)
        ended = e.StepUnknown("a", "crash", attempt=attempt, cancelled=True)
        progress = fold_onto(progress, [start, ended])
    assert progress.status is eb.saga.SagaStatus.RUNNING
    assert progress.root.attempts.crashes_alone == 0


def test_an_outcome_ends_a_row_of_crashes():
    progress = crash_in(JOURNEY, started(JOURNEY, tried("a")))
    progress = crash_in(JOURNEY, fold_onto(progress, [tried("a", 2)]))
    lost = e.StepUnknown("a", "lost", attempt=3)
    progress = fold_onto(progress, [tried("a", 3), lost])
    assert (
        progress.root.attempts.crashes,
        progress.root.attempts.crashes_alone,
    ) == (0, 0)


def test_the_delay_after_crashes_grows():
    progress = started(JOURNEY)
    pauses = []
    for attempt in range(1, 5):
        progress = fold_onto(progress, [tried("a", attempt)])
        [record] = decided(JOURNEY, progress, Crash())
        pauses.append(record.retry_at - NOW)
        progress = fold_onto(progress, [record])
    assert pauses == sorted(set(pauses))


def test_a_defect_counts_as_no_attempt_and_may_have_had_an_effect():
    blocked = e.DefectRecorded("a", "action", "TypeError", attempt=1)
    progress = started(JOURNEY, tried("a"), blocked)
    assert compensation_plan(progress) == ("a",)
    assert records_due(JOURNEY, progress) == (tried("a", 2),)
    progress = fold_onto(progress, [tried("a", 2)])
    record = decided(JOURNEY, progress, Failure(NEXT, LOST))[0]
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
    assert records_due(JOURNEY, progress, later) == (tried("a", 2),)


def test_a_compensation_with_a_defect_holds_back_none_of_the_others():
    blocked = e.DefectRecorded("b", "compensation", "TypeError", attempt=1)
    progress = compensating(blocked)
    defective = {"b"}
    [start] = moved(SIMPLE, progress, defective=defective).events
    assert start == e.CompensationAttempted("a")
    progress = fold_onto(progress, [start])
    events = decided(SIMPLE, progress, CompensationSuccess("a", defective))
    progress = fold_onto(progress, events)
    assert progress.plan == ("b",)
    assert moved(SIMPLE, progress, defective=defective) == Blocked()
    [start] = moved(SIMPLE, progress).events
    assert start == e.CompensationAttempted("b", 2)


# --- by hand --------------------------------------------------------------------------


def stuck(failure):
    progress = compensating(e.StepCompensated("b"))
    return fold_onto(
        progress, decided(JOURNEY, progress, CompensationFailure("a", failure))
    )


def test_a_retry_after_a_proven_failure_gets_a_new_key():
    assert requested(stuck(NO), RetryRequest("mia", "bank is back")) == (
        e.RetriedByHand("a", "mia", "bank is back", 2),
    )


def test_a_retry_after_a_doubt_keeps_the_key():
    progress = compensating(
        e.StepCompensated("b"), e.CompensationFailed("a", "x", "", 1, "lost", NOW)
    )
    progress = fold_onto(
        progress, decided(JOURNEY, progress, CompensationFailure("a", LOST))
    )
    assert requested(progress, RetryRequest("mia", "again"))[0].generation == 1


def test_a_retried_step_begins_its_attempts_anew():
    progress = fold_onto(stuck(NO), requested(stuck(NO), RetryRequest("mia", "again")))
    assert records_due(JOURNEY, progress) == (e.CompensationAttempted("a"),)
    assert progress.compensation("a").generation == 2


def test_a_skipped_compensation_counts_as_done():
    progress = stuck(NO)
    events = decided(JOURNEY, progress, SkipRequest("a", "mia", "paid in cash"))
    assert events == (
        e.SkippedByHand("a", "mia", "paid in cash"),
        e.SagaCompensated(),
    )
    assert fold_onto(progress, events).status is eb.saga.SagaStatus.COMPENSATED


def test_a_skipped_step_lets_the_saga_go_on():
    history = [tried("a"), did("a"), tried("p"), did("p"), tried("r")]
    progress = started(POINTED, *history)
    progress = fold_onto(progress, decided(POINTED, progress, Failure(NEXT, NO)))
    assert moved(POINTED, progress) == Terminal(eb.saga.SagaStatus.STUCK)
    events = decided(POINTED, progress, SkipRequest("r", "mia", "by phone"))
    assert fold_onto(progress, events).status is eb.saga.SagaStatus.COMPLETED


def test_a_retried_forward_step_keeps_its_doubt():
    history = [
        *(tried("a"), did("a"), tried("p"), e.StepUnknown("p", "lost"), tried("p", 2)),
        *(e.StepUnknown("p", "lost", attempt=2), e.SagaStuck("p", "?")),
    ]
    progress = started(POINTED, *history)
    [record] = requested(progress, RetryRequest("mia", "again"))
    assert record.generation == 1
    progress = fold_onto(progress, [record])
    assert progress.doubtful == (progress.step,)
    assert records_due(POINTED, progress) == (tried("p"),)


@pytest.mark.parametrize(
    "status", [eb.saga.SagaStatus.COMPLETED, eb.saga.SagaStatus.COMPENSATED]
)
def test_an_ended_saga_rests(status):
    progress = msgspec.structs.replace(started(JOURNEY), status=status)
    assert moved(JOURNEY, progress) == Terminal(status)
    assert replace_field(Terminal(status)).status.ended


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


# --- the state after a decision -------------------------------------------------------


def test_a_start_records_the_input_and_begins_the_first_step():
    state = SagaState(Progress("saga-1"), state_of(JOURNEY, 7))
    events, reached = decide(JOURNEY, state, Start(NOW), NOW - SECOND)
    started, first = events
    assert (started.saga, started.graph_hash) == ("journey", JOURNEY.graph_hash)
    assert (bytes(started.input), started.deadline) == (b"7", NOW)
    assert first == tried("a")
    assert reached.progress == fold("saga-1", events)


def test_a_decision_without_a_record_leaves_the_state_as_it_was():
    progress = started(JOURNEY, tried("a"))
    state = SagaState(progress, state_of(JOURNEY))
    events, reached = decide(JOURNEY, state, Proceed(), NOW)
    assert events == ()
    assert reached.progress is progress
    assert reached.data is state.data


def test_the_data_after_a_success_decide_which_step_is_next():
    free = {"skip_if": lambda cents: "nothing to pay" if cents == 0 else None}
    saga = eb.Saga("s", int, steps=[outside("a"), outside("b", **free)])
    progress = started(saga, tried("a"))
    paid = state_of(saga, 0)
    before = SagaState(progress, state_of(saga, 5))
    events, reached = decide(saga, before, Success("a", RESULT, data=paid), NOW)
    assert events[1:] == (e.StepSkipped("b", "nothing to pay"), e.SagaCompleted())
    assert reached.data is paid


def test_a_success_that_waits_for_its_data_records_nothing_else():
    progress = started(JOURNEY, tried("a"), did("a"))
    assert decided(JOURNEY, progress, Success(NEXT, proceeds=False)) == (
        e.StepSucceeded("b"),
    )


def test_a_text_that_is_too_long_is_recorded_as_it_is_folded():
    progress = started(POINTED, tried("a"), did("a"), tried("p"), did("p"), tried("r"))
    record, stuck = decided(
        POINTED, progress, Failure(NEXT, eb.saga.StepFailure("x", "é" * 9_000))
    )
    assert len(record.message) < 5_000
    assert len(stuck.reason) < 5_000


def test_a_doubt_that_the_receiver_resolved_is_recorded_before_the_success():
    progress = started(JOURNEY, tried("a"))
    success = Success(NEXT, RESULT, doubted=LOST, asked=True)
    assert decided(JOURNEY, progress, success) == (
        e.StepUnknown("a", "lost", "OSError", "gone"),
        e.StepSucceeded("a", 1, RESULT, asked=True),
    )


def test_a_late_answer_is_recorded_under_the_attempt():
    progress = started(JOURNEY, tried("a"), e.StepUnknown("a", "lost"), tried("a", 2))
    late = LateAnswer("a", RESULT)
    assert decided(JOURNEY, progress, late) == (e.StepAnsweredLate("a", 2, RESULT),)


# --- skipped steps whose function raises ----------------------------------------------


def broken(state):
    raise TypeError(state)


BROKEN = eb.Saga(
    "broken",
    int,
    steps=[
        inside("a"),
        outside("b", skip_if=lambda state: "no"),
        outside("c", skip_if=broken),
    ],
)


def test_a_defect_in_what_follows_holds_back_no_success():
    assert decided(BROKEN, started(BROKEN), Success(NEXT, RESULT)) == (did("a"),)


def test_a_defect_in_what_is_due_is_raised_and_leaves_no_record():
    state = SagaState(started(BROKEN, did("a")), state_of(BROKEN))
    with pytest.raises(Defect) as caught:
        decide(BROKEN, state, Proceed(), NOW)
    assert (caught.value.step, caught.value.where) == ("c", "skip_if")


def test_an_interruption_in_what_follows_is_passed_on():
    def interrupt(state):
        raise KeyboardInterrupt

    saga = eb.Saga("s", int, steps=[inside("a"), outside("b", skip_if=interrupt)])
    with pytest.raises(KeyboardInterrupt):
        decided(saga, started(saga), Success(NEXT, RESULT))


# --- calls that are made alone --------------------------------------------------------


@pytest.mark.parametrize("alone", [True, False])
def test_the_start_of_an_attempt_says_whether_it_is_alone(alone):
    begun = AttemptBegun("a", alone)
    step = started(JOURNEY)
    assert decided(JOURNEY, step, begun) == (e.StepStarted("a", 1, alone),)
    back = compensating(e.StepCompensated("b"))
    assert decided(JOURNEY, back, begun) == (e.CompensationAttempted("a", 1, alone),)


def test_a_call_that_waits_for_a_saga_is_no_longer_alone():
    step = started(JOURNEY, e.StepStarted("a", alone=True))
    assert decided(JOURNEY, step, NoLongerAlone()) == (tried("a"),)
    attempt = e.CompensationAttempted("a", alone=True)
    back = compensating(e.StepCompensated("b"), attempt)
    assert decided(JOURNEY, back, NoLongerAlone()) == (e.CompensationAttempted("a"),)


def test_a_call_that_is_not_alone_needs_no_record_of_it():
    assert decided(JOURNEY, started(JOURNEY, tried("a")), NoLongerAlone()) == ()
    assert decided(JOURNEY, compensating(), NoLongerAlone()) == ()


def test_a_call_that_is_cut_off_is_due_again_at_once():
    progress = started(JOURNEY, e.StepStarted("a", alone=True))
    [record] = decided(JOURNEY, progress, CutOff(NEXT))
    assert (record.why, record.cancelled, record.retry_at) == ("crash", True, NOW)
    progress = fold_onto(progress, [record])
    assert progress.root.attempts.crashes_alone == 0
    assert records_due(JOURNEY, progress) == (tried("a", 2),)
