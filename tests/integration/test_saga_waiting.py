"""Who waits for a saga at one coordinator learns what became of it at another one.

Two openings of one store, as two processes have them. The hazards: somebody who waits for
ever, because only the coordinator that has the shard knows that it can't go on; and
somebody who is told that a saga can't go on when it does.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga.machine._events import SagaNeedsAttention
from eventbraid.saga.running._shard_mapping import SHARDS
from tests.saga_kit import (
    MINUTE,
    SLEEPY,
    Receiver,
    Trip,
    inside,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio
IDS = [f"saga-{n}" for n in range(40)]
# Seconds: the bound of what happens at once; what fails lasts for an hour.
SOON = 60
A_WHILE = timedelta(seconds=0.4)


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
async def openings(tmp_path):
    async with (
        eb.open_async(tmp_path / "store") as one,
        eb.open_async(tmp_path / "store") as two,
    ):
        yield one, two


@dataclass
class Pair:
    """Two coordinators, and which ids are in the shards of the first."""

    one: eb.SagaCoordinator
    two: eb.SagaCoordinator

    async def shared(self) -> None:
        with anyio.fail_after(SOON):
            while not self._has_half(self.one) or not self._has_half(self.two):  # noqa: ASYNC110 - no event tells
                await anyio.sleep(0.005)

    def _has_half(self, coordinator) -> bool:
        return len(coordinator._parts.state.shards.held) == SHARDS // 2

    def ids_of(self, coordinator) -> list[str]:
        return [name for name in IDS if coordinator._parts.state.shards.lease_for(name)]


@pytest.fixture
def sick():
    """What makes every coordinator fail to plan the sagas of this test."""
    return {"mia"}


def journey(receiver, sick=(), **options):
    def is_skipped(state):
        if state.who in sick:
            raise ZeroDivisionError("oops")

    return trip(inside("book"), outside(receiver, "pay", skip_if=is_skipped), **options)


async def blocked_at(store, number: int) -> None:
    """Wait until so many notices stand in the log."""
    with anyio.fail_after(SOON):
        while await store.version("saga-attention") < number:  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def notices(store) -> list[SagaNeedsAttention]:
    return [eb.decode_event(r) async for r in store.read_stream("saga-attention")]


async def test_a_saga_that_its_owner_blocks_is_known_wherever_it_is_waited_for(
    openings, receiver, sick
):
    saga = journey(receiver, sick)
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as one,
        eb.SagaCoordinator(openings[1], [saga]) as two,
    ):
        pair = Pair(one, two)
        await pair.shared()
        for owner, other in ((one, two), (two, one)):
            saga_id = pair.ids_of(owner)[0]
            handle = await other.start(saga, Trip("mia"), id=saga_id)
            with (
                anyio.fail_after(SOON),
                pytest.raises(eb.errors.SagaBlocked) as elsewhere,
            ):
                await handle.result()
            assert "ZeroDivisionError: oops" in elsewhere.value.reason
            [summary] = await owner.blocked()
            assert (summary.id, summary.failure) == (saga_id, elsewhere.value.reason)
            # It is no end: the defect is recorded, and the saga goes on after it.
            assert (await records(openings[0], saga_id))[-1] == "blocked"
            told = (await notices(openings[0]))[-1]
            assert (told.saga_id, told.saga, told.step) == (saga_id, "trip", "pay")


async def test_who_waits_before_its_coordinator_gets_the_shard_and_blocks_it(
    openings, receiver
):
    """The owner goes, and the new owner is the one where it is waited for."""
    broken = []

    def folded(state, _):
        if broken:
            raise ZeroDivisionError("oops")
        return state

    receiver.plan = {"pay": ["drop"]}
    saga = trip(inside("book", then=folded), outside(receiver, "pay", retry=SLEEPY))
    async with eb.SagaCoordinator(openings[1], [saga]) as waiting:
        async with eb.SagaCoordinator(openings[0], [saga]) as leaving:
            pair = Pair(leaving, waiting)
            await pair.shared()
            saga_id = pair.ids_of(leaving)[0]
            handle = await waiting.start(saga, Trip("mia"), id=saga_id)
            with anyio.fail_after(SOON):
                while "step_unknown" not in await records(openings[1], saga_id):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            broken.append("now")
        with anyio.fail_after(SOON), pytest.raises(eb.errors.SagaBlocked, match="oops"):
            await handle.result()


async def test_who_comes_later_learns_of_a_saga_that_was_blocked_before(
    openings, receiver, sick
):
    saga = journey(receiver, sick)
    async with eb.SagaCoordinator(openings[0], [saga]) as owner:
        for saga_id in IDS:
            await owner.start(saga, Trip("mia"), id=saga_id)
        await blocked_at(openings[0], len(IDS))
        async with eb.SagaCoordinator(openings[1], [saga]) as later:
            pair = Pair(owner, later)
            await pair.shared()
            for saga_id in pair.ids_of(owner)[:3]:
                handle = await later.get(saga, saga_id)
                with (
                    anyio.fail_after(SOON),
                    pytest.raises(eb.errors.SagaBlocked, match="oops"),
                ):
                    await handle.result()


async def test_a_blocked_saga_that_a_new_owner_can_drive_is_waited_for_again(
    openings, receiver
):
    saga, defective = journey(receiver), journey(receiver, {"mia"})
    async with eb.SagaCoordinator(openings[1], [saga]) as new:
        async with eb.SagaCoordinator(openings[0], [defective]) as old:
            pair = Pair(old, new)
            await pair.shared()
            handle = await new.start(saga, Trip("mia"), id=pair.ids_of(old)[0])
            with (
                anyio.fail_after(SOON),
                pytest.raises(eb.errors.SagaBlocked, match="oops"),
            ):
                await handle.result()
        with anyio.fail_after(SOON):
            while not handle.status.ended:  # noqa: ASYNC110 - no event tells
                await anyio.sleep(0.005)
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


async def test_a_blocked_saga_that_a_third_one_can_drive_is_waited_for_again(
    openings, receiver
):
    """It is at work there, and the one where it is waited for isn't told of steps."""
    receiver.plan = {"pay": ["drop"]}
    saga, defective = (
        trip(
            inside("book"),
            outside(receiver, "pay", retry=SLEEPY, skip_if=skip_if),
        )
        for skip_if in (lambda _: None, lambda _: 1 / 0)
    )
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as able,
        eb.SagaCoordinator(openings[1], [saga]) as waiting,
    ):
        pair = Pair(able, waiting)
        await pair.shared()
        async with eb.SagaCoordinator(openings[0], [defective]) as old:
            with anyio.fail_after(SOON):
                while len(old._parts.state.shards.held) < SHARDS // 3:  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            handles = [
                await waiting.start(saga, Trip("mia"), id=saga_id)
                for saga_id in pair.ids_of(old)
            ]
            for handle in handles:
                with (
                    anyio.fail_after(SOON),
                    pytest.raises(eb.errors.SagaBlocked, match="division"),
                ):
                    await handle.result()
        await pair.shared()
        elsewhere = [h for h in handles if h.id in pair.ids_of(able)]
        assert elsewhere
        for handle in elsewhere:
            with anyio.fail_after(SOON):
                while "step_unknown" not in await records(openings[1], handle.id):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
        with pytest.raises(TimeoutError):
            await elsewhere[0].result(timeout=A_WHILE)


async def test_a_notice_from_before_the_shard_was_taken_says_nothing(
    openings, receiver
):
    """Its new owner drives it, and has nothing to record for a minute."""
    receiver.plan = {"pay": ["drop"]}
    saga = trip(inside("book"), outside(receiver, "pay", retry=SLEEPY))
    async with eb.SagaCoordinator(openings[0], [saga]) as first:
        for saga_id in IDS:
            await first.start(saga, Trip("mia"), id=saga_id)
        with anyio.fail_after(SOON):
            for saga_id in IDS:
                while "step_unknown" not in await records(openings[0], saga_id):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
    for saga_id in IDS:
        notice = SagaNeedsAttention(saga_id, "trip", "pay", "needs_code")
        await openings[0].append([eb.new_event("saga-attention", notice)])
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as owner,
        eb.SagaCoordinator(openings[1], [saga]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        handle = await other.get(saga, pair.ids_of(owner)[0])
        with pytest.raises(TimeoutError):
            await handle.result(timeout=A_WHILE)


async def test_a_stuck_saga_that_goes_on_is_not_taken_for_a_blocked_one(
    openings, receiver
):
    """The notice that it was stuck is the newest, but the saga has moved since."""
    receiver.plan = {"ship": ["decline"], "compensate pay": ["decline", "stall"]}
    saga = trip(
        outside(
            receiver,
            "pay",
            compensation_retry=SLEEPY,
        ),
        outside(receiver, "ship"),
    )
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as owner,
        eb.SagaCoordinator(openings[1], [saga]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        saga_id = pair.ids_of(owner)[0]
        handle = await other.start(saga, Trip("mia"), id=saga_id)
        with anyio.fail_after(SOON):
            assert (await handle.result()).outcome is eb.SagaOutcome.STUCK
        # The next one who waits knows nothing of it.
        del handle
        with anyio.fail_after(SOON):
            while saga_id in other._parts.state.registry._elsewhere:
                gc.collect()
                await anyio.sleep(0.005)
        await owner.retry(saga_id, by="mia", note="again")
        with anyio.fail_after(SOON):
            while receiver.calls[f"{saga_id}/pay/2/compensation"] < 1:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        late = await other.get(saga, saga_id)
        with pytest.raises(TimeoutError):
            await late.result(timeout=A_WHILE)


async def test_a_blocked_saga_is_compensated_on_a_request_made_elsewhere(
    openings, receiver, sick
):
    """Its owner looks at it again, and to compensate it there is no plan to make."""
    saga = trip(outside(receiver, "pay"), inside("book", skip_if=lambda state: 1 / 0))
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as owner,
        eb.SagaCoordinator(openings[1], [saga]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        handle = await other.start(saga, Trip("mia"), id=pair.ids_of(owner)[0])
        with (
            anyio.fail_after(SOON),
            pytest.raises(eb.errors.SagaBlocked, match="division"),
        ):
            await handle.result()
        own = await owner.get(saga, handle.id)
        with (
            anyio.fail_after(SOON),
            pytest.raises(eb.errors.SagaBlocked, match="division"),
        ):
            await own.result()
        await other.cancel(handle.id, reason="it can't go on")
        with anyio.fail_after(SOON):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
            while not own.status.ended:  # noqa: ASYNC110 - no event tells
                await anyio.sleep(0.005)
            assert (await own.result()).outcome is eb.SagaOutcome.COMPENSATED
        assert await owner.blocked() == []


async def test_an_error_that_no_notice_could_hold_is_told_as_far_as_it_goes(
    openings, receiver
):
    """Telling of one saga mustn't stop the coordinator of all."""

    def broken(_):
        raise ValueError("\ud800" + "x" * 50_000_000)

    saga = trip(inside("book"), inside("pack", skip_if=broken))
    well = trip(inside("book"), name="well")
    async with eb.SagaCoordinator(openings[0], [saga, well]) as owner:
        handle = await owner.start(saga, Trip("mia"), id="saga-1")
        with (
            anyio.fail_after(SOON),
            pytest.raises(eb.errors.SagaBlocked, match="ValueError"),
        ):
            await handle.result()
        await blocked_at(openings[1], 1)
        handle = await owner.start(well, Trip("mia"), id="saga-2")
        with anyio.fail_after(SOON):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
    [notice] = await notices(openings[1])
    assert "ValueError: \\ud800xxx" in notice.reason
    assert len(notice.reason) < 5_000


async def test_a_blocked_saga_is_told_once_however_often_it_is_asked_for(
    openings, receiver, sick
):
    saga = journey(receiver, sick)
    async with eb.SagaCoordinator(openings[0], [saga]) as owner:
        for n in range(5):
            for saga_id in ("saga-asked", IDS[n]):
                handle = await owner.start(saga, Trip("mia"), id=saga_id)
                with (
                    anyio.fail_after(SOON),
                    pytest.raises(eb.errors.SagaBlocked, match="oops"),
                ):
                    await handle.result()
            # Told after all that was blocked before it.
            await blocked_at(openings[1], n + 2)
    told = [notice.saga_id for notice in await notices(openings[1])]
    assert sorted(told) == sorted(["saga-asked", *IDS[:5]])


class SlowForACaller:
    """A store that is slow to read a saga's stream for one task, the caller's.

    The read returns only after `go_on` is set. While the caller's task is noted, the
    log follower reads the log only after that read.

    Attributes:
        caller: The id of the task; None if no read is slow.
        after: The type of the record that the read must return.
    """

    def __init__(self, store, after):
        self._store = store
        self.after = after
        self.caller = None
        self.has_read = anyio.Event()
        self.go_on = anyio.Event()

    def _is_of_caller(self):
        return anyio.get_current_task().id == self.caller

    async def version(self, stream):
        # The caller reads the stream only if it has grown: wait until it has.
        while self._is_of_caller() and await self._store.version(stream) < 2:  # noqa: ASYNC110 - no event for it
            await anyio.sleep(0.001)
        return await self._store.version(stream)

    async def read_stream(self, stream, **options):
        found = [read async for read in self._store.read_stream(stream, **options)]
        types = {read.type for read in found}
        if self._is_of_caller() and self.after in types:
            self.has_read.set()
            await self.go_on.wait()
        for read in found:
            yield read

    async def read_all(self, **options):
        if self.caller is not None:
            await self.has_read.wait()
        async for read in self._store.read_all(**options):
            yield read

    def __getattr__(self, name):
        return getattr(self._store, name)


class Held:
    """A saga whose action waits until it may end."""

    def __init__(self):
        self.entered = anyio.Event()
        self.opened = anyio.Event()

    def saga(self):
        async def act(_: eb.StepContext[Trip]) -> None:
            self.entered.set()
            await self.opened.wait()

        step = eb.step("wait", act, timeout=MINUTE).without_compensation()
        return trip(inside("book"), step, inside("last"))


async def test_a_saga_whose_shard_arrives_during_its_start_is_driven(openings):
    """No other coordinator is left, and no further record of the log leads to it."""
    held = Held()
    saga = held.saga()
    slow = SlowForACaller(openings[0], "saga.started")
    ends = []
    async with (
        eb.SagaCoordinator(slow, [saga]) as one,
        anyio.create_task_group() as tasks,
    ):

        async def start(saga_id):
            slow.caller = anyio.get_current_task().id
            handle = await one.start(saga, Trip("mia"), id=saga_id)
            ends.append((await handle.result()).outcome)

        with anyio.fail_after(SOON):
            async with eb.SagaCoordinator(openings[1], [saga]) as two:
                pair = Pair(one, two)
                await pair.shared()
                tasks.start_soon(start, pair.ids_of(two)[0])
                await slow.has_read.wait()
                await held.entered.wait()
                held.opened.set()
            while not await has_all(one, openings[0]):  # noqa: ASYNC110 - no event for it
                await anyio.sleep(0.005)
            slow.go_on.set()
            while not ends:  # noqa: ASYNC110 - the test's own list
                await anyio.sleep(0.005)
    assert ends == [eb.SagaOutcome.COMPLETED]


async def has_all(coordinator, store) -> bool:
    """Return whether a coordinator is alone, has all shards and has read the log."""
    parts = coordinator._parts
    is_alone = not parts.state.live.has_others
    has_shards = len(parts.state.shards.held) == SHARDS
    return is_alone and has_shards and parts.follower.position == await store.head()


async def test_a_slow_read_for_a_caller_does_not_undo_later_records(openings):
    """The read is overtaken: its coordinator gets the shard and ends the saga."""
    held = Held()
    saga = held.saga()
    slow = SlowForACaller(openings[0], "saga.compensation_started")
    async with (
        eb.SagaCoordinator(slow, [saga]) as one,
        anyio.create_task_group() as tasks,
    ):

        async def cancel(saga_id):
            slow.caller = anyio.get_current_task().id
            await one.cancel(saga_id, reason="no")
            slow.caller = None

        with anyio.fail_after(SOON):
            async with eb.SagaCoordinator(openings[1], [saga]) as two:
                pair = Pair(one, two)
                await pair.shared()
                saga_id = pair.ids_of(two)[0]
                handle = await one.start(saga, Trip("mia"), id=saga_id)
                await held.entered.wait()
                tasks.start_soon(cancel, saga_id)
                await slow.has_read.wait()
                held.opened.set()
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
            slow.go_on.set()
            while slow.caller is not None:  # noqa: ASYNC110 - the test's own flag
                await anyio.sleep(0.005)
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
