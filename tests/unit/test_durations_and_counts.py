"""Durations and counts as arguments: converted and bounded where they are given.

The hazard: an argument that is accepted and raises later, in a timer, in the addition
of a date, or in a comparison of a domain value with a bare number.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

import eventbraid as eb
from eventbraid.lease._liveness import HEARTBEAT_SECONDS
from eventbraid.store._duration import LONGEST_DURATION, validate_duration
from eventbraid.store._reservation import LONGEST_SECONDS
from tests.commands import Account, AccountEvent, Deposit, Deposited, Money, raw

A = "account-a"
ENDLESS = timedelta.max


class Number(eb.Int):
    """Refuses to be compared with a bare int."""


class Positive(eb.Int, gt=0):
    """Refuses, besides, what is not positive."""


def test_an_endless_duration_counts_as_the_longest_one():
    assert validate_duration("wait", ENDLESS) == LONGEST_DURATION
    assert datetime.now(UTC) + LONGEST_DURATION


def test_the_longest_reservation_is_that_of_the_engine(repository):
    """A command computes the end of its reservation, which the engine doesn't report."""
    source = (repository / "rust/engine/src/coord/reservation.rs").read_text()
    pattern = (
        r"^pub const LONGEST_RESERVATION: Duration = Duration::from_secs\((\d+)\);"
    )
    assert [float(s) for s in re.findall(pattern, source, re.MULTILINE)] == [
        LONGEST_SECONDS
    ]


def test_the_interval_of_heartbeats_is_that_of_the_engine(repository):
    """It is named in the error about a ``stale_after`` that is too short."""
    source = (repository / "rust/engine/src/heartbeat.rs").read_text()
    pattern = r"^const HEARTBEAT_INTERVAL: Duration = Duration::from_millis\((\d+)\);"
    assert [int(ms) / 1_000 for ms in re.findall(pattern, source, re.MULTILINE)] == [
        HEARTBEAT_SECONDS
    ]


@pytest.mark.parametrize("value", [5, 1.5, None, "5 s"], ids=str)
def test_what_is_no_duration_is_refused_by_its_name(value):
    with pytest.raises(eb.errors.InvalidArgument, match="invalid wait .*timedelta"):
        validate_duration("wait", value)


@pytest.mark.parametrize("executor_class", [eb.Executor, eb.AsyncExecutor])
@pytest.mark.parametrize("wrong", [5, -timedelta(seconds=1)], ids=str)
def test_an_executor_refuses_an_invalid_retry_timeout(executor_class, wrong):
    with eb.open("memory:") as store:
        asked = store if executor_class is eb.Executor else store.as_async()
        with pytest.raises(eb.errors.InvalidArgument, match="invalid retry_timeout"):
            executor_class(asked, retry_timeout=wrong)


@pytest.mark.parametrize(
    "deadline", [ENDLESS, datetime.max.replace(tzinfo=UTC)], ids=["timedelta", "date"]
)
def test_a_command_may_have_an_endless_deadline_and_still_conflict(deadline):
    with eb.open("memory:") as store:
        executor = eb.Executor(store, retry_timeout=ENDLESS)

        class Interrupted(Deposit):
            def decide(self, state, /):
                if state == 0:
                    store.append([raw(A, Deposited(Money(1)))])
                return super().decide(state)

        command = Interrupted(account=A, amount=Money(1))
        assert executor.execute(command, deadline=deadline).attempts == 2


def test_a_deadline_that_is_no_time_is_refused_before_anything_is_read():
    with (
        eb.open("memory:") as store,
        pytest.raises(eb.errors.InvalidArgument, match="deadl"),
    ):
        command = Deposit(account=A, amount=Money(1))
        eb.Executor(store).execute(command, deadline=5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_lease_may_be_waited_for_without_end():
    with (
        eb.open("memory:") as store,
        eb.Lease(store, "endless", stale_after=ENDLESS, wait=ENDLESS) as lease,
    ):
        assert lease.token == 1


@pytest.mark.parametrize("name", ["stale_after", "wait"])
def test_a_lease_refuses_what_is_no_duration(name):
    with (
        eb.open("memory:") as store,
        pytest.raises(eb.errors.InvalidArgument, match=name),
    ):
        eb.Lease(store, "lease", **{name: 5})


def test_subclasses_of_int_are_numbers_of_the_store():
    zero, one, five = Number(0), Number(1), Number(5)
    with eb.open(
        "memory:",
        segment_size=Number(1 << 20),
        max_segment_size=Number(1 << 21),
        cache_size=Number(1 << 20),
        lock_timeout=Number(1),
    ) as store:
        events = [raw(A, Deposited(Money(n))) for n in range(3)]
        store.append(events, expect={A: zero})
        read = store.read_stream(A, after=zero, before=five, limit=one)
        assert [one.version for one in read] == [1]
        assert len(list(store.read_all(after=one, limit=five))) == 2
        snapshot = store.read_streams([A], at=Number(2), after={A: one})
        assert [one.version for one in snapshot.events] == [2]
        with store.subscribe(after=one) as subscription:
            assert next(subscription).position == 2


def test_numbers_out_of_range_are_refused_by_name_whatever_their_class():
    with eb.open("memory:") as store:
        for number in (-1, Number(-1)):
            with pytest.raises(eb.errors.InvalidArgument, match="after"):
                store.read_stream(A, after=number)
            with pytest.raises(eb.errors.InvalidArgument, match="expectation"):
                store.append([], expect={A: number})


class Reads(eb.StatefulCommand[int, AccountEvent]):
    account: eb.Declared[Account]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + 1

    def decide(self, state, /):
        return ()


def test_an_executor_takes_domain_values_as_its_limits():
    with eb.open("memory:") as store:
        executor = eb.Executor(
            store,
            retry=eb.RetryPolicy(maximum_attempts=Positive(3)),
            discovery_rounds=Positive(2),
            discovery_streams=Positive(2),
            remembered_events=Positive(20),
        )
        expect = {A: Number(0), "account-b": Positive(1)}
        store.append([raw("account-b", Deposited(Money(1)))])
        done = executor.execute(Reads(account=A), expect=expect)
        assert done.read_position == 1


@pytest.mark.parametrize(
    "name", ["discovery_rounds", "discovery_streams", "remembered_events"]
)
def test_an_executor_refuses_limits_that_are_no_counts(name):
    with eb.open("memory:") as store:
        with pytest.raises(eb.errors.InvalidArgument, match=name):
            eb.Executor(store, **{name: -1})
        with pytest.raises(TypeError, match=f"{name} must be an int"):
            eb.Executor(store, **{name: None})
