"""A clock and ids that are the same in each run: a test of time waits for no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122

import pytest

import eventbraid as eb
from eventbraid.testing import ManualClock, SequentialIds

HOUR = timedelta(hours=1)


class OrderId(eb.Id, prefix="order"): ...


class AnyId(eb.Id): ...


def test_a_clock_stands_still_until_it_is_advanced():
    clock = ManualClock()
    assert clock() == clock() == clock.time == datetime(2000, 1, 1, tzinfo=UTC)
    clock.advance(HOUR)
    assert clock() == datetime(2000, 1, 1, 1, tzinfo=UTC)
    clock.set(datetime(1999, 1, 1, 12, tzinfo=timezone(HOUR)))
    assert clock() == datetime(1999, 1, 1, 11, tzinfo=UTC)
    assert clock().tzinfo is UTC


def test_a_clock_with_a_step_advances_with_each_call():
    clock = ManualClock(datetime(2020, 2, 28, 23, tzinfo=UTC), step=HOUR)
    assert [clock().day for _ in range(3)] == [28, 29, 29]
    assert clock.time.hour == 2
    assert repr(clock) == "<ManualClock at 2020-02-29T02:00:00+00:00>"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ManualClock(datetime(2000, 1, 1)), "no time zone"),  # noqa: DTZ001
        (lambda: ManualClock(step=-HOUR), "step of a clock.*negative"),
        (lambda: ManualClock().advance(-HOUR), "duration.*negative"),
        (lambda: ManualClock().set(datetime(2000, 1, 1)), "time of a clock"),  # noqa: DTZ001
        (lambda: SequentialIds(seed=-1), "from 0 to 4095"),
        (lambda: SequentialIds(seed=4096), "seed of ids"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(eb.errors.InvalidArgument, match=match):
        call()


def test_ids_are_ascending_uuids_of_version_7():
    clock = ManualClock()
    ids = SequentialIds(clock)
    made = [ids(), ids()]
    clock.advance(HOUR)
    made.append(ids())
    assert made == sorted(set(made))
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}
    milliseconds = made[2].int >> 80
    assert datetime.fromtimestamp(milliseconds / 1000, UTC) == clock.time


def test_ids_are_the_same_in_each_run_and_disjoint_by_seed():
    first, again, other = SequentialIds(), SequentialIds(), SequentialIds(seed=4095)
    ids = [first() for _ in range(100)]
    assert ids == [again() for _ in range(100)]
    assert set(ids).isdisjoint(other() for _ in range(100))


def test_ids_of_a_kind_have_its_prefix():
    ids = SequentialIds()
    order = ids.new(OrderId)
    assert type(order) is OrderId
    assert order == f"order-{SequentialIds()()}"
    assert "-" not in ids.new(AnyId)[:8]
