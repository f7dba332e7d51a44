"""A transition that the status graph doesn't have can't be recorded.

The hazard is a saga whose stream tells a story that can't have happened, and a resume
that then does the wrong thing.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

import eventbraid as eb
from eventbraid.saga.machine import _events as e
from eventbraid.saga.machine._fold import evolve, fold

SECOND = timedelta(seconds=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


async def call(context: eb.StepContext[int]) -> str:
    raise NotImplementedError


async def compensate(
    context: eb.StepContext[int], did: eb.StepCompleted[str] | eb.StepInDoubt
) -> None:
    raise NotImplementedError


def outside(name, **options):
    return eb.step(name, call, timeout=SECOND, **options)


SAGA = eb.Saga(
    "s",
    int,
    steps=[
        outside("a").compensated_by(compensate),
        eb.local_step("b", lambda c: None).compensated_by(lambda c: None),
        outside("p", kind=eb.StepKind.PIVOT),
        outside("r", kind=eb.StepKind.RETRIABLE),
    ],
)
BEGIN = e.SagaStarted(
    SAGA.name, 1, SAGA.graph_hash, SAGA.graph, SAGA.state_codec.encode(0)
)
A_DONE = [e.StepStarted("a"), e.StepSucceeded("a")]
COMPENSATING = [*A_DONE, e.CompensationStarted("cancelled", ("a",))]
P_OPEN = [*A_DONE, e.StepSucceeded("b"), e.StepStarted("p")]
P_DONE = [*P_OPEN, e.StepSucceeded("p")]
STUCK = [*COMPENSATING, e.CompensationFailed("a", "x", ""), e.SagaStuck("a", "x")]
ATTEMPTED = [*COMPENSATING, e.CompensationAttempted("a")]
FAILED = [*COMPENSATING, e.CompensationFailed("a", "x", "")]
ENDED = [*COMPENSATING, e.StepCompensated("a"), e.SagaCompensated()]
LOCAL_FAILED = [*A_DONE, e.StepFailed("b", "no", "")]


@pytest.mark.parametrize(
    ("history", "event", "reason"),
    [
        ([], BEGIN, "must be new"),
        ([], e.StepSucceeded("a"), "attempt 1 isn't"),
        ([], e.StepStarted("p"), "next step is 'a'"),
        ([], e.StepStarted("a", 2), "attempt 2 isn't"),
        ([], e.StepUnknown("a", "lost"), "no attempt is in progress"),
        ([], e.SagaCompleted(), "'a' isn't settled"),
        ([], e.SagaCompensated(), "must be compensating"),
        ([], e.StepCompensated("a"), "must be compensating"),
        ([], e.RetriedByHand("a", "m", "n"), "must be stuck"),
        ([], e.StepAnsweredLate("zz"), "no step 'zz'"),
        ([e.StepStarted("a")], e.StepStarted("a", 2), "has no outcome yet"),
        ([e.StepStarted("a")], e.StepStarted("a"), "has no outcome yet"),
        ([e.StepStarted("a")], e.StepStarted("a", alone=True), "has no outcome yet"),
        ([e.StepStarted("a")], e.StepSucceeded("a", 2), "attempt 2 isn't"),
        ([e.StepStarted("a")], e.StepSkipped("a", "x"), "was attempted"),
        ([e.StepStarted("a")], e.SagaStuck("a", "x"), "hasn't failed for good"),
        ([e.StepStarted("a")], e.StepGivenUp("a"), "hasn't failed for good"),
        (LOCAL_FAILED, e.StepGivenUp("b"), "declares no command"),
        (A_DONE, e.StepSucceeded("a"), "next step is 'b'"),
        (
            A_DONE,
            e.CompensationStarted("failed", ("b",)),
            "the plan must be .'a',.",
        ),
        (A_DONE, e.CompensationStarted("failed", ()), "the plan must be .'a',."),
        (P_OPEN, e.CompensationStarted("failed", ("b", "a")), "no return"),
        (A_DONE, e.SagaStuck("a", "x"), "hasn't failed for good"),
        (P_DONE, e.CompensationStarted("cancelled", ("b", "a")), "point of no return"),
        (COMPENSATING, e.StepSucceeded("b"), "must be running"),
        (COMPENSATING, e.CompensationStarted("failed", ("a",)), "must be running"),
        (COMPENSATING, e.StepCompensated("b"), "isn't in its plan"),
        (COMPENSATING, e.StepCompensated("a", 2), "attempt 2 isn't"),
        (COMPENSATING, e.SagaCompensated(), "'a' isn't compensated"),
        (COMPENSATING, e.SagaCompleted(), "must be running"),
        (COMPENSATING, e.CompensationAttempted("b"), "isn't in its plan"),
        (COMPENSATING, e.CompensationAttempted("a", 2), "attempt 2 isn't"),
        (COMPENSATING, e.SagaStuck("a", "x"), "'a' hasn't failed for good"),
        (COMPENSATING, e.RetriedByHand("a", "m", "n"), "must be stuck"),
        (ATTEMPTED, e.CompensationAttempted("a", 2), "has no outcome yet"),
        (ATTEMPTED, e.StepCompensated("a", 2), "attempt 2 isn't"),
        (ATTEMPTED, e.DefectRecorded("a", "then", "x", attempt=2), "attempt 2 isn't"),
        (FAILED, e.CompensationAttempted("a", 2), "failed for good"),
        (FAILED, e.StepCompensated("a", 2), "failed for good"),
        ([], e.DefectRecorded("zz", "then", "TypeError"), "no step 'zz'"),
        ([], e.DefectRecorded("a", "action", "x", attempt=2), "attempt 2 isn't"),
        (ENDED, e.DefectRecorded("a", "then", "x"), "must be compensating or running"),
        (STUCK, e.CompensationStarted("cancelled", ("a",)), "compensated already"),
        (STUCK, e.StepCompensated("a", 2), "must be compensating"),
        (STUCK, e.RetriedByHand("b", "m", "n"), "stuck at 'a', not 'b'"),
        (STUCK, e.SkippedByHand("b", "m", "n"), "stuck at 'a', not 'b'"),
        (STUCK, e.SagaCompensated(), "must be compensating"),
        (ENDED, e.StepStarted("b"), "must be running"),
        (ENDED, e.SagaStuck("a", "x"), "must be compensating or running"),
    ],
)
def test_what_does_not_follow_is_refused(history, event, reason):
    progress = fold("saga-1", [BEGIN, *history])
    with pytest.raises(eb.errors.InvalidTransition, match=reason) as caught:
        evolve(progress, event)
    assert caught.value.saga_id == "saga-1"
    assert caught.value.status == progress.status.value


def test_every_status_refuses_what_it_does_not_have():
    """Exhaustive: only the transitions of this table change the status."""
    status = eb.saga.SagaStatus
    reachable = {
        status.NEW: fold("saga-1", []),
        status.RUNNING: fold("saga-1", [BEGIN]),
        status.COMPENSATING: fold("saga-1", [BEGIN, *COMPENSATING]),
        status.STUCK: fold("saga-1", [BEGIN, *STUCK]),
        status.COMPENSATED: fold("saga-1", [BEGIN, *ENDED]),
    }
    events = [
        BEGIN,
        e.StepStarted("a"),
        e.StepSkipped("a", "x"),
        e.CompensationStarted("cancelled", ()),
        e.StepCompensated("a"),
        e.CompensationAttempted("a"),
        e.DefectRecorded("a", "then", "TypeError"),
        e.RetriedByHand("a", "m", "n"),
        e.SkippedByHand("a", "m", "n"),
        e.SagaCompleted(),
        e.SagaCompensated(),
    ]
    changes = set()
    for (before, progress), event in itertools.product(reachable.items(), events):
        try:
            reached = evolve(progress, event).status
        except eb.errors.InvalidTransition:
            continue
        changes.add((before, type(event).__name__, reached))
    assert changes == {
        (status.NEW, "SagaStarted", status.RUNNING),
        (status.RUNNING, "StepStarted", status.RUNNING),
        (status.RUNNING, "StepSkipped", status.RUNNING),
        (status.RUNNING, "CompensationStarted", status.COMPENSATING),
        (status.RUNNING, "DefectRecorded", status.RUNNING),
        (status.COMPENSATING, "CompensationAttempted", status.COMPENSATING),
        (status.COMPENSATING, "DefectRecorded", status.COMPENSATING),
        (status.COMPENSATING, "StepCompensated", status.COMPENSATING),
        (status.STUCK, "RetriedByHand", status.COMPENSATING),
        (status.STUCK, "SkippedByHand", status.COMPENSATING),
    }


@pytest.mark.parametrize(
    "history", [[], A_DONE, COMPENSATING, STUCK, ENDED, P_DONE], ids=range(6)
)
def test_a_late_answer_changes_no_status(history):
    before = fold("saga-1", [BEGIN, *history])
    late = evolve(before, e.StepAnsweredLate("r"))
    assert late.status is before.status
    assert late.root == before.root
    assert late.plan == before.plan
    assert "r" in late.results


def test_an_attempt_under_way_is_in_doubt_when_the_saga_is_compensated():
    plan = e.CompensationStarted("cancelled", ("a",))
    progress = fold("saga-1", [BEGIN, e.StepStarted("a"), plan])
    attempts = progress.root.attempts
    assert (attempts.in_flight, attempts.doubt) == (False, "lost")


def test_a_late_answer_does_not_replace_the_first_one():
    before = fold("saga-1", [BEGIN, *A_DONE])
    assert evolve(before, e.StepAnsweredLate("a")) == before


def test_folding_changes_nothing_that_was_folded_before():
    before = fold("saga-1", [BEGIN])
    fold("saga-1", [BEGIN, *A_DONE])
    evolve(before, A_DONE[0])
    assert (before.root.attempts.number, before.done, dict(before.results)) == (
        0,
        (),
        {},
    )


@pytest.mark.parametrize(
    ("history", "started"),
    [([], e.StepStarted), (COMPENSATING, e.CompensationAttempted)],
)
def test_an_attempt_that_is_no_longer_alone_is_not_charged_with_a_crash(
    history, started
):
    """As that of a call that waits for another saga."""
    alone = [BEGIN, *history, started("a", alone=True)]
    crash = (
        e.CompensationFailed("a", "crash", "", doubt="crash", retry_at=START)
        if history
        else e.StepUnknown("a", "crash", retry_at=START)
    )

    def charged(events):
        progress = fold("saga-1", events)
        attempts = (progress.compensation("a") if history else progress.root).attempts
        assert attempts.crashes == 1
        return attempts.crashes_alone

    assert charged([*alone, crash]) == 1
    assert charged([*alone, started("a"), crash]) == 0
