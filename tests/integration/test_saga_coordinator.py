"""The coordinator: starting, resuming, cancelling, leaving, and two of them at once.

The hazards: a saga that nobody drives any more, one that two drive to different ends, a
start that happens twice, an answer that comes too late and moves a saga that is compensated.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from tests.saga_kit import (
    MINUTE,
    QUICK,
    SECOND,
    SLEEPY,
    Crash,
    MortalStore,
    Receiver,
    Trip,
    inside,
    is_about_leases,
    notes,
    outside,
    recorded,
    records,
    trip,
)

pytestmark = pytest.mark.anyio
SLOW = replace(SLEEPY, maximum_attempts="unlimited")


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@pytest.fixture
def receiver():
    return Receiver()


def journey(receiver, **options):
    return trip(
        inside("book"), outside(receiver, "pay"), outside(receiver, "ship"), **options
    )


class Gate:
    """An action that waits until it is let through."""

    def __init__(self, receiver):
        self.receiver = receiver
        self.entered = anyio.Event()
        self.opened = anyio.Event()

    def step(self, name="gate", **options):
        async def wait(context: eb.StepContext[Trip]) -> str:
            self.entered.set()
            await self.opened.wait()
            return await self.receiver.do(name, context.idempotency_key)

        async def compensate(
            context: eb.StepContext[Trip], did: eb.StepCompleted[str] | eb.StepInDoubt
        ) -> None:
            self.receiver.log.append(type(did).__name__)
            await self.receiver.compensate(
                name, context.forward_key, context.idempotency_key
            )

        options.setdefault("retry", QUICK)
        step = eb.step(name, wait, timeout=MINUTE, **options)
        return step.compensated_by(compensate, retry=QUICK)


# --- starting -------------------------------------------------------------------------


async def test_starting_twice_starts_once(store, receiver):
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        first = await coordinator.start(saga, Trip("mia"), id="saga-1")
        second = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert first.id == second.id == "saga-1"
        assert await first.result() == await second.result()
        third = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert (await third.result()).outcome is eb.SagaOutcome.COMPLETED
        assert third.status is eb.saga.SagaStatus.COMPLETED
    assert receiver.log == ["pay", "ship"]


async def test_an_id_that_is_taken_is_refused(store, receiver):
    saga, other = journey(receiver), journey(receiver, name="other")
    await store.append([("saga-9", "something.else", b"{}")])
    async with eb.SagaCoordinator(store, [saga, other]) as coordinator:
        await coordinator.start(saga, Trip("mia"), id="saga-1")
        with pytest.raises(eb.errors.SagaExists, match="another state"):
            await coordinator.start(saga, Trip("ben"), id="saga-1")
        with pytest.raises(eb.errors.SagaExists, match="a saga 'trip'"):
            await coordinator.start(other, Trip("mia"), id="saga-1")
        with pytest.raises(eb.errors.SagaExists, match="something else"):
            await coordinator.start(saga, Trip("mia"), id="saga-9")


@pytest.mark.parametrize("saga_id", ["", "$x", "saga-attention", "a\nb", "x" * 250])
async def test_an_unfit_id_is_refused(store, receiver, saga_id):
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        with pytest.raises(eb.errors.InvalidArgument, match="saga id"):
            await coordinator.start(saga, Trip("mia"), id=saga_id)


async def test_the_longest_id_has_room_for_the_keys_of_compensations(store, receiver):
    """Its keys have at most 255 bytes, also after hundreds of retries by a person."""
    receiver.plan["ship"] = ["decline"]
    saga = trip(outside(receiver, "pay"), outside(receiver, "ship"))
    longest = "x" * (255 - len("/ship/1000/compensation"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        with pytest.raises(
            eb.errors.InvalidArgument, match="256 bytes, expected at most 255"
        ):
            await coordinator.start(saga, Trip("mia"), id=longest + "x")
        handle = await coordinator.start(saga, Trip("mia"), id=longest)
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
    assert f"{longest}/pay/1/compensation" in receiver.calls


@pytest.mark.parametrize("saga_id", [None, 7, b"saga-1"])
async def test_an_id_that_is_no_text_is_refused_everywhere(store, receiver, saga_id):
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        for call in (
            lambda: coordinator.start(saga, Trip("mia"), id=saga_id),
            lambda: coordinator.get(saga, saga_id),
            lambda: coordinator.cancel(saga_id, reason="late"),
            lambda: coordinator.retry(saga_id, by="mia", note="again"),
            lambda: coordinator.skip(saga_id, "pay", by="mia", note="done"),
        ):
            with pytest.raises(eb.errors.InvalidArgument, match="saga id"):
                await call()


async def test_a_wrong_state_or_an_unknown_saga_is_refused(store, receiver):
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        with pytest.raises(eb.InvalidValue, match="state of saga 'trip'"):
            await coordinator.start(saga, {"who": "mia"}, id="saga-1")
        with pytest.raises(eb.errors.InvalidArgument, match="among those given"):
            await coordinator.start(journey(receiver), Trip("mia"), id="saga-1")
        with pytest.raises(eb.errors.SagaNotFound):
            await coordinator.get(saga, "saga-1")
        handle = await coordinator.start(saga, Trip("mia"), id="saga-2")
        with pytest.raises(eb.errors.SagaNotFound):
            await coordinator.get(journey(receiver, name="other"), "saga-2")
        await handle.result()
        assert repr(handle) == "<SagaHandle 'saga-2', completed>"
        assert handle.state == (await handle.result()).state
    assert await store.version("saga-1") == 0


async def test_numbers_that_make_no_sense_are_refused(store, receiver):
    with pytest.raises(eb.errors.InvalidArgument, match="concurrency"):
        eb.SagaCoordinator(store, [], concurrency=0)
    with pytest.raises(eb.errors.InvalidArgument, match="given twice"):
        eb.SagaCoordinator(store, [journey(receiver), journey(receiver)])


async def test_no_limit_may_be_said_for_each_duration(store, receiver):
    """As `timedelta.max`, which no clock can add to its time."""
    endless = timedelta.max
    patient = eb.RetryPolicy(
        maximum_attempts=2, initial_delay=endless, maximum_delay=endless
    )
    receiver.plan = {"ship": ["decline"]}
    saga = trip(
        outside(receiver, "pay", timeout=endless, retry=patient),
        outside(receiver, "ship", compensation_retry=patient),
        deadline=endless,
    )
    coordinator = eb.SagaCoordinator(store, [saga], stale_after=endless)
    with anyio.fail_after(60):
        async with coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            end = await handle.result(timeout=endless)
            assert end.outcome is eb.SagaOutcome.COMPENSATED
            with pytest.raises(eb.errors.InvalidArgument, match="timeout.*timedelta"):
                await handle.result(timeout=5)


async def test_a_saga_in_an_endless_delay_is_cancelled_at_once(store, receiver):
    receiver.plan = {"pay": ["drop"]}
    endless = eb.RetryPolicy(
        initial_delay=timedelta.max, maximum_delay=timedelta.max, jitter="none"
    )
    saga = trip(outside(receiver, "pay", retry=endless))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        with pytest.raises(TimeoutError):
            await handle.result(timeout=timedelta(seconds=0.1))
        with pytest.raises(TimeoutError):
            await handle.result(timeout=timedelta(seconds=-1))
        await coordinator.cancel("saga-1", reason="enough")
        end = await handle.result(timeout=timedelta(seconds=10))
        assert end.outcome is eb.SagaOutcome.COMPENSATED


async def test_a_coordinator_that_is_not_running_says_so(store, receiver):
    saga = journey(receiver)
    coordinator = eb.SagaCoordinator(store, [saga])
    with pytest.raises(eb.errors.CoordinatorClosed, match="async with"):
        await coordinator.start(saga, Trip("mia"), id="saga-1")
    async with coordinator:
        pass
    with pytest.raises(eb.errors.CoordinatorClosed):
        await coordinator.start(saga, Trip("mia"), id="saga-1")
    with pytest.raises(eb.errors.CoordinatorClosed, match="entered once"):
        await coordinator.__aenter__()
    with pytest.raises(eb.errors.CoordinatorClosed):
        await eb.SagaCoordinator(store, [saga]).__aexit__(None, None, None)


class Forgetful(MortalStore):
    """Commits its first append, or not, and can't say so."""

    def __init__(self, store, *, commits):
        super().__init__(store)
        self.commits = commits

    async def append(self, events, **options):
        if is_about_leases(events):
            return await super().append(events, **options)
        if self.appends == 0 and not self.commits:
            self.appends += 1
            raise eb.OutcomeUnknown("no answer")
        done = await super().append(events, **options)
        if self.appends == 1:
            raise eb.OutcomeUnknown("no answer")
        return done


@pytest.mark.parametrize("commits", [False, True])
async def test_a_start_whose_outcome_is_unknown_is_driven_if_it_happened(
    store, receiver, commits
):
    saga = journey(receiver)
    forgetful = Forgetful(store, commits=commits)
    async with eb.SagaCoordinator(forgetful, [saga]) as coordinator:
        with pytest.raises(eb.OutcomeUnknown):
            await coordinator.start(saga, Trip("mia"), id="saga-1")
        if commits:
            await recorded(store, "saga-1", "completed")
    assert (await store.version("saga-1") > 0) is commits


async def test_concurrency_bounds_the_sagas_at_work(store):
    at_work = most = 0
    full = anyio.Event()

    async def count(context: eb.StepContext[Trip]) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        if at_work == 3:
            full.set()
        await full.wait()
        await anyio.sleep(0.002)
        at_work -= 1

    saga = trip(eb.step("count", count, timeout=MINUTE).without_compensation())
    async with eb.SagaCoordinator(store, [saga], concurrency=3) as coordinator:
        handles = [
            await coordinator.start(saga, Trip("mia"), id=f"saga-{n}")
            for n in range(20)
        ]
        for handle in handles:
            await handle.result()
    assert most == 3


async def test_a_saga_that_waits_for_its_next_attempt_holds_no_place(store, receiver):
    receiver.plan["wait"] = ["drop"]
    waiting = trip(outside(receiver, "wait", retry=SLOW), name="waiting")
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga, waiting], concurrency=1) as coordinator:
        for n in range(3):
            await coordinator.start(waiting, Trip("mia"), id=f"saga-w{n}")
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        with anyio.fail_after(60):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
        listed = await coordinator.list()
        assert {summary.id for summary in listed} == {f"saga-w{n}" for n in range(3)}
        assert {summary.step for summary in listed} == {"wait"}


async def test_waiting_for_a_result_may_be_bounded(store, receiver):
    gate = Gate(receiver)
    saga = trip(gate.step())
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        with pytest.raises(TimeoutError):
            await handle.result(timeout=timedelta(milliseconds=20))
        gate.opened.set()
        assert (await handle.result(timeout=MINUTE)).outcome is eb.SagaOutcome.COMPLETED


async def test_progress_is_told_as_it_is_recorded(store, receiver):
    told: list[eb.saga.SagaProgress] = []
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga], on_event=told.append) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result()
    assert [progress.what.removeprefix("saga.") for progress in told] == (
        await records(store, "saga-1")
    )
    assert told[-1].status is eb.saga.SagaStatus.COMPLETED
    assert told[1] == eb.saga.SagaProgress(
        "saga-1", "trip", "saga.step_succeeded", "book", eb.saga.SagaStatus.RUNNING
    )


async def test_an_observer_that_raises_stops_the_coordinator_and_fails_no_step(
    store, receiver
):
    def broken(told):
        if told.step == "pay" and told.what == "saga.step_succeeded":
            raise ZeroDivisionError("oops")

    saga = journey(receiver)
    with pytest.raises(eb.errors.CoordinatorClosed, match="on_event raised"):
        async with eb.SagaCoordinator(store, [saga], on_event=broken) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            await handle.result()
    assert "step_failed" not in await records(store, "saga-1")
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.log == ["pay", "ship"]


# --- cancelling and late answers ------------------------------------------------------


async def test_a_late_answer_never_advances_a_saga_that_is_compensated(store, receiver):
    gate = Gate(receiver)
    saga = trip(inside("book"), gate.step(), outside(receiver, "ship"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await gate.entered.wait()
        await coordinator.cancel("saga-1", reason="changed her mind")
        gate.opened.set()
        end = await handle.result()
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert end.failure == "cancelled: changed her mind"
    # The answer told the compensation what it had to compensate.
    assert receiver.log == ["gate", "StepCompleted", "compensate gate"]
    told = await records(store, "saga-1")
    assert told.index("step_answered_late") > told.index("compensation_started")
    assert told.count("step_succeeded") == 1
    assert await notes(store, "saga-1") == ["book", "compensate book"]


async def test_a_cancelled_saga_whose_call_fails_is_compensated_as_unknown(
    store, receiver
):
    gate = Gate(receiver)
    receiver.plan["gate"] = ["lose"]
    saga = trip(gate.step())
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await gate.entered.wait()
        await coordinator.cancel("saga-1", reason="no")
        gate.opened.set()
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.log == ["gate", "StepInDoubt", "compensate gate"]


async def test_cancelling_wakes_a_saga_that_waits(store, receiver):
    receiver.plan["pay"] = ["drop"]
    saga = trip(inside("book"), outside(receiver, "pay", retry=SLOW))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await recorded(store, "saga-1", "step_unknown")
        await coordinator.cancel("saga-1", reason="no")
        with anyio.fail_after(60):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.voided == {"saga-1/pay/1"}


class SlowToReadAgain:
    """A store that loses the answer of one append, and then is slow to read the saga.

    After the lost answer, the saga's stream is read again. That read returns only after
    `go_on` is set.
    """

    def __init__(self, store, saga_id, lost):
        self._store = store
        self._saga_id = saga_id
        self._lost = lost
        self._is_slow = False
        self.has_read = anyio.Event()
        self.go_on = anyio.Event()

    async def append(self, events, **options):
        events = [*events]
        done = await self._store.append(events, **options)
        if any(event.type == self._lost for event in events):
            self._is_slow = True
            raise eb.OutcomeUnknown("no answer")
        return done

    async def read_stream(self, stream, **options):
        found = [read async for read in self._store.read_stream(stream, **options)]
        if self._is_slow and stream == self._saga_id:
            self._is_slow = False
            self.has_read.set()
            await self.go_on.wait()
        for read in found:
            yield read

    def __getattr__(self, name):
        return getattr(self._store, name)


async def test_a_cancellation_during_a_read_of_the_saga_wakes_the_saga(store, receiver):
    """The read returns the records before the cancellation: the saga seems to wait."""
    receiver.plan["pay"] = ["drop"]
    saga = trip(inside("book"), outside(receiver, "pay", retry=SLOW))
    slow = SlowToReadAgain(store, "saga-1", "saga.step_unknown")
    async with eb.SagaCoordinator(slow, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        with anyio.fail_after(60):
            await slow.has_read.wait()
            await coordinator.cancel("saga-1", reason="no")
            head = await store.head()
            while coordinator._parts.follower.position < head:  # noqa: ASYNC110 - no event for it
                await anyio.sleep(0.001)
            slow.go_on.set()
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED


async def test_what_is_past_its_point_of_no_return_is_not_cancelled(store, receiver):
    gate = Gate(receiver)
    last = eb.step(
        "last", gate.step().action, timeout=MINUTE, kind=eb.StepKind.RETRIABLE
    )
    saga = trip(outside(receiver, "pay", kind=eb.StepKind.PIVOT), last)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await gate.entered.wait()
        with pytest.raises(eb.errors.InvalidTransition, match="point of no return"):
            await coordinator.cancel("saga-1", reason="too late")
        gate.opened.set()
        await handle.result()
        with pytest.raises(eb.errors.InvalidTransition, match="must be running"):
            await coordinator.cancel("saga-1", reason="much too late")


async def test_a_pivot_that_may_have_happened_is_not_cancelled(store, receiver):
    gate = Gate(receiver)
    pivot = eb.step("go", gate.step().action, timeout=MINUTE, kind=eb.StepKind.PIVOT)
    saga = trip(inside("book"), pivot)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await gate.entered.wait()
        with pytest.raises(eb.errors.InvalidTransition, match="point of no return"):
            await coordinator.cancel("saga-1", reason="too late")
        gate.opened.set()
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


# --- leaving --------------------------------------------------------------------------


async def test_leaving_waits_for_the_call_under_way_and_records_it(store, receiver):
    gate = Gate(receiver)
    saga = trip(gate.step(), outside(receiver, "ship"))
    async with anyio.create_task_group() as tasks:
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            await gate.entered.wait()
            tasks.start_soon(_open_later, gate)
        with pytest.raises(eb.errors.CoordinatorClosed):
            await handle.result()
    assert receiver.log == ["gate"]
    assert (await records(store, "saga-1"))[-2:] == ["step_succeeded", "step_started"]

    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.log == ["gate", "ship"]


async def _open_later(gate):
    await anyio.sleep(0.02)
    gate.opened.set()


async def test_leaving_does_not_wait_for_the_next_attempt(store, receiver):
    receiver.plan["pay"] = ["drop", "ok"]
    saga = trip(
        outside(receiver, "pay", retry=replace(SLOW, initial_delay=0.05 * SECOND))
    )
    with anyio.fail_after(60):
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Trip("mia"), id="saga-1")
            await recorded(store, "saga-1", "step_unknown")
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            handle = await coordinator.get(saga, "saga-1")
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


async def test_an_error_in_the_block_comes_out_as_it_is(store, receiver):
    gate = Gate(receiver)
    saga = trip(gate.step())
    with pytest.raises(ZeroDivisionError):
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Trip("mia"), id="saga-1")
            await gate.entered.wait()
            1 / 0  # noqa: B018 - the error is the point
    gate.opened.set()
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls["saga-1/gate/1"] == 1


async def test_a_cancelled_block_leaves_its_sagas_to_the_next_coordinator(
    store, receiver
):
    gate = Gate(receiver)
    saga = trip(inside("book"), gate.step())
    with anyio.CancelScope() as scope:
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            await gate.entered.wait()
            scope.cancel()
            await handle.result()
    assert scope.cancelled_caught
    assert (await records(store, "saga-1"))[-1] == "step_started"
    gate.opened.set()
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


async def test_a_compensation_is_shielded_from_cancellation(store, receiver):
    entered, finished = anyio.Event(), []

    async def act(context: eb.StepContext[Trip]) -> None:
        pass

    async def compensate(
        context: eb.StepContext[Trip], did: eb.StepCompleted[None] | eb.StepInDoubt
    ) -> None:
        entered.set()
        await anyio.sleep(0.05)
        finished.append(did)

    saga = trip(
        eb.step("act", act, timeout=MINUTE).compensated_by(compensate),
        inside("no", unless="no"),
    )
    with anyio.CancelScope() as scope:
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Trip("mia"), id="saga-1")
            await entered.wait()
            scope.cancel()
            await anyio.sleep(1)
    assert finished == [eb.StepCompleted(None)]
    assert (await records(store, "saga-1"))[-1] == "compensated"


async def test_a_store_that_fails_stops_the_coordinator_with_its_error(store, receiver):
    mortal = MortalStore(store, 3)
    saga = journey(receiver)
    with pytest.raises(Crash):
        async with eb.SagaCoordinator(mortal, [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            await handle.result()


# --- resuming -------------------------------------------------------------------------


async def test_an_attempt_that_was_under_way_is_tried_again_with_its_key(
    store, receiver
):
    saga = trip(outside(receiver, "pay"))
    # The process dies when it wants to record the answer.
    with pytest.raises(Crash):
        async with eb.SagaCoordinator(MortalStore(store, 2), [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            await handle.result()
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls == {"saga-1/pay/1": 2}
    [unknown] = [
        eb.decode_event(r) async for r in store.read_all(types=["saga.step_unknown"])
    ]
    assert unknown.why == "crash"


async def test_an_attempt_that_was_under_way_is_asked_about_first(store, receiver):
    async def ask(context: eb.StepContext[Trip]) -> eb.StepCompleted[str] | None:
        known = receiver.knows(context.idempotency_key)
        return None if known is None else eb.StepCompleted(known)

    saga = trip(outside(receiver, "pay", ask=ask))
    with pytest.raises(Crash):
        async with eb.SagaCoordinator(MortalStore(store, 2), [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            await handle.result()
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    assert receiver.calls == {"saga-1/pay/1": 1}


async def leave_unfinished(store, saga, saga_id="saga-1"):
    """Start a saga and die before its first step is recorded."""
    with pytest.raises(Crash):
        async with eb.SagaCoordinator(
            MortalStore(store, 2), [saga], concurrency=1
        ) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id=saga_id)
            await handle.result()


async def test_a_saga_of_an_unknown_version_is_blocked_and_listed(store, receiver):
    saga = journey(receiver, version=2)
    await leave_unfinished(store, saga)
    older = journey(receiver, version=1)
    async with eb.SagaCoordinator(store, [older]) as coordinator:
        [blocked] = await coordinator.blocked()
        assert (blocked.id, blocked.version) == ("saga-1", 2)
        assert blocked.failure.startswith("needs_code")
        with pytest.raises(eb.errors.SagaBlocked, match="needs_code"):
            await coordinator.get(older, "saga-1")
    async with eb.SagaCoordinator(store, [older, saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


async def test_the_same_version_with_other_steps_is_refused(store, receiver):
    await leave_unfinished(store, journey(receiver))
    other = trip(
        inside("book"),
        outside(receiver, "pay", kind=eb.StepKind.PIVOT),
        inside("wrap", kind=eb.StepKind.RETRIABLE),
    )
    with pytest.raises(eb.errors.GraphMismatch) as caught:
        async with eb.SagaCoordinator(store, [other]):
            pass
    assert caught.value.saga_ids == ("saga-1",)
    assert caught.value.difference == (
        "removed 'ship' (compensatable, external, with compensation)",
        "added 'wrap' (retriable, local)",
        "'pay' (compensatable, external, with compensation) became 'pay' (pivot, external)",
    )


async def test_a_finished_saga_with_other_steps_is_no_mismatch(store, receiver):
    saga = journey(receiver)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        await handle.result()
    async with eb.SagaCoordinator(store, [trip(inside("other"))]) as coordinator:
        assert await coordinator.list() == []


async def test_a_saga_that_a_bug_makes_impossible_is_blocked_and_others_go_on(
    store, receiver
):
    def broken(state, executed):
        if state.who == "mia":
            raise ZeroDivisionError("oops")
        return state

    saga = trip(inside("book", then=broken), outside(receiver, "pay"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        mia = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ben = await coordinator.start(saga, Trip("ben"), id="saga-2")
        with pytest.raises(eb.errors.SagaBlocked, match="ZeroDivisionError"):
            await mia.result()
        assert (await ben.result()).outcome is eb.SagaOutcome.COMPLETED
        assert [summary.id for summary in await coordinator.blocked()] == ["saga-1"]

    mended = trip(inside("book", then=lambda state, _: state), outside(receiver, "pay"))
    async with eb.SagaCoordinator(store, [mended]) as coordinator:
        mia = await coordinator.get(mended, "saga-1")
        assert (await mia.result()).outcome is eb.SagaOutcome.COMPLETED


async def test_a_result_that_can_no_longer_be_read_blocks_the_saga(store, receiver):
    receiver.plan |= {"ship": ["decline"], "compensate pay": ["decline"]}
    plain = {"then": None}
    saga = trip(outside(receiver, "pay", **plain), outside(receiver, "ship"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
    other = trip(
        outside(receiver, "pay", result=int, **plain), outside(receiver, "ship")
    )
    async with eb.SagaCoordinator(store, [other]) as coordinator:
        await coordinator.retry("saga-1", by="mia", note="again")
        handle = await coordinator.get(other, "saga-1")
        with pytest.raises(eb.errors.SagaBlocked):
            await handle.result()
        [summary] = await coordinator.blocked()
        assert "the result of step 'pay' can't be read back" in summary.failure


async def test_a_result_that_can_no_longer_be_folded_blocks_the_saga(store, receiver):
    saga = trip(outside(receiver, "pay"), inside("book"))
    with pytest.raises(Crash):
        async with eb.SagaCoordinator(MortalStore(store, 3), [saga]) as coordinator:
            handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
            await handle.result()
    other = trip(outside(receiver, "pay", then=lambda state, _: 1 / 0), inside("book"))
    async with eb.SagaCoordinator(store, [other]) as coordinator:
        [summary] = await coordinator.blocked()
        assert "step 'pay' can't be folded (ZeroDivisionError" in summary.failure
    assert (await records(store, "saga-1"))[-2:] == ["step_succeeded", "blocked"]


async def test_a_stream_with_a_foreign_record_is_blocked(store, receiver):
    saga = journey(receiver)
    await leave_unfinished(store, saga)
    await store.append([("saga-1", "not.of-a-saga", b"{}")])
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        [blocked] = await coordinator.blocked()
        assert "not.of-a-saga" in blocked.failure


# --- two coordinators -----------------------------------------------------------------


async def test_two_coordinators_bring_a_saga_to_one_end(store, receiver):
    """Each notices the other's records, and no effect happens twice."""
    saga = journey(receiver)
    async with (
        eb.SagaCoordinator(store, [saga]) as one,
        eb.SagaCoordinator(store, [saga]) as two,
    ):
        for n in range(10):
            first = await one.start(saga, Trip("mia"), id=f"saga-{n}")
            second = await two.start(saga, Trip("mia"), id=f"saga-{n}")
            assert await first.result() == await second.result()
    assert len(receiver.effects) == 20
    for n in range(10):
        assert await notes(store, f"saga-{n}") == ["book", "pay", "ship"]


async def test_a_conflict_on_the_stream_makes_the_saga_plan_anew(store, receiver):
    gate = Gate(receiver)
    saga = trip(gate.step(), outside(receiver, "ship"))
    async with (
        eb.SagaCoordinator(store, [saga]) as one,
        eb.SagaCoordinator(store, [saga]) as two,
    ):
        handle = await one.start(saga, Trip("mia"), id="saga-1")
        await gate.entered.wait()
        await two.cancel("saga-1", reason="by the other one")
        gate.opened.set()
        end = await handle.result()
    assert end.outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.standing() == []
    assert "ship" not in receiver.log


# --- at once --------------------------------------------------------------------------


async def test_starting_at_the_same_time_starts_once(store, receiver):
    saga = journey(receiver)
    handles = []
    async with eb.SagaCoordinator(store, [saga]) as coordinator:

        async def start():
            handles.append(await coordinator.start(saga, Trip("mia"), id="saga-1"))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(start)
        ends = {(await handle.result()).outcome for handle in handles}
        assert await coordinator.list() == []
    assert ends == {eb.SagaOutcome.COMPLETED}
    assert receiver.calls == {"saga-1/pay/1": 1, "saga-1/ship/1": 1}
    assert "step_unknown" not in await records(store, "saga-1")


async def test_a_bug_in_what_is_skipped_blocks_the_saga(store, receiver):
    def broken(state):
        if state.who == "mia":
            raise ZeroDivisionError("oops")

    saga = trip(inside("book"), outside(receiver, "pay", skip_if=broken))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        mia = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ben = await coordinator.start(saga, Trip("ben"), id="saga-2")
        with pytest.raises(eb.errors.SagaBlocked, match="ZeroDivisionError: oops"):
            await mia.result()
        assert (await ben.result()).outcome is eb.SagaOutcome.COMPLETED
    # The bug in the second step doesn't hold back the first one.
    assert await records(store, "saga-1") == ["started", "step_succeeded", "blocked"]
    assert await notes(store, "saga-1") == ["book"]


async def test_two_people_may_decide_at_the_same_time(store, receiver):
    receiver.plan |= {"ship": ["decline"], "compensate pay": ["decline", "ok"]}
    saga = journey(receiver)
    async with (
        eb.SagaCoordinator(store, [saga]) as one,
        eb.SagaCoordinator(store, [saga]) as two,
    ):
        handle = await one.start(saga, Trip("mia"), id="saga-1")
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
        await two.get(saga, "saga-1")
        await one.retry("saga-1", by="mia", note="first")
        await handle.result()
        with pytest.raises(eb.errors.InvalidTransition, match="must be stuck"):
            await two.retry("saga-1", by="ben", note="second")
    assert (await records(store, "saga-1")).count("retried_by_hand") == 1
