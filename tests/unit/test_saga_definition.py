"""A saga that can't work is refused when it is built, with the way to mend it.

The hazard is an error that shows months later, on the first failure in production: a
compensation that was forgotten, a result that can't be read back, a step that fails
behind the point of no return.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pydantic
import pytest

import eventbraid as eb

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Cents(eb.Int, ge=0):
    pass


@dataclass(frozen=True)
class Receipt:
    cents: Cents
    lines: tuple[str, ...] = ()


class Model(pydantic.BaseModel):
    x: int


class Opaque:
    pass


async def call(context: eb.StepContext[int]) -> str:
    return "x"


async def compensate(
    context: eb.StepContext[int], did: eb.StepCompleted[str] | eb.StepInDoubt
) -> None:
    pass


def step(name="a", **options):
    return eb.step(name, call, timeout=SECOND, **options)


def compensatable(name="a", **options):
    return step(name, **options).compensated_by(compensate)


def refused(*steps, **options) -> eb.errors.InvalidSaga:
    with pytest.raises(eb.errors.InvalidSaga) as caught:
        eb.Saga("s", int, steps=list(steps), **options)
    return caught.value


def test_a_saga_needs_a_step():
    assert "at least one" in str(refused())


def test_step_names_are_unique():
    error = refused(compensatable("a"), compensatable("b"), compensatable("a"))
    assert error.step == "a"
    assert "each its own" in str(error)


def test_a_forgotten_compensation_is_refused():
    error = refused(step("pay"))
    assert error.step == "pay"
    assert ".compensated_by(...)" in str(error)
    assert ".without_compensation()" in str(error)


def test_nothing_to_compensate_can_be_said():
    eb.Saga("s", int, steps=[step().without_compensation()])
    eb.Saga("s", int, steps=[eb.local_step("l", lambda c: None).without_compensation()])


def test_a_replaceable_step_needs_no_compensation():
    eb.Saga("s", int, steps=[step(otherwise=lambda c, failure: None)])


def test_what_follows_the_pivot_is_only_retried():
    pivot = step("pivot", kind=eb.StepKind.PIVOT)
    error = refused(compensatable("a"), pivot, compensatable("b"))
    assert error.step == "b"
    assert "'pivot'" in str(error)
    assert "StepKind.RETRIABLE" in str(error)


def test_there_is_one_pivot():
    pivots = [step(name, kind=eb.StepKind.PIVOT) for name in "ab"]
    assert refused(*pivots).step == "b"


def test_nothing_that_fails_follows_a_retriable_step():
    error = refused(step("a", kind=eb.StepKind.RETRIABLE), compensatable("b"))
    assert error.step == "b"


def test_a_step_that_fails_harmlessly_may_stand_behind_the_pivot():
    harmless = step("tell", otherwise=lambda c, failure: None)
    pivot = step("pivot", kind=eb.StepKind.PIVOT)
    last = step("last", kind=eb.StepKind.RETRIABLE)
    eb.Saga("s", int, steps=[compensatable(), pivot, harmless, last])


def test_a_retriable_step_has_no_compensation():
    with pytest.raises(eb.errors.InvalidSaga, match="never compensated"):
        step(kind=eb.StepKind.RETRIABLE).compensated_by(compensate)
    local = eb.local_step("l", lambda c: None, kind=eb.StepKind.RETRIABLE)
    with pytest.raises(eb.errors.InvalidSaga, match="never compensated"):
        local.compensated_by(lambda c: None)


@pytest.mark.parametrize("name", ["", "x" * 81, "a\nb", "é" * 41])
def test_step_names_are_bounded(name):
    with pytest.raises(eb.errors.InvalidSaga, match="80 bytes"):
        step(name)


def test_timeouts_are_positive():
    with pytest.raises(eb.errors.InvalidSaga, match="above 0"):
        eb.step("a", call, timeout=timedelta())
    with pytest.raises(eb.errors.InvalidSaga, match="above 0"):
        step().compensated_by(compensate, timeout=timedelta(seconds=-1))


def test_deadlines_and_versions_make_sense():
    assert "deadline" in str(refused(compensatable(), deadline=timedelta()))
    assert "version" in str(refused(compensatable(), version=0))
    with pytest.raises(eb.errors.InvalidSaga, match="name"):
        eb.Saga("", int, steps=[compensatable()])


def test_what_is_no_step_is_refused():
    assert "step() or local_step()" in str(refused(call))


# --- results --------------------------------------------------------------------------


@dataclass(frozen=True)
class Parcel:
    name: str
    inside: tuple[Parcel, ...] = ()


async def nested(context: eb.StepContext[int]) -> Parcel | None:
    raise NotImplementedError


class Caller:
    async def __call__(self, context: eb.StepContext[int]) -> Receipt:
        raise NotImplementedError

    async def method(self, context: eb.StepContext[int]) -> Cents:
        raise NotImplementedError


async def keyed(key: str, context: eb.StepContext[int]) -> list[int]:
    raise NotImplementedError


def plain(context: eb.StepContext[int]) -> Awaitable[str]:
    raise NotImplementedError


async def mute(context: eb.StepContext[int]):
    pass


async def opaque(context: eb.StepContext[int]) -> tuple[Opaque, ...]:
    raise NotImplementedError


async def model(context: eb.StepContext[int]) -> Model:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("action", "result"),
    [
        (call, "x"),
        (Caller(), Receipt(Cents(3), ("a",))),
        (Caller().method, Cents(7)),
        (functools.partial(keyed, "k"), [1, 2]),
        (plain, "y"),
        (model, Model(x=3)),
        (nested, Parcel("a", (Parcel("b"),))),
    ],
)
def test_results_are_read_back_as_the_action_says(action, result):
    codec = eb.step("a", action, timeout=SECOND).result
    again = codec.decode(codec.encode(result))
    assert again == result
    assert type(again) is type(result)


def test_a_result_whose_type_is_unknown_is_refused():
    with pytest.raises(eb.errors.InvalidSaga, match="annotate its return type"):
        eb.step("a", mute, timeout=SECOND)
    with pytest.raises(eb.errors.InvalidSaga, match="annotate its return type"):
        eb.step("a", lambda context: call(context) or None, timeout=SECOND)


def test_a_result_type_may_be_given():
    given = eb.step("a", lambda c: call(c) or None, timeout=SECOND, result=str)
    assert given.result.annotation is str


def test_a_result_that_could_not_be_read_back_is_refused():
    with pytest.raises(eb.errors.InvalidSaga, match="Opaque") as caught:
        eb.step("a", opaque, timeout=SECOND)
    assert caught.value.step == "a"


def test_an_annotation_that_means_nothing_at_run_time_is_refused():
    class Here:
        pass

    async def local_type(context: eb.StepContext[int]) -> Here:
        raise NotImplementedError

    with pytest.raises(eb.errors.InvalidSaga, match="module level"):
        eb.step("a", local_type, timeout=SECOND)


def test_a_state_that_could_not_be_read_back_is_refused():
    with pytest.raises(eb.errors.InvalidSaga, match="the state of saga 's'"):
        eb.Saga("s", Opaque, steps=[compensatable()])


def test_a_value_of_another_type_is_not_recorded():
    codec = eb.step("a", call, timeout=SECOND).result
    with pytest.raises(eb.InvalidValue, match="result of step 'a'"):
        codec.encode(3)


# --- the graph ------------------------------------------------------------------------


def test_the_hash_names_the_graph():
    def hashed(*steps, **options):
        return eb.Saga("s", int, steps=list(steps), **options).graph_hash

    base = hashed(compensatable("a"), compensatable("b"))
    assert base == hashed(compensatable("a"), compensatable("b"), version=2)
    assert base != hashed(compensatable("b"), compensatable("a"))
    assert base != hashed(compensatable("a"), compensatable("c"))
    assert base != hashed(compensatable("a"), step("b").without_compensation())
    assert base != hashed(compensatable("a"), step("b", kind=eb.StepKind.PIVOT))


def test_the_hash_is_the_same_in_every_process():
    saga = eb.Saga("s", int, steps=[compensatable("a")])
    assert saga.graph_hash == "9a5b92fa5df09a22"


def test_steps_are_values():
    bare = step()
    assert bare.compensated_by(compensate) is not bare
    assert not bare.has_compensation
    with pytest.raises(AttributeError):
        bare.name = "b"


# --- retries --------------------------------------------------------------------------


SHORT = eb.RetryPolicy(maximum_attempts=7, initial_delay=SECOND, jitter="none")


def local(name="a", **options):
    return eb.local_step(name, lambda c: None, **options)


def schedule_of(rules) -> tuple[int | None, float, float, float, str]:
    schedule = rules.schedule
    return (
        schedule.maximum_attempts,
        schedule.initial_delay,
        schedule.maximum_delay,
        schedule.backoff_factor,
        schedule.jitter,
    )


RETRIABLE = {"kind": eb.StepKind.RETRIABLE}
PIVOT = {"kind": eb.StepKind.PIVOT}
DEFAULTS = {
    "step": (lambda **o: step(**o).attempt_rules, 5),
    "local step": (lambda **o: local(**o).attempt_rules, 5),
    "pivot": (lambda **o: step(**PIVOT, **o).attempt_rules, 5),
    "retriable step": (lambda **o: step(**RETRIABLE, **o).attempt_rules, None),
    "retriable local step": (lambda **o: local(**RETRIABLE, **o).attempt_rules, None),
    "compensation": (
        lambda **o: step().compensated_by(compensate, **o).compensation_rules,
        20,
    ),
    "local compensation": (
        lambda **o: local().compensated_by(lambda c: None, **o).compensation_rules,
        5,
    ),
}


@pytest.mark.parametrize("use", DEFAULTS)
def test_each_use_has_its_own_defaults(use):
    rules_of, attempts = DEFAULTS[use]
    expected = (attempts, 0.1, 30.0, 2.0, "full")
    assert schedule_of(rules_of()) == expected
    assert schedule_of(rules_of(retry=None)) == expected
    assert schedule_of(rules_of(retry=eb.RetryPolicy())) == expected


@pytest.mark.parametrize("use", DEFAULTS)
def test_each_use_takes_the_values_of_its_policy(use):
    rules_of, _ = DEFAULTS[use]
    rules = rules_of(retry=SHORT)
    assert schedule_of(rules) == (7, 1.0, 30.0, 2.0, "none")
    assert [rules.allows_another(n) for n in (6, 7)] == [True, False]
    assert [rules.delay(n) for n in (1, 2)] == [SECOND, 2 * SECOND]


@pytest.mark.parametrize("use", DEFAULTS)
def test_each_use_has_a_maximum_of_crashes(use):
    rules_of, _ = DEFAULTS[use]
    assert rules_of().maximum_crashes == 2
    assert rules_of(maximum_crashes=9).maximum_crashes == 9
    with pytest.raises(eb.errors.InvalidArgument, match="maximum_crashes"):
        rules_of(maximum_crashes=0)


EXTERNAL_USES = [use for use in DEFAULTS if "local" not in use]


@pytest.mark.parametrize("use", EXTERNAL_USES)
def test_calls_of_a_receiver_have_refusals(use):
    rules_of, _ = DEFAULTS[use]
    assert not rules_of().proves_failure(KeyError("a"))
    rules = rules_of(refusals=(KeyError, OSError))
    assert rules.proves_failure(KeyError("a"))
    assert rules.proves_failure(ConnectionError("of a subclass"))
    assert not rules.proves_failure(ValueError("another"))


@pytest.mark.parametrize("use", EXTERNAL_USES)
@pytest.mark.parametrize("wrong", [(1,), KeyError, [KeyError], (KeyError("a"),)])
def test_refusals_must_be_exception_classes(use, wrong):
    rules_of, _ = DEFAULTS[use]
    with pytest.raises(eb.errors.InvalidArgument, match="refusals"):
        rules_of(refusals=wrong)


@pytest.mark.parametrize(
    ("jitter", "chance", "seconds"),
    [("full", 0.0, 0.0), ("full", 0.5, 0.5), ("equal", 0.0, 0.5), ("equal", 1.0, 1.0)],
)
def test_jitter_spreads_the_delay_of_a_step(jitter, chance, seconds):
    retry = eb.RetryPolicy(initial_delay=SECOND, jitter=jitter)
    delay = step(retry=retry).attempt_rules.delay(1, chance=chance)
    assert delay.total_seconds() == seconds


def test_a_group_proves_failure_if_all_of_it_does():
    rules = step(refusals=(KeyError,)).attempt_rules
    assert rules.proves_failure(ExceptionGroup("g", [KeyError(1), KeyError(2)]))
    assert not rules.proves_failure(ExceptionGroup("g", [KeyError(1), OSError()]))


# --- durations ------------------------------------------------------------------------

ENDLESS = timedelta.max


@pytest.mark.parametrize("jitter", ["full", "equal", "none"])
def test_a_retry_may_wait_without_end(jitter):
    retry = eb.RetryPolicy(
        initial_delay=ENDLESS, maximum_delay=ENDLESS, backoff_factor=100, jitter=jitter
    )
    rules = step(retry=retry).attempt_rules
    for attempt in (1, 10, 10**6):
        assert NOW + rules.delay(attempt) <= NOW + timedelta(days=36_500)


def test_timeouts_and_deadlines_may_be_endless():
    bounded = eb.step("a", call, timeout=ENDLESS).compensated_by(
        compensate, timeout=ENDLESS
    )
    saga = eb.Saga("s", int, steps=[bounded], deadline=ENDLESS)
    assert NOW + bounded.timeout + bounded.compensation.timeout + saga.deadline


@pytest.mark.parametrize("wrong", [5, 1.5, "5 s"])
def test_what_is_no_duration_is_refused_where_it_is_given(wrong):
    with pytest.raises(eb.errors.InvalidSaga, match="step 'a'.*timedelta"):
        eb.step("a", call, timeout=wrong)
    with pytest.raises(eb.errors.InvalidSaga, match="step 'a'.*timedelta"):
        step().compensated_by(compensate, timeout=wrong)
    with pytest.raises(eb.errors.InvalidSaga, match="saga 's'.*timedelta"):
        eb.Saga("s", int, steps=[compensatable()], deadline=wrong)
