"""The end of an attempt is only its own, and waiters are always released.

The hazard: an action cancels its own task, or raises something outside of `Exception`;
the task group takes that for its own end, and all sagas stop without an error, while
those who wait for their results wait for ever.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga.coordination._wakeup import Wakeup
from tests.saga_kit import (
    MINUTE,
    QUICK,
    SECOND,
    SLEEPY,
    MortalStore,
    Receiver,
    Trip,
    inside,
    note,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio
SOON = MINUTE
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Odd(BaseException):
    """Raised by a library that thinks little of `Exception`."""


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


def acting(act, name: str = "act", **options):
    """A saga whose single action is a function; "ben" isn't harmed by it."""

    async def action(context: eb.StepContext[Trip]) -> str:
        if context.state.who == "ben":
            await anyio.sleep(0.1)
        else:
            await act()
        return "done"

    options.setdefault("retry", QUICK)
    step = eb.step(name, action, timeout=MINUTE, **options)
    return trip(step.without_compensation(), name=name)


async def ends_beside_another(store, saga) -> eb.SagaOutcome:
    """Run a saga in trouble beside one without, which completes all the same."""
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        good = await coordinator.start(saga, Trip("ben"), id="saga-good")
        bad = await coordinator.start(saga, Trip("mia"), id="saga-bad")
        ended = await bad.result(timeout=SOON)
        assert (await good.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED
        later = await coordinator.start(saga, Trip("ben"), id="saga-later")
        assert (await later.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED
    return ended.outcome


# --- exceptions outside of Exception --------------------------------------------------


@pytest.mark.parametrize("error", [Odd, GeneratorExit, asyncio.CancelledError])
async def test_a_base_exception_ends_its_own_attempt_only(store, error):
    async def act():
        raise error

    outcome = await ends_beside_another(store, acting(act))
    assert outcome is eb.SagaOutcome.COMPENSATED


async def test_a_base_exception_can_be_a_refusal(store):
    async def act():
        raise Odd

    saga = acting(act, refusals=(Odd,))
    assert await ends_beside_another(store, saga) is eb.SagaOutcome.COMPENSATED


async def test_a_group_of_base_exceptions_ends_its_own_attempt_only(store):
    async def fail():
        raise Odd

    async def act():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)

    assert await ends_beside_another(store, acting(act)) is eb.SagaOutcome.COMPENSATED


@asyncio_only
@pytest.mark.parametrize("cancels_itself", [False, True])
async def test_a_group_with_a_cancellation_ends_its_own_attempt_only(
    store, cancels_itself
):
    async def act():
        if cancels_itself:
            await suicide()
        raise BaseExceptionGroup("two", [asyncio.CancelledError(), Odd()])

    with anyio.fail_after(60):
        outcome = await ends_beside_another(store, acting(act))
    assert outcome is eb.SagaOutcome.COMPENSATED


@pytest.mark.parametrize("proves", [False, True])
async def test_a_group_of_any_depth_ends_its_own_attempt_only(store, proves):
    attempts = []

    async def act():
        attempts.append(1)
        error: Exception = OSError("deep inside")
        for _ in range(3_000):
            error = ExceptionGroup("one more level", [error])
        raise error

    retry = eb.RetryPolicy(maximum_attempts=2, initial_delay=0.001 * SECOND)
    saga = acting(act, retry=retry, refusals=(OSError,) * proves)
    outcome = await ends_beside_another(store, saga)
    assert outcome is eb.SagaOutcome.COMPENSATED
    assert len(attempts) == (1 if proves else 2)


async def test_an_exception_whose_text_raises_anything_ends_its_own_attempt_only(store):
    class Speechless(Exception):
        def __str__(self) -> str:
            raise Odd

    async def act():
        raise Speechless

    assert await ends_beside_another(store, acting(act)) is eb.SagaOutcome.COMPENSATED


async def test_a_base_exception_of_then_at_a_resume_blocks_its_own_saga_only(store):
    """The next coordinator folds the results again, and must not end by it."""
    receiver = Receiver(plan={"wait": ["stall"]})
    has_bug = False

    def then(state: Trip, _: str) -> Trip:
        if has_bug:
            raise Odd
        return state

    receiver.plan["wait"] = ["drop", "ok"]
    saga = trip(
        outside(receiver, "pay", then=then), outside(receiver, "wait", retry=SLEEPY)
    )
    other = acting(anyio.lowlevel.checkpoint, name="other")
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await coordinator.start(saga, Trip("mia"), id="saga-bad")
        with anyio.fail_after(60):
            while "step_unknown" not in await records(store, "saga-bad"):  # noqa: ASYNC110
                await anyio.sleep(0.005)
    has_bug = True
    async with eb.SagaCoordinator(store, [saga, other]) as coordinator:
        good = await coordinator.start(other, Trip("mia"), id="saga-good")
        assert (await good.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED
        assert [one.id for one in await coordinator.blocked()] == ["saga-bad"]


async def test_an_observer_that_raises_a_base_exception_stops_the_coordinator(store):
    """The commit stands, so it is no defect of the step."""

    def watch(progress: eb.saga.SagaProgress) -> None:
        if progress.what == "saga.step_succeeded":
            raise Odd

    saga = trip(inside("book"), outside(Receiver(), "pay"))
    with pytest.raises(eb.errors.CoordinatorClosed, match="on_event raised Odd"):
        async with eb.SagaCoordinator(store, [saga], on_event=watch) as coordinator:
            await coordinator.start(saga, Trip("mia"), id="saga-1")
            await anyio.sleep(10)
    assert "blocked" not in await records(store, "saga-1")


@pytest.mark.parametrize("where", ["then", "record", "skip_if", "command"])
async def test_a_base_exception_of_a_function_blocks_its_own_saga_only(store, where):
    def function(first, *_):
        who = first.who if isinstance(first, Trip) else first.state.who
        if who == "mia":
            raise Odd
        return {"then": first, "skip_if": None}.get(where) or _note(first)

    def _note(context):
        from tests.saga_kit import note

        return None if where == "skip_if" else note("x")(context)

    if where == "command":
        step = eb.local_step("act", function).without_compensation()
    else:
        step = outside(Receiver(), "act", **{where: function})
    saga = trip(step)
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        bad = await coordinator.start(saga, Trip("mia"), id="saga-bad")
        good = await coordinator.start(saga, Trip("ben"), id="saga-good")
        with pytest.raises(eb.errors.SagaBlocked, match="Odd"):
            await bad.result(timeout=SOON)
        assert (await good.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED


async def test_a_base_exception_of_a_compensation_ends_its_own_attempt_only(store):
    calls = []

    async def pay(context: eb.StepContext[Trip]) -> str:
        return "paid"

    async def compensate(context, did):
        calls.append(context.attempt)
        if len(calls) < 3:
            raise Odd

    step = eb.step("pay", pay, timeout=MINUTE).compensated_by(compensate, retry=QUICK)
    saga = trip(step, inside("book", unless="sold_out"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert calls == [1, 2, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["action", "command"])
async def test_an_interruption_ends_the_coordinator_and_releases_its_waiters(
    store, error, where
):
    release = anyio.Event()
    released: list[BaseException] = []

    async def act():
        await release.wait()
        raise error

    def make(context):
        raise error

    slow = acting(anyio.sleep_forever, name="slow")
    ending = acting(act, name="ending")
    if where == "command":
        ending = trip(eb.local_step("x", make).without_compensation(), name="ending")

    async def wait(handle) -> None:
        try:
            await handle.result()
        except eb.errors.CoordinatorClosed as closed:
            released.append(closed)

    async with anyio.create_task_group() as tasks:
        with pytest.raises(error):
            async with eb.SagaCoordinator(store, [slow, ending]) as coordinator:
                handle = await coordinator.start(slow, Trip("mia"), id="saga-slow")
                tasks.start_soon(wait, handle)
                await anyio.wait_all_tasks_blocked()
                await coordinator.start(ending, Trip("mia"), id="saga-ending")
                release.set()
                await anyio.sleep_forever()
    [closed] = released
    assert type(closed.__cause__) is error


# --- cancellations --------------------------------------------------------------------


async def suicide() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@asyncio_only
async def test_an_action_that_cancels_its_own_task_ends_its_own_attempt_only(store):
    async def act():
        await suicide()
        await asyncio.sleep(1)

    assert await ends_beside_another(store, acting(act)) is eb.SagaOutcome.COMPENSATED


@asyncio_only
async def test_an_action_that_returns_after_it_cancelled_its_task_has_succeeded(store):
    saga = acting(suicide)
    assert await ends_beside_another(store, saga) is eb.SagaOutcome.COMPLETED


@asyncio_only
async def test_an_action_that_swallows_its_own_cancellation_has_succeeded(store):
    async def act():
        await suicide()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return

    assert await ends_beside_another(store, acting(act)) is eb.SagaOutcome.COMPLETED


@asyncio_only
@pytest.mark.parametrize("delay", [0.0, 0.001, 0.02, 0.05, 0.1])
async def test_a_late_cancellation_of_a_sagas_task_does_not_end_the_saga(store, delay):
    """As by a home-made timeout that nobody called off."""

    async def act():
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(delay, task.cancel)

    receiver = Receiver(plan={"pay": ["drop", "drop", "ok"]})
    retry = eb.RetryPolicy(
        maximum_attempts=3, initial_delay=0.05 * SECOND, jitter="none"
    )

    async def action(context: eb.StepContext[Trip]) -> str:
        await act()
        return "done"

    first = eb.step("act", action, timeout=MINUTE, retry=retry).without_compensation()
    saga = trip(first, outside(receiver, "pay", retry=retry), inside("pack"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result(timeout=SOON)
        assert ended.outcome in {eb.SagaOutcome.COMPLETED, eb.SagaOutcome.COMPENSATED}
        other = await coordinator.start(saga, Trip("ben"), id="saga-2")
        await other.result(timeout=SOON)


def cancel_tasks_except(*kept: asyncio.Task[object] | None) -> None:
    for task in asyncio.all_tasks():
        if task not in kept:
            task.cancel()


@asyncio_only
async def test_an_action_that_cancels_all_other_tasks_stops_no_saga(store, monkeypatch):
    """The coordinator's own tasks included: it goes on to follow the log."""
    others, ends = asyncio.all_tasks(), []
    at_rest = set()
    wait = Wakeup.wait

    async def noted_wait(wakeup, *arguments):
        at_rest.add(wakeup)
        try:
            await wait(wakeup, *arguments)
        finally:
            at_rest.discard(wakeup)

    async def act():
        # Cancelled in the middle of its work, a coordinator ends with an error.
        while len(at_rest) < 2:  # noqa: ASYNC110
            await anyio.sleep(0.002)
        cancel_tasks_except(*others, asyncio.current_task())

    monkeypatch.setattr(Wakeup, "wait", noted_wait)
    saga = acting(act)
    async with (
        eb.SagaCoordinator(store, [saga]) as other,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        good = await coordinator.start(saga, Trip("ben"), id="saga-good")
        bad = await coordinator.start(saga, Trip("mia"), id="saga-bad")
        assert (await bad.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED
        assert (await good.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED
        # They are recorded by one coordinator, and most are found by the other.
        later = [
            await starter.start(saga, Trip("ben"), id=f"saga-{number}")
            for number, starter in enumerate([coordinator, other] * 8)
        ]
        ends = [(await handle.result(timeout=SOON)).outcome for handle in later]
    # A block that is cut off in silence gets no further than to its first wait.
    assert ends == [eb.SagaOutcome.COMPLETED] * 16


class CancellingStore(MortalStore):
    """A store in the middle of whose `head` the task that asks is cancelled once."""

    armed = False

    async def head(self):
        if self.armed:
            self.armed = False
            await suicide()
        return await self._store.head()


@asyncio_only
async def test_a_coordinator_whose_work_was_cut_off_ends_with_an_error(store):
    """It may have forgotten a saga, so it doesn't go on as if nothing had happened."""
    cancelling = CancellingStore(store)
    saga = acting(suicide)
    with pytest.raises(
        eb.errors.CoordinatorClosed, match="was cancelled by other code"
    ):
        async with eb.SagaCoordinator(cancelling, [saga]):
            cancelling.armed = True
            await store.append([("order-1", "placed", b"")])
            await anyio.sleep(SOON.total_seconds())


@asyncio_only
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_a_coordinator_whose_new_task_is_cancelled_ends_with_an_error(store):
    slow = acting(anyio.sleep_forever)
    released = []

    async def wait(handle) -> None:
        try:
            await handle.result()
        except eb.errors.CoordinatorClosed as closed:
            released.append(closed)

    async with anyio.create_task_group() as tasks:
        with pytest.raises(
            eb.errors.CoordinatorClosed, match="was cancelled by other code"
        ):
            async with eb.SagaCoordinator(store, [slow]) as coordinator:
                handle = await coordinator.start(slow, Trip("mia"), id="saga-1")
                tasks.start_soon(wait, handle)
                await anyio.wait_all_tasks_blocked()
                before = asyncio.all_tasks()
                await coordinator.start(slow, Trip("mia"), id="saga-2")
                cancel_tasks_except(*before)
                await anyio.sleep(SOON.total_seconds())
    assert len(released) == 1
    gc.collect()  # The task never began: Python reports that, here and not later.


@asyncio_only
async def test_a_command_that_cancels_its_own_task_stops_no_other_saga(store):
    """It does so at each move, so the moves follow each other after pauses."""
    moves = []

    def make(context: eb.StepContext[Trip]):
        moves.append(context)
        task = asyncio.current_task()
        assert task is not None
        if context.state.who == "mia":
            task.cancel()
        return note("x")(context)

    saga = trip(eb.local_step("book", make).without_compensation())
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await coordinator.start(saga, Trip("mia"), id="saga-bad")
        good = await coordinator.start(saga, Trip("ben"), id="saga-good")
        assert (await good.result(timeout=SOON)).outcome is eb.SagaOutcome.COMPLETED
        await anyio.sleep(0.3)
        assert 2 <= len(moves) < 20


@asyncio_only
async def test_a_compensation_that_cancels_its_own_task_is_tried_again(store):
    calls = []

    async def pay(context: eb.StepContext[Trip]) -> str:
        return "paid"

    async def compensate(context, did):
        calls.append(context.attempt)
        if len(calls) < 3:
            await suicide()
            await asyncio.sleep(1)

    step = eb.step("pay", pay, timeout=MINUTE).compensated_by(compensate, retry=QUICK)
    saga = trip(step, inside("book", unless="sold_out"))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result(timeout=SOON)
    assert ended.outcome is eb.SagaOutcome.COMPENSATED
    assert calls == [1, 2, 3]


async def test_a_cancellation_that_left_its_scope_ends_its_own_attempt_only(store):
    async def act():
        kept: BaseException | None = None
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.lowlevel.checkpoint()
            except anyio.get_cancelled_exc_class() as error:
                kept = error
        assert kept is not None
        raise kept

    assert await ends_beside_another(store, acting(act)) is eb.SagaOutcome.COMPENSATED


@asyncio_only
async def test_a_cancelled_block_still_ends_with_its_cancellation(store):
    saga = acting(anyio.sleep_forever)
    entered = asyncio.Event()

    async def serve():
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.start(saga, Trip("mia"), id="saga-1")
            entered.set()
            await asyncio.sleep(60)

    service = asyncio.create_task(serve())
    await entered.wait()
    service.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(service, timeout=60)


async def test_a_call_that_is_cancelled_with_its_coordinator_leaves_nothing_stuck(
    store,
):
    """As with a deployment that cancels the block, again and again."""
    calls = []
    is_over = anyio.Event()

    async def act():
        calls.append(1)
        await is_over.wait()

    saga = acting(act)
    for number in range(8):
        with anyio.CancelScope() as scope:
            async with eb.SagaCoordinator(store, [saga]) as coordinator:
                await coordinator.start(saga, Trip("mia"), id="saga-1")
                with anyio.fail_after(60):
                    while len(calls) <= number:  # noqa: ASYNC110 - no event tells
                        await anyio.sleep(0.002)
                scope.cancel()
    is_over.set()
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.get(saga, "saga-1")
        assert (await handle.result(timeout=MINUTE)).outcome is (
            eb.SagaOutcome.COMPLETED
        )


PROGRAM = """
    import asyncio, sys
    from datetime import timedelta
    import eventbraid as eb

    async def act(context: eb.StepContext[int]) -> None:
        await asyncio.sleep(60)

    step = eb.step("act", act, timeout=timedelta(minutes=2)).without_compensation()
    saga = eb.Saga("s", int, steps=[step])

    async def main():
        store = await eb.open_async("memory:").__aenter__()
        coordinator = eb.SagaCoordinator(store, [saga])
        await coordinator.__aenter__()
        await coordinator.start(saga, 1, id="saga-1")
        await asyncio.sleep(0.1)
        print("leaving", flush=True)
        if sys.argv[1] == "exit":
            sys.exit(3)

    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["return", "exit"])
def test_a_loop_that_is_shut_down_ends_a_coordinator_that_was_never_left(how):
    program = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), how],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert program.stdout == "leaving\n"
    assert program.returncode == (3 if how == "exit" else 0), program.stderr
