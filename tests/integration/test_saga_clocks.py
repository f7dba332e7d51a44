"""Sagas whose process sees the wall clock jump, on real event loops and real waits.

The hazards: a retry that is due in a moment waits as long as the wall clock was set
back; a wall clock that is wrong for a moment compensates each saga that has a deadline.
"""

from __future__ import annotations

import time
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga.running import _clock, _saga_reader
from tests.saga_kit import SECOND, Crash, MortalStore, Receiver, Trip, outside, trip

pytestmark = pytest.mark.anyio

HOUR = 3_600.0
DAY = 24 * HOUR
SOON = 60
"""Seconds: far more than a saga takes, far less than a jump of the wall clock."""
LONGER_THAN_A_JUMP = 2.5
"""Seconds: a clock that is wrong for 0.1 s is not confirmed, on a busy machine neither."""
SHORTLY = eb.RetryPolicy(
    maximum_attempts=3,
    initial_delay=0.05 * SECOND,
    maximum_delay=0.05 * SECOND,
    jitter="none",
)


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def receiver():
    return Receiver()


class Wall:
    """The wall clock of this process, which a test sets."""

    def __init__(self):
        self.shift = 0.0

    def __call__(self):
        return time.time() + self.shift


@pytest.fixture
def wall(monkeypatch):
    monkeypatch.setattr(_clock, "CONFIRMATION", 0.3)
    wall = Wall()
    restart(monkeypatch, wall)
    return wall


def restart(monkeypatch, wall):
    """Replace the process's clock, as a new process would start with one."""
    monkeypatch.setattr(_saga_reader, "PROCESS_CLOCK", _clock.Clock(wall))


def jump_after(wall, what, jump):
    """Set the wall clock as soon as something is recorded of a saga."""

    def watch(progress):
        if progress.what == f"saga.{what}":
            wall.shift = jump

    return watch


async def ended(store, saga, **options):
    async with eb.SagaCoordinator(store, [saga], **options) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        return await handle.result(timeout=SOON * SECOND)


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -3_652 * DAY, 3_652 * DAY])
async def test_a_retry_is_made_in_time_whatever_the_wall_clock_does(
    store, receiver, wall, jump
):
    receiver.plan["pay"] = ["drop", "ok"]
    saga = trip(outside(receiver, "pay", retry=SHORTLY))
    began = time.monotonic()
    end = await ended(store, saga, on_event=jump_after(wall, "step_unknown", jump))
    assert end.outcome is eb.SagaOutcome.COMPLETED
    assert 0.05 <= time.monotonic() - began < SOON


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
async def test_a_compensation_is_retried_in_time_whatever_the_wall_clock_does(
    store, receiver, wall, jump
):
    receiver.plan |= {"compensate pay": ["drop", "ok"], "ship": ["decline"]}
    saga = trip(
        outside(receiver, "pay", compensation_retry=SHORTLY), outside(receiver, "ship")
    )
    watch = jump_after(wall, "compensation_failed", jump)
    began = time.monotonic()
    end = await ended(store, saga, on_event=watch)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert 0.05 <= time.monotonic() - began < SOON


async def test_a_jump_forward_passes_no_deadline(store, receiver, wall, monkeypatch):
    """Neither of the saga that is at work, nor of one that starts meanwhile."""
    monkeypatch.setattr(_clock, "CONFIRMATION", LONGER_THAN_A_JUMP)
    receiver.plan["pay"] = ["drop", "ok"]
    hour = timedelta(hours=1)
    saga = trip(outside(receiver, "pay", retry=SHORTLY), deadline=hour)
    jumped = anyio.Event()

    def watch(progress):
        if progress.what == "saga.step_unknown" and not jumped.is_set():
            wall.shift = DAY
            jumped.set()

    async with eb.SagaCoordinator(store, [saga], on_event=watch) as coordinator:
        handles = [await coordinator.start(saga, Trip("mia"), id="saga-1")]
        await jumped.wait()
        handles.append(await coordinator.start(saga, Trip("ben"), id="saga-2"))
        await anyio.sleep(0.1)
        wall.shift = 0
        for handle in handles:
            end = await handle.result(timeout=SOON * SECOND)
            assert end.outcome is eb.SagaOutcome.COMPLETED


async def test_a_deadline_passes_in_time_after_the_wall_clock_was_set_back(
    store, receiver, wall
):
    receiver.plan["pay"] = ["drop"]
    patient = eb.RetryPolicy(
        maximum_attempts="unlimited",
        initial_delay=0.01 * SECOND,
        maximum_delay=0.01 * SECOND,
    )
    saga = trip(
        outside(receiver, "pay", retry=patient), deadline=timedelta(seconds=0.4)
    )
    began = time.monotonic()
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        wall.shift = -HOUR
        end = await handle.result(timeout=SOON * SECOND)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert 0.4 <= time.monotonic() - began < SOON


async def left_in_a_pause(store, receiver, **options):
    """A saga whose process ends while its second attempt is waited for."""
    receiver.plan["pay"] = ["drop", "ok"]
    saga = trip(outside(receiver, "pay", retry=SHORTLY), **options)
    with pytest.raises(Crash):
        await ended(MortalStore(store, 3), saga)
    return saga


async def resumed(store, saga):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        return await handle.result(timeout=SOON * SECOND)


async def test_a_retry_recorded_by_a_clock_that_was_ahead_is_due_after_a_restart(
    store, receiver, wall, monkeypatch
):
    wall.shift = HOUR
    restart(monkeypatch, wall)
    saga = await left_in_a_pause(store, receiver)
    wall.shift = 0
    restart(monkeypatch, wall)
    began = time.monotonic()
    assert (await resumed(store, saga)).outcome is eb.SagaOutcome.COMPLETED
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("pause", [0.01, 900.0])
async def test_a_deadline_recorded_by_a_clock_that_was_ahead_passes_after_a_restart(
    store, receiver, wall, monkeypatch, pause
):
    """In the time that the declaration allows, also during a long pause."""
    receiver.plan["pay"] = ["drop"]
    patient = eb.RetryPolicy(
        maximum_attempts="unlimited",
        initial_delay=pause * SECOND,
        maximum_delay=pause * SECOND,
        jitter="none",
    )
    # Longer than a busy machine takes for the first attempt.
    deadline = timedelta(seconds=2)
    saga = trip(outside(receiver, "pay", retry=patient), deadline=deadline)
    wall.shift = HOUR
    restart(monkeypatch, wall)
    with pytest.raises(Crash):
        await ended(MortalStore(store, 3), saga)
    wall.shift = 0
    restart(monkeypatch, wall)
    began = time.monotonic()
    end = await resumed(store, saga)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    # It passes in the pause, or during an attempt: then that attempt was the last one.
    assert end.failure in {
        "the saga's deadline has passed",
        "pay: ConnectionError: pay lost",
    }
    assert 2 <= time.monotonic() - began < SOON


async def test_a_process_that_starts_during_a_jump_passes_no_deadline(
    store, receiver, wall, monkeypatch
):
    monkeypatch.setattr(_clock, "CONFIRMATION", LONGER_THAN_A_JUMP)
    saga = await left_in_a_pause(store, receiver, deadline=timedelta(hours=1))
    wall.shift = DAY
    restart(monkeypatch, wall)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        await anyio.sleep(0.1)
        wall.shift = 0
        end = await handle.result(timeout=SOON * SECOND)
    assert end.outcome is eb.SagaOutcome.COMPLETED


async def test_a_deadline_that_passed_while_no_process_ran_is_noticed(
    store, receiver, wall, monkeypatch
):
    saga = await left_in_a_pause(store, receiver, deadline=timedelta(hours=1))
    wall.shift = DAY
    restart(monkeypatch, wall)
    end = await resumed(store, saga)
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert end.failure == "the saga's deadline has passed"
