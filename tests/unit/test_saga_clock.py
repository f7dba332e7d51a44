"""The time of a saga advances as the monotonic clock does, whatever the wall clock does.

The hazard: a wall clock that is wrong for half a second, or is set for good, decides
that deadlines have passed or that retries aren't due for hours.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from eventbraid.saga.machine._due_times import CLOCK_TOLERANCE_SECONDS
from eventbraid.saga.running._clock import CONFIRMATION, Clock, SagaClock

DAY = 86_400.0
START = datetime(2026, 1, 1, tzinfo=UTC)


class Time:
    """A wall clock and a monotonic clock that a test moves."""

    def __init__(self):
        self.elapsed = 1_000.0
        self.shift = 0.0

    def wall(self):
        return START.timestamp() + self.elapsed + self.shift

    def monotonic(self):
        return self.elapsed

    def clock(self):
        return Clock(self.wall, self.monotonic)

    def true(self):
        """The time of day of a clock that was never set."""
        return START + timedelta(seconds=self.elapsed)

    def pass_by(self, clock, seconds):
        """Let time pass, with a look at the clock each half second."""
        for _ in range(int(seconds * 2)):
            self.elapsed += 0.5
            clock.offset()


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def confirmed(time):
    """A clock that has agreed with the wall clock for long enough."""
    clock = time.clock()
    time.pass_by(clock, CONFIRMATION)
    assert clock.seconds_to_confirm() == 0
    return clock


def is_at(now, expected):
    return abs(now - expected) < timedelta(seconds=CLOCK_TOLERANCE_SECONDS)


@pytest.mark.parametrize("jump", [DAY, -3_600.0, 3_652 * DAY])
@pytest.mark.parametrize("is_new", [False, True])
def test_a_saga_keeps_its_time_when_the_wall_clock_jumps(time, confirmed, jump, is_new):
    saga = SagaClock(confirmed, is_new=is_new)
    saga.now()
    time.shift = jump
    for _ in range(10):
        time.pass_by(confirmed, CONFIRMATION)
        assert is_at(saga.now(), time.true())


def test_a_saga_seen_during_a_short_jump_has_the_time_from_before(time, confirmed):
    time.shift = DAY
    seen = SagaClock(confirmed), SagaClock(confirmed, is_new=True)
    assert all(is_at(saga.now(), time.true()) for saga in seen)
    time.pass_by(confirmed, 0.5)
    time.shift = 0
    time.pass_by(confirmed, CONFIRMATION)
    assert all(is_at(saga.now(), time.true()) for saga in seen)


def test_a_saga_seen_after_a_lasting_jump_follows_it(time, confirmed):
    time.shift = DAY
    confirmed.offset()
    time.pass_by(confirmed, CONFIRMATION + 0.5)
    saga = SagaClock(confirmed)
    assert is_at(saga.now(), time.true() + timedelta(days=1))
    assert saga.seconds_to_confirm() == 0


def test_a_process_that_starts_during_a_short_jump_recovers(time):
    time.shift = DAY
    clock = time.clock()
    saga = SagaClock(clock)
    assert saga.seconds_to_confirm() == CONFIRMATION
    time.pass_by(clock, 0.5)
    time.shift = 0
    # As soon as the jump is over, the earlier time counts.
    assert is_at(saga.now(), time.true())
    assert saga.seconds_to_confirm() == CONFIRMATION
    time.pass_by(clock, CONFIRMATION + 0.5)
    assert saga.seconds_to_confirm() == 0
    assert is_at(saga.now(), time.true())


def test_the_time_of_an_unconfirmed_clock_is_never_taken_for_confirmed(time):
    """The wall clock changes again and again."""
    clock = time.clock()
    for _ in range(20):
        time.shift += 10
        time.pass_by(clock, CONFIRMATION / 2)
        assert clock.seconds_to_confirm() > 0


def test_drift_is_followed(time, confirmed):
    for _ in range(100):
        time.shift += CLOCK_TOLERANCE_SECONDS / 2
        time.pass_by(confirmed, 60)
    assert is_at(SagaClock(confirmed, is_new=True).now(), _wall(time))


def _wall(time):
    return datetime.fromtimestamp(time.wall(), UTC)


def test_a_jump_is_reported_once_and_so_is_its_end(time, confirmed, caplog):
    with caplog.at_level(logging.WARNING, "eventbraid.saga"):
        time.shift = DAY
        time.pass_by(confirmed, 2)
        time.shift = 0
        time.pass_by(confirmed, 2)
        time.shift = -DAY
        time.pass_by(confirmed, 3 * CONFIRMATION)
    jumped, back, again, stays = [record.getMessage() for record in caplog.records]
    assert "jumped by +86400.0 s" in jumped
    assert "back" in back
    assert "jumped by -86400.0 s" in again
    assert "stays" in stays


@pytest.mark.parametrize("is_new", [False, True])
def test_a_due_time_is_bounded_by_the_longest_wait_since_the_saga_was_seen(
    time, confirmed, is_new
):
    day = timedelta(days=1)
    saga = SagaClock(confirmed, is_new=is_new)
    seen_at = saga.now()
    time.pass_by(confirmed, 60.0)
    assert saga.bounded(seen_at + 2 * day, day) == seen_at + day
    for possible in (seen_at - day, seen_at + day):
        assert saga.bounded(possible, day) == possible


def test_a_due_time_is_not_bounded_by_an_unconfirmed_clock(time):
    saga = SagaClock(time.clock())
    far = saga.now() + timedelta(days=2)
    assert saga.bounded(far, timedelta(days=1)) == far
