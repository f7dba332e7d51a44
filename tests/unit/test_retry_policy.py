"""The policy of retries: its ranges, the defaults of its uses, and the delays."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

import eventbraid as eb
from eventbraid.command._retry_policy import COMMAND_SCHEDULE, RetrySchedule
from eventbraid.command._thread_port import ThreadPort
from eventbraid.store._duration import LONGEST_DURATION
from tests.commands import Deposit, Deposited, Money, SyncMeddled, raw

A = "account-a"
ENDLESS = timedelta.max
SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)

# Different from the default of a command in each value.
OTHER_DEFAULT = RetrySchedule(maximum_attempts=5, initial_delay=0.1, maximum_delay=30.0)


class Positive(eb.Int, gt=0):
    """Refuses to be compared with a bare number."""


def schedule(*, default: RetrySchedule = COMMAND_SCHEDULE, **fields) -> RetrySchedule:
    return eb.RetryPolicy(**fields).schedule(default)


# --- ranges ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"maximum_attempts": 0},
        {"maximum_attempts": -1},
        {"maximum_attempts": "infinite"},
        {"maximum_attempts": 2**63},
        {"backoff_factor": 0.99},
        {"backoff_factor": 100.1},
        {"backoff_factor": 1e308},
        {"backoff_factor": float("nan")},
        {"backoff_factor": float("inf")},
        {"backoff_factor": "2"},
        {"backoff_factor": None},
        {"backoff_factor": True},
        {"initial_delay": -MS},
        {"initial_delay": 5},
        {"initial_delay": 1.5},
        {"initial_delay": "5 s"},
        {"maximum_delay": -MS},
        {"maximum_delay": 5},
        {"maximum_delay": "5 s"},
        {"maximum_delay": MS, "initial_delay": 2 * MS},
        {"jitter": "some"},
        {"jitter": None},
    ],
    ids=str,
)
def test_a_value_out_of_its_range_is_refused_by_name(wrong):
    name = next(iter(wrong))
    with pytest.raises(eb.errors.InvalidArgument, match=rf"RetryPolicy\.{name}\b"):
        eb.RetryPolicy(**wrong)


@pytest.mark.parametrize("wrong", [1.5, True, b"1", object()], ids=repr)
def test_attempts_that_are_no_number_are_a_type_error(wrong):
    with pytest.raises(TypeError, match=r"RetryPolicy\.maximum_attempts"):
        eb.RetryPolicy(maximum_attempts=wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"maximum_attempts": -(10**5000)},
        {"backoff_factor": -(10**5000)},
        {"initial_delay": 10**5000},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_number_of_too_many_digits_is_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(
        eb.errors.InvalidArgument, match=rf"RetryPolicy\.{name} '<int whose"
    ):
        eb.RetryPolicy(**wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {"maximum_attempts": 1},
        {"maximum_attempts": 2**63 - 1},
        {"maximum_attempts": Positive(3)},
        {"maximum_attempts": "unlimited"},
        {"backoff_factor": 1},
        {"backoff_factor": 100},
        {"initial_delay": 0 * MS, "maximum_delay": 0 * MS},
        {"initial_delay": ENDLESS, "maximum_delay": ENDLESS},
        {"jitter": "equal"},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_are_accepted(fields):
    policy = eb.RetryPolicy(**fields)
    assert policy == eb.RetryPolicy(**fields)
    assert hash(policy) == hash(eb.RetryPolicy(**fields))


def test_numbers_of_subclasses_become_plain_ones():
    policy = eb.RetryPolicy(maximum_attempts=Positive(3))
    assert type(policy.maximum_attempts) is int
    assert policy == eb.RetryPolicy(maximum_attempts=3)


# --- defaults -------------------------------------------------------------------------


def test_a_policy_without_values_is_the_default_of_its_use():
    for default in (COMMAND_SCHEDULE, OTHER_DEFAULT):
        assert schedule(default=default) == default


def test_the_defaults_of_a_command():
    assert schedule() == RetrySchedule(
        maximum_attempts=10,
        initial_delay=0.001,
        maximum_delay=0.25,
        backoff_factor=2.0,
        jitter="full",
    )


def test_each_value_replaces_its_default_only():
    fields = {
        "maximum_attempts": 3,
        "initial_delay": 20 * MS,
        "maximum_delay": 200 * MS,
        "backoff_factor": 3,
        "jitter": "none",
    }
    expected = {**fields, "initial_delay": 0.02, "maximum_delay": 0.2}
    names = [
        "maximum_attempts",
        "initial_delay",
        "maximum_delay",
        "backoff_factor",
        "jitter",
    ]
    for count in range(len(names) + 1):
        for chosen in itertools.combinations(names, count):
            result = schedule(
                default=OTHER_DEFAULT, **{name: fields[name] for name in chosen}
            )
            for name in names:
                source = expected if name in chosen else None
                wanted = source[name] if source else getattr(OTHER_DEFAULT, name)
                assert getattr(result, name) == wanted, (chosen, name)


def test_an_initial_delay_above_the_default_maximum_is_kept():
    result = schedule(initial_delay=9 * SECOND, jitter="none")
    assert (result.initial_delay, result.maximum_delay) == (9.0, 9.0)
    assert [result.delay(n) for n in (1, 2, 10**6)] == [9.0, 9.0, 9.0]


def test_a_maximum_below_the_default_initial_delay_limits_it():
    result = schedule(default=OTHER_DEFAULT, maximum_delay=10 * MS, jitter="none")
    assert (result.initial_delay, result.maximum_delay) == (0.01, 0.01)
    assert [result.delay(n) for n in (1, 2)] == [0.01, 0.01]


async def failing(context: eb.StepContext[int]) -> str:
    raise ConnectionError("lost")


async def compensate(
    context: eb.StepContext[int], did: eb.StepCompleted[str] | eb.StepInDoubt
) -> None:
    pass


class Contended(Deposit):
    """A command whose stream changes during each attempt."""

    attempts = 0
    store = None

    def decide(self, state, /):
        Contended.attempts += 1
        Contended.store.append([raw(A, Deposited(Money(1)))])
        return super().decide(state)


@pytest.mark.anyio
@pytest.mark.parametrize("attempts", [1, 5])
async def test_a_number_of_attempts_means_the_same_for_a_command_and_a_step(attempts):
    """The first attempt counts in both cases."""
    policy = eb.RetryPolicy(maximum_attempts=attempts, maximum_delay=MS)
    Contended.attempts = 0
    with eb.open("memory:") as Contended.store:
        executor = eb.Executor(Contended.store, retry=policy)
        with pytest.raises(eb.errors.RetriesExhausted) as exhausted:
            executor.execute(Contended(account=A, amount=Money(1)))
    assert (Contended.attempts, exhausted.value.attempts) == (attempts, attempts)

    calls = []

    async def act(context: eb.StepContext[int]) -> str:
        calls.append(context.attempt)
        return await failing(context)

    async with eb.open_async("memory:") as store:
        step = eb.step("a", act, timeout=60 * SECOND, retry=policy)
        saga = eb.Saga("s", int, steps=[step.compensated_by(compensate)])
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            handle = await coordinator.start(saga, 0, id="saga-1")
            ended = await handle.result(timeout=60 * SECOND)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert calls == list(range(1, attempts + 1))


def test_an_unlimited_command_is_retried_beyond_the_default_number():
    class Busy(Deposit):
        attempts = 0

        def decide(self, state, /):
            Busy.attempts += 1
            if Busy.attempts <= 20:
                store.append([raw(A, Deposited(Money(1)))])
            return super().decide(state)

    policy = eb.RetryPolicy(maximum_attempts="unlimited", maximum_delay=MS)
    with eb.open("memory:") as store:
        executor = eb.Executor(store, retry=policy)
        assert executor.execute(Busy(account=A, amount=Money(1))).attempts == 21


# --- attempts and delays --------------------------------------------------------------


def test_attempts_are_limited_or_not():
    limited = schedule(maximum_attempts=2)
    assert [limited.allows_another(n) for n in (1, 2, 3)] == [True, False, False]
    assert not schedule(maximum_attempts=1).allows_another(1)
    assert schedule(maximum_attempts="unlimited").allows_another(10**9)


def test_delays_grow_up_to_the_maximum():
    result = schedule(
        initial_delay=10 * MS, backoff_factor=3, maximum_delay=200 * MS, jitter="none"
    )
    delays = [result.delay(n) for n in (1, 2, 3, 4, 5, 10_000)]
    assert delays == pytest.approx([0.01, 0.03, 0.09, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("factor", [1, 1.001, 100, 100.0], ids=repr)
@pytest.mark.parametrize("longest", [200 * MS, ENDLESS], ids=["short", "endless"])
def test_no_delay_overflows(factor, longest):
    fields = {"backoff_factor": factor, "maximum_delay": longest, "jitter": "none"}
    limit = min(longest, LONGEST_DURATION).total_seconds()
    result = schedule(initial_delay=MS, **fields)
    delays = [result.delay(n) for n in (1, 2, 10**6, 2**80)]
    assert delays == sorted(delays)
    assert delays[0] == 0.001
    assert delays[-1] <= limit
    if factor == 100:
        assert delays[-1] == limit
    assert schedule(initial_delay=0 * MS, **fields).delay(10**6) == 0


def test_endless_durations_count_as_the_longest_one():
    result = schedule(initial_delay=ENDLESS, maximum_delay=ENDLESS, jitter="none")
    for attempt in (1, 2**80):
        assert result.delay(attempt) == LONGEST_DURATION.total_seconds()


@pytest.mark.parametrize(
    ("jitter", "low"), [("full", 0.0), ("equal", 0.5), ("none", 1.0)]
)
def test_the_jitter_reduces_a_delay_at_random(jitter, low):
    result = schedule(initial_delay=SECOND, maximum_delay=SECOND, jitter=jitter)
    assert result.delay(1) == 1.0
    assert result.delay(1, chance=0.0) == low
    assert result.delay(1, chance=0.5) == (low + 1.0) / 2
    delays = [result.delay(1, chance=n / 100) for n in range(101)]
    assert delays == sorted(delays)
    assert low == delays[0]
    assert delays[-1] == 1.0


@pytest.mark.parametrize(("jitter", "low"), [("full", 0.0), ("equal", 0.5)])
def test_an_executor_draws_its_delays(jitter, low, monkeypatch):
    """The delays of an execution are spread over the whole range of the jitter."""
    delays: list[float] = []

    async def sleep(_: ThreadPort, seconds: float) -> None:
        delays.append(seconds)

    monkeypatch.setattr(ThreadPort, "sleep", sleep)
    policy = eb.RetryPolicy(
        maximum_attempts="unlimited",
        initial_delay=SECOND,
        maximum_delay=SECOND,
        jitter=jitter,
    )
    with eb.open("memory:") as store:
        busy = SyncMeddled(store)
        busy.before.extend([raw(A, Deposited(Money(1)))] for _ in range(500))
        executor = eb.Executor(busy, retry=policy, retry_timeout=ENDLESS)
        done = executor.execute(Deposit(account=A, amount=Money(1)))
    assert (done.attempts, len(delays)) == (501, 500)
    assert low <= min(delays) < low + 0.1
    assert 0.9 < max(delays) <= 1.0
