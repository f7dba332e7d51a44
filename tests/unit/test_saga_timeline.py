"""The timeline tells every record of a saga, for people who weren't there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
import pytest

import eventbraid as eb
from eventbraid.saga.machine import _events as e

DUE = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
SECOND = timedelta(seconds=1)


async def call(context: eb.StepContext[int]) -> str:
    raise NotImplementedError


async def compensate(
    context: eb.StepContext[int], did: eb.StepCompleted[str] | eb.StepInDoubt
) -> None:
    raise NotImplementedError


def outside(name, **options):
    return eb.step(name, call, timeout=SECOND, **options).compensated_by(compensate)


SAGA = eb.Saga(
    "order",
    int,
    version=3,
    steps=[
        outside("check"),
        outside("pay"),
        eb.step("tell", call, timeout=SECOND, otherwise=lambda c, f: None),
        eb.local_step("pack", lambda c: None).compensated_by(lambda c: None),
        outside("ship"),
    ],
)
BEGIN = e.SagaStarted(
    SAGA.name, 3, SAGA.graph_hash, SAGA.graph, SAGA.state_codec.encode(0)
)
RECEIPT = msgspec.Raw(b'{"receipt":7}')
STORY = [
    (BEGIN, "saga started", "order version 3"),
    (e.StepSkipped("check", "not needed"), "skipped", "not needed"),
    (e.StepStarted("pay"), "started", ""),
    (
        e.StepUnknown("pay", "lost", "OSError", "gone", 1, DUE),
        "unknown (lost)",
        "OSError: gone; again at 03:04:05.678",
    ),
    (e.StepStarted("pay", 2), "started", ""),
    (
        e.StepSucceeded("pay", 2, RECEIPT, asked=True),
        "succeeded",
        '{"receipt":7} (asked)',
    ),
    (e.StepStarted("tell"), "started", ""),
    (e.StepFailed("tell", "Gone", "no such person"), "failed", "Gone: no such person"),
    (e.StepGivenUp("tell"), "given up", "another command took its place"),
    (e.StepSucceeded("pack"), "succeeded", ""),
    (e.StepStarted("ship"), "started", ""),
    (
        e.CompensationStarted("cancelled", ("ship", "pack", "pay"), "", "cancelled: x"),
        "compensation started (cancelled)",
        "cancelled: x",
    ),
    (e.StepAnsweredLate("ship", 1, RECEIPT), "answered late", '{"receipt":7}'),
    (
        e.CompensationFailed("ship", "OSError", "gone", 1, "lost", DUE),
        "compensation failed",
        "OSError: gone; again at 03:04:05.678",
    ),
    (e.CompensationFailed("ship", "No", "", 2), "compensation failed", "No"),
    (
        e.DefectRecorded("pack", "compensation", "TypeError", "1 + None", "Traceback"),
        "blocked",
        "compensation raised TypeError: 1 + None",
    ),
    (e.SagaStuck("ship", "can't be compensated"), "stuck", "can't be compensated"),
    (
        e.RetriedByHand("ship", "mia", "called them", 2),
        "retried by hand",
        "mia: called them",
    ),
    (e.CompensationAttempted("ship"), "compensating", ""),
    (e.StepCompensated("ship"), "compensated", ""),
    (e.CompensationFailed("pack", "no", "", 1), "compensation failed", "no"),
    (e.SagaStuck("pack", "it is glued"), "stuck", "it is glued"),
    (e.SkippedByHand("pack", "mia", "by hand"), "skipped by hand", "mia: by hand"),
    (e.StepCompensated("pay"), "compensated", ""),
    (e.SagaCompensated(), "saga compensated", ""),
]


@pytest.fixture
def store():
    with eb.open("memory:") as opened:
        yield opened


def record(store, *events):
    store.append([eb.new_event("saga-1", event) for event in events])


def test_each_record_is_told(store):
    record(store, *(event for event, _, _ in STORY))
    timeline = eb.saga.read_timeline(store, "saga-1")
    told = [(entry.what, entry.detail) for entry in timeline.entries]
    assert told == [(what, detail) for _, what, detail in STORY]
    assert [entry.step for entry in timeline.entries][:4] == ["", "check", "pay", "pay"]
    assert [entry.attempt for entry in timeline.entries][2:6] == [1, 1, 2, 2]
    assert (timeline.saga, timeline.version) == ("order", 3)
    assert timeline.steps == ("check", "pay", "tell", "pack", "ship")
    assert timeline.outcome is eb.SagaOutcome.COMPENSATED
    assert timeline.failure == "cancelled: x"


def test_a_choice_is_told(store):
    choice = eb.saga.when("big", lambda state: state > 0, then=[SAGA.steps[0]])
    saga = eb.Saga("choosing", int, steps=[choice])
    record(
        store,
        e.SagaStarted(
            saga.name, 1, saga.graph_hash, saga.graph, saga.state_codec.encode(0)
        ),
        e.BranchChosen("big", condition=False),
        e.SagaCompleted(),
    )
    entries = eb.saga.read_timeline(store, "saga-1").entries
    assert [(one.what, one.detail) for one in entries][1:] == [
        ("chosen", "big: no"),
        ("saga completed", ""),
    ]


def test_the_items_of_a_step_are_told(store):
    step = SAGA.steps[0]
    saga = eb.Saga("packing", int, steps=[eb.saga.each(lambda _: {"a": 1}, step)])
    record(
        store,
        e.SagaStarted(
            saga.name, 1, saga.graph_hash, saga.graph, saga.state_codec.encode(0)
        ),
        e.ItemsListed(step.name, ("a", "b"), 1),
        e.StepSkipped(f"{step.name}[a]", "it is not needed"),
        e.StepSkipped(f"{step.name}[b]", "it is not needed"),
        e.ItemsCompleted(step.name, ("a", "b")),
        e.SagaCompleted(),
    )
    entries = eb.saga.read_timeline(store, "saga-1").entries
    assert [(one.step, one.what, one.detail) for one in entries][1:] == [
        (step.name, "listed", "2 items"),
        (f"{step.name}[a]", "skipped", "it is not needed"),
        (f"{step.name}[b]", "skipped", "it is not needed"),
        (step.name, "settled", "2 without result"),
        ("", "saga completed", ""),
    ]


def test_waits_and_signals_are_told(store):
    confirmed = eb.saga.Signal("confirmed", int)
    nap = eb.saga.sleep("nap", timedelta(days=1))
    saga = eb.Saga("waiting", int, steps=[eb.saga.wait(confirmed), nap])
    until = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    record(
        store,
        e.SagaStarted(
            saga.name, 1, saga.graph_hash, saga.graph, saga.state_codec.encode(0)
        ),
        e.WaitStarted("wait for confirmed"),
        e.SignalReceived("confirmed", msgspec.Raw(b'"x"')),
        e.SignalRefused("confirmed", 1, "expected an int"),
        e.SignalReceived("confirmed", msgspec.Raw(b"1"), "ann"),
        e.WaitEnded("wait for confirmed", "confirmed", 2),
        e.WaitStarted("nap", until),
        e.WaitEnded("nap"),
        e.SagaCompleted(),
    )
    entries = eb.saga.read_timeline(store, "saga-1").entries
    assert [(one.step, one.what, one.detail) for one in entries][1:] == [
        ("wait for confirmed", "waiting", ""),
        ("", "signal", "confirmed"),
        ("", "signal refused", "confirmed: expected an int"),
        ("", "signal", "confirmed, by ann"),
        ("wait for confirmed", "waited", "confirmed"),
        ("nap", "waiting", "until 2030-01-02T03:04:05+00:00"),
        ("nap", "waited", "the time has come"),
        ("", "saga completed", ""),
    ]


def test_no_kind_of_record_is_left_out():
    told = {type(event) for event, _, _ in STORY}
    told |= {e.SagaCompleted, e.BranchChosen, e.ItemsListed, e.ItemsCompleted}
    told |= {e.WaitStarted, e.WaitEnded, e.SignalReceived, e.SignalRefused}
    assert told == set(get_args(e.SagaEvent))


def test_entries_have_the_time_and_place_of_their_records(store):
    record(store, BEGIN, e.StepStarted("check"))
    [first, second] = eb.saga.read_timeline(store, "saga-1").entries
    recorded = list(store.read_stream("saga-1"))
    assert [first.time, second.time] == [r.recorded_at for r in recorded]
    assert [first.position, second.position] == [1, 2]
    assert [first.type, second.type] == ["saga.started", "saga.step_started"]


def test_a_saga_under_way_has_no_outcome(store):
    record(store, BEGIN)
    timeline = eb.saga.read_timeline(store, "saga-1")
    assert (timeline.status, timeline.outcome) == (eb.saga.SagaStatus.RUNNING, None)


def test_a_stuck_saga_says_why(store):
    record(store, *(event for event, _, _ in STORY[:17]))
    timeline = eb.saga.read_timeline(store, "saga-1")
    assert timeline.outcome is eb.SagaOutcome.STUCK
    assert timeline.failure == "can't be compensated"


@pytest.mark.parametrize(
    ("before", "started"),
    [
        ([], e.StepStarted),
        (
            [
                e.StepStarted("check"),
                e.StepSucceeded("check"),
                e.CompensationStarted("cancelled", ("check",)),
            ],
            e.CompensationAttempted,
        ),
    ],
)
def test_an_attempt_that_is_no_longer_alone_is_reported_as_such(store, before, started):
    record(store, BEGIN, *before, started("check", alone=True), started("check"))
    alone, no_longer = eb.saga.read_timeline(store, "saga-1").entries[-2:]
    assert alone.detail.startswith("alone, because the process ended")
    assert no_longer.detail.startswith("no longer alone, because it waits")


def test_a_compensation_without_detail_tells_its_plan(store):
    record(
        store,
        BEGIN,
        e.StepStarted("check"),
        e.CompensationStarted("unknown", ("check",), "check"),
    )
    [*_, entry] = eb.saga.read_timeline(store, "saga-1").entries
    assert entry.detail == "check"


def test_a_long_result_is_shortened(store):
    long = msgspec.Raw(msgspec.json.encode("x" * 500))
    record(store, BEGIN, e.StepStarted("check"), e.StepSucceeded("check", 1, long))
    [*_, entry] = eb.saga.read_timeline(store, "saga-1").entries
    assert len(entry.detail) == 120
    assert entry.detail.endswith("…")


@pytest.mark.parametrize("taken", [False, True])
def test_what_is_no_saga_is_not_found(store, taken):
    if taken:
        store.append([("saga-1", "something.else", b"{}")])
    with pytest.raises(eb.errors.SagaNotFound) as caught:
        eb.saga.read_timeline(store, "saga-1")
    assert caught.value.saga_id == "saga-1"
