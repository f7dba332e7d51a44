"""What coordinators tell each other of blocked sagas holds when they meet at bad moments.

The hazards: one record that can't be read, which stops a coordinator of many sagas; a
notice that comes too late, is lost, or is believed after the saga has moved on.
"""

from __future__ import annotations

from random import Random

import anyio
import pytest

import eventbraid as eb
from eventbraid.lease._state import released
from eventbraid.saga.coordination import _attention_notices as _notices
from eventbraid.saga.machine._decider import decide_without_declaration
from eventbraid.saga.machine._events import SagaNeedsAttention
from eventbraid.saga.machine._outcomes import CancelRequest
from tests.integration.test_saga_waiting import (
    A_WHILE,
    IDS,
    SOON,
    Pair,
    blocked_at,
    notices,
)
from tests.saga_kit import (
    HOUR,
    SECOND,
    SLEEPY,
    Receiver,
    Trip,
    inside,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio
UNREADABLE = ("saga.newer_thing", b"{}")
ATTENTION_JUNK = ("saga-attention", "saga.needs_attention", b"{}")


@pytest.fixture
async def openings(tmp_path):
    async with (
        eb.open_async(tmp_path / "store") as one,
        eb.open_async(tmp_path / "store") as two,
    ):
        yield one, two


def sleeper(retry: eb.RetryPolicy = SLEEPY):
    """A saga that waits for its second attempt to pay."""
    receiver = Receiver()
    receiver.plan = {"pay": ["drop"]}
    return trip(inside("book"), outside(receiver, "pay", retry=retry))


async def recorded_of(store, saga_id: str, what: str) -> None:
    with anyio.fail_after(SOON):
        while what not in await records(store, saga_id):  # noqa: ASYNC110
            await anyio.sleep(0.005)


class Held:
    """A call whose answers are held back until the gate is open.

    Attributes:
        call: What is called.
        gate: Lets the answers through.
        held: How many answers were held back.
    """

    def __init__(self, call) -> None:
        self.call = call
        self.gate = anyio.Event()
        self.held = 0

    async def __call__(self, *arguments):
        answer = await self.call(*arguments)
        self.held += 1
        await self.gate.wait()
        return answer

    async def has(self, number: int) -> None:
        """Wait until so many answers are held back."""
        with anyio.fail_after(SOON):
            while self.held < number:  # noqa: ASYNC110
                await anyio.sleep(0.005)


class HeldReporter:
    """What a coordinator knows of notices; what it finds is held back."""

    def __init__(self, coordinator) -> None:
        reporter = coordinator._parts.work.attention._reporter
        self.note = reporter.note
        self.report = reporter.report
        self.reasons = Held(reporter.reasons)


class HeldQuestions:
    """What a coordinator asks of notices and tells of them, held back before it does.

    Args:
        coordinator: The coordinator.
        what: The call that is held: "report" or "reasons".
    """

    def __init__(self, coordinator, what: str) -> None:
        reporter = coordinator._parts.work.attention._reporter
        self.note, self.report, self.reasons = (
            reporter.note,
            reporter.report,
            reporter.reasons,
        )
        self._call = getattr(reporter, what)
        setattr(self, what, self._hold)
        self.began = anyio.Event()
        self.gate = anyio.Event()

    async def _hold(self, about):
        if about:
            self.began.set()
            await self.gate.wait()
        return await self._call(about)


class DoubtfulReporter:
    """What a coordinator tells of notices; nobody learns what became of the first."""

    def __init__(self, coordinator) -> None:
        self._attention = coordinator._parts.work.attention._reporter
        self.note = self._attention.note
        self.reasons = self._attention.reasons
        self.began = anyio.Event()
        self.gate = anyio.Event()

    async def report(self, blocked):
        if blocked and not self.began.is_set():
            self.began.set()
            await self.gate.wait()
            raise eb.OutcomeUnknown("nobody knows")
        return await self._attention.report(blocked)


async def settled(coordinator) -> None:
    """Wait until a coordinator has dealt with all that is in the log now."""
    store, follower = coordinator._store, coordinator._parts.follower
    with anyio.fail_after(SOON):
        for _ in range(2):
            # The second one is read in a turn that begins after the first one's.
            await store.append([("nudge", "test.nudged", b"{}")])
            head = await store.head()
            while follower.position < head:
                assert coordinator._parts.work.workers.is_running
                await anyio.sleep(0.005)
    assert coordinator._parts.work.workers.is_running


async def test_an_unreadable_record_stops_no_coordinator_that_has_its_saga(openings):
    """Somebody holds its handle, so its own notice is looked at there as well."""
    saga = sleeper(
        eb.RetryPolicy(maximum_attempts=30, initial_delay=0.1 * SECOND, jitter="none")
    )
    well = trip(inside("book"), name="well")
    async with eb.SagaCoordinator(openings[0], [saga, well]) as owner:
        handle = await owner.start(saga, Trip("mia"), id="saga-1")
        await recorded_of(openings[0], handle.id, "step_unknown")
        await openings[1].append([(handle.id, *UNREADABLE)])
        await blocked_at(openings[1], 1)
        with (
            anyio.fail_after(SOON),
            pytest.raises(eb.errors.SagaBlocked, match="newer_thing"),
        ):
            await handle.result()
        [summary] = await owner.blocked()
        assert summary.id == handle.id
        await settled(owner)
        other = await owner.start(well, Trip("mia"), id="saga-2")
        with anyio.fail_after(SOON):
            assert (await other.result()).outcome is eb.SagaOutcome.COMPLETED


async def test_an_unreadable_record_stops_no_coordinator_where_it_is_waited_for(
    openings,
):
    saga = sleeper(
        eb.RetryPolicy(maximum_attempts=30, initial_delay=0.1 * SECOND, jitter="none")
    )
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as owner,
        eb.SagaCoordinator(openings[1], [saga]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        handle = await other.start(saga, Trip("mia"), id=pair.ids_of(owner)[0])
        await recorded_of(openings[1], handle.id, "step_unknown")
        await openings[0].append([(handle.id, *UNREADABLE)])
        with (
            anyio.fail_after(SOON),
            pytest.raises(eb.errors.SagaBlocked, match="newer_thing"),
        ):
            await handle.result()
        for coordinator in (owner, other):
            await settled(coordinator)
        with pytest.raises(eb.errors.SagaBlocked, match="newer_thing"):
            await other.cancel(handle.id, reason="it can't go on")


async def test_an_unreadable_notice_stops_no_coordinator(openings, caplog):
    """It is read as news, and again by those who look back for an older notice."""
    saga = sleeper()
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as owner,
        eb.SagaCoordinator(openings[1], [saga]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        saga_id = pair.ids_of(owner)[0]
        await owner.start(saga, Trip("mia"), id=saga_id)
        await recorded_of(openings[0], saga_id, "step_unknown")
        await openings[0].append([ATTENTION_JUNK])
        await settled(owner)
        await settled(other)
        handle = await other.get(saga, saga_id)
        with pytest.raises(TimeoutError):
            await handle.result(timeout=A_WHILE)
        await settled(other)
    told = [r for r in caplog.records if "'saga-attention'" in r.getMessage()]
    assert told
    assert {(r.name, r.levelname) for r in told} == {("eventbraid.saga", "WARNING")}


async def test_a_saga_that_was_handed_over_while_it_was_read_is_not_listed_as_blocked(
    openings,
):
    """Listed, it would be passed over when its shard comes back, for ever."""
    broken = {"now"}

    def folded(state, _):
        if broken:
            raise ZeroDivisionError("oops")
        return state

    saga = trip(inside("book", then=folded), inside("pack"))
    async with eb.SagaCoordinator(openings[0], [saga]) as owner:
        for saga_id in IDS[:12]:
            await owner.start(saga, Trip("mia"), id=saga_id)
        await blocked_at(openings[0], 12)
        reading = Held(owner._parts.state.journal.reader.read)
        owner._parts.state.journal.reader.read = reading
        async with anyio.create_task_group() as tasks:
            for saga_id in IDS[:12]:
                tasks.start_soon(fail_to_get, owner, saga, saga_id)
            await reading.has(12)
            owner._parts.state.journal.reader.read = reading.call
            async with eb.SagaCoordinator(openings[1], [saga]) as other:
                pair = Pair(owner, other)
                await pair.shared()
                gone = {*pair.ids_of(other)}.intersection(IDS[:12])
                assert gone
                reading.gate.set()
                await settled(owner)
                listed = {summary.id for summary in await owner.blocked()}
                assert listed == {*IDS[:12]} - gone
                broken.clear()
        # Its own it goes on having blocked; those that come back it can drive now.
        for saga_id in gone:
            await recorded_of(openings[0], saga_id, "completed")


async def fail_to_get(coordinator, saga, saga_id: str) -> None:
    with pytest.raises(eb.errors.SagaBlocked):
        await coordinator.get(saga, saga_id)


@pytest.fixture
def compensatable():
    """A saga that can't go forward after its start, but be compensated."""
    pay = outside(Receiver(), "pay")
    return trip(pay, inside("book", skip_if=lambda state: 1 / 0))


async def test_a_saga_that_ended_while_its_notice_was_sought_has_ended(
    openings, compensatable
):
    async with (
        eb.SagaCoordinator(openings[0], [compensatable]) as owner,
        eb.SagaCoordinator(openings[1], [compensatable]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        seeking = other._parts.work.attention._reporter = HeldReporter(other)
        handle = await other.start(compensatable, Trip("mia"), id=pair.ids_of(owner)[0])
        await seeking.reasons.has(1)
        await owner.cancel(handle.id, reason="it can't go on")
        await recorded_of(openings[0], handle.id, "compensated")
        again = await other.get(compensatable, handle.id)
        seeking.reasons.gate.set()
        await settled(other)
        for one in (handle, again, await other.get(compensatable, handle.id)):
            with anyio.fail_after(SOON):
                assert (await one.result()).outcome is eb.SagaOutcome.COMPENSATED


async def test_an_ended_saga_is_waited_for_no_more_when_its_shard_is_taken(
    openings, compensatable
):
    """Nothing would ever tell those who wait that it has ended."""
    async with eb.SagaCoordinator(openings[1], [compensatable]) as other:
        async with eb.SagaCoordinator(openings[0], [compensatable]) as owner:
            pair = Pair(owner, other)
            await pair.shared()
            handle = await other.start(
                compensatable, Trip("mia"), id=pair.ids_of(owner)[0]
            )
            with anyio.fail_after(SOON), pytest.raises(eb.errors.SagaBlocked):
                await handle.result()
            await owner.cancel(handle.id, reason="it can't go on")
            await recorded_of(openings[0], handle.id, "compensated")
            await other.get(compensatable, handle.id)
            # As an error that came late would have left it.
            handle._run.mark_at_rest(
                eb.errors.SagaBlocked(handle.id, "trip", 1, "oops")
            )
        with anyio.fail_after(SOON):
            while other._parts.state.shards.lease_for(handle.id) is None:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        await settled(other)
        assert handle._run.at_rest.is_set()


async def test_a_saga_blocked_anew_while_its_notice_is_in_doubt_is_told_of(
    openings, compensatable
):
    """The older word of it must not take the place of the newer one."""
    async with eb.SagaCoordinator(openings[0], [compensatable]) as owner:
        telling = owner._parts.work.attention._reporter = DoubtfulReporter(owner)
        handle = await owner.start(compensatable, Trip("mia"), id="saga-1")
        await telling.began.wait()
        # Asked for again, and blocked again, before the first answer is known.
        [before] = owner._parts.state.blocked.sagas.values()
        handle = await owner.get(compensatable, handle.id)
        with anyio.fail_after(SOON), pytest.raises(eb.errors.SagaBlocked):
            await handle.result()
        [after] = owner._parts.state.blocked.sagas.values()
        assert after is not before
        telling.gate.set()
        await blocked_at(openings[1], 1)
    assert [notice.saga_id for notice in await notices(openings[1])] == [handle.id]


async def test_a_blocked_saga_that_its_owner_goes_on_with_is_waited_for_again(openings):
    """Its shard stays where it is, and steps are no news to other coordinators."""
    broken = {"now"}

    def is_skipped(_):
        if broken:
            raise ZeroDivisionError("oops")

    receiver = Receiver()
    receiver.plan = {"pay": ["drop"]}
    pay = outside(receiver, "pay", skip_if=is_skipped, retry=SLEEPY)
    saga = trip(inside("book"), pay)
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as owner,
        eb.SagaCoordinator(openings[1], [saga]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        handle = await other.start(saga, Trip("mia"), id=pair.ids_of(owner)[0])
        for _ in range(2):
            with (
                anyio.fail_after(SOON),
                pytest.raises(eb.errors.SagaBlocked, match="oops"),
            ):
                await handle.result()
        broken.clear()
        await owner.get(saga, handle.id)
        await recorded_of(openings[0], handle.id, "step_unknown")
        with pytest.raises(TimeoutError):
            await handle.result(timeout=A_WHILE)
        await owner.cancel(handle.id, reason="too late")
        with anyio.fail_after(SOON):
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED


class Counting:
    """A store that counts what is read of the attention stream."""

    def __init__(self, store) -> None:
        self._store = store
        self.read = 0

    async def read_stream(self, stream, /, **options):
        async for found in self._store.read_stream(stream, **options):
            self.read += stream == "saga-attention"
            yield found

    def __getattr__(self, name: str):
        return getattr(self._store, name)


def attention(saga_id: str) -> eb.NewEvent:
    notice = SagaNeedsAttention(saga_id, "trip", "pay", f"of {saga_id}")
    return eb.new_event("saga-attention", notice)


async def test_a_long_attention_stream_is_read_once_however_many_ask(openings):
    """They ask for sagas that began before all the notices."""
    saga = sleeper()
    store = Counting(openings[1])
    many = 5_000
    async with eb.SagaCoordinator(openings[0], [saga]) as owner:
        for saga_id in IDS:
            await owner.start(saga, Trip("mia"), id=saga_id)
        for saga_id in IDS:
            await recorded_of(openings[0], saga_id, "step_unknown")
        for _ in range(0, many, 500):
            await openings[0].append([attention("saga-x")] * 500)
        async with eb.SagaCoordinator(store, [saga]) as other:
            pair = Pair(owner, other)
            await pair.shared()
            first, *then = pair.ids_of(owner)
            handles = [await other.get(saga, saga_id) for saga_id in then]
            await settled(other)
            handles.append(await other.get(saga, first))
            await settled(other)
            assert len(handles) > 10
            assert many <= store.read < 1.5 * many


@pytest.mark.parametrize("seed", range(20))
async def test_the_last_notice_is_found_with_little_in_memory(monkeypatch, seed):
    """Whatever was noted, sought and forgotten before; against a search of all."""
    monkeypatch.setattr(_notices, "_PAGE", 3)
    random = Random(seed)
    names = [f"saga-{n}" for n in range(random.choice([3, 12]))]
    async with eb.open_async("memory:") as store:
        maximum = random.choice([3, 6, 100])
        known = _notices.Notices(store, maximum)
        before = random.choice([0, 20])
        noted = before
        for _ in range(before + 60):
            saga_id = random.choice(names)
            other = random.choice([("other", *UNREADABLE), ATTENTION_JUNK])
            made = random.choice([attention(saga_id), attention(saga_id), other])
            await store.append([made])
            log = [r async for r in store.read_all()]
            if random.random() < 0.5:
                for recorded in log[noted:]:
                    if recorded.stream == "saga-attention":
                        known.note(recorded)
                noted = max(noted, len(log))
            assert len(known._last) <= maximum
            if len(log) >= before and random.random() < 0.3:
                after = random.choice([0, random.randrange(len(log))])
                found = await known.find(dict.fromkeys(names, after))
                places = {
                    eb.decode_event(r).saga_id: (r.position, r.version)
                    for r in log
                    if r.stream == "saga-attention" and r.data != b"{}"
                }
                for name, place in found.items():
                    assert await known.reason(place) == f"of {name}"
                if len(log) == noted:
                    assert found == {n: p for n, p in places.items() if p[0] > after}


async def test_a_saga_that_moves_on_before_its_notice_is_told_gets_none(
    openings, compensatable
):
    """The notice would say of the saga as it is now what was so before."""
    async with eb.SagaCoordinator(openings[0], [compensatable]) as owner:
        held = owner._parts.work.attention._reporter = HeldQuestions(owner, "report")
        handle = await owner.start(compensatable, Trip("mia"), id="saga-1")
        await held.began.wait()
        # As another coordinator records it, of which this one hasn't read yet.
        journal = owner._parts.state.journal.reader
        progress = journal.progress(handle.id, await journal.read(handle.id))
        request = CancelRequest("it can't go on")
        events, _ = decide_without_declaration(progress, request)
        await openings[1].append([eb.new_event(handle.id, e) for e in events])
        held.gate.set()
        await recorded_of(openings[0], handle.id, "compensated")
        await settled(owner)
    assert await notices(openings[1]) == []


async def test_a_saga_whose_shard_is_lost_before_its_notice_is_told_gets_none(
    openings, compensatable
):
    """Whoever takes the shard then may drive it; the notice would stand behind that."""
    async with eb.SagaCoordinator(openings[0], [compensatable]) as owner:
        held = owner._parts.work.attention._reporter = HeldQuestions(owner, "report")
        handle = await owner.start(compensatable, Trip("mia"), id="saga-1")
        await held.began.wait()
        lost = owner._parts.state.shards.lease_for(handle.id)
        await openings[1].append([released(lost.lease, owner._parts.state.live.own_id)])
        held.gate.set()
        with anyio.fail_after(SOON):
            # It takes the shard anew, blocks the saga anew, and tells of it.
            while not is_told(owner, handle.id):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        regained = owner._parts.state.shards.lease_for(handle.id)
        assert regained.token > lost.token
    assert len(await notices(openings[1])) == 1


def is_told(coordinator, saga_id: str) -> bool:
    shard_lease = coordinator._parts.state.shards.lease_for(saga_id)
    return shard_lease is not None and shard_lease.last_report(saga_id) is not None


async def test_a_saga_that_gets_stuck_while_it_is_asked_for_is_not_taken_for_blocked(
    openings,
):
    """That it is stuck is told by a notice too, which stands behind its last record."""
    receiver = Receiver()
    receiver.plan = {"ship": ["drop"], "compensate pay": ["decline"]}
    saga = trip(
        outside(receiver, "pay", compensation_retry=SLEEPY),
        outside(receiver, "ship", retry=SLEEPY),
    )
    async with (
        eb.SagaCoordinator(openings[0], [saga]) as owner,
        eb.SagaCoordinator(openings[1], [saga]) as other,
    ):
        pair = Pair(owner, other)
        await pair.shared()
        saga_id = pair.ids_of(owner)[0]
        await owner.start(saga, Trip("mia"), id=saga_id)
        await recorded_of(openings[0], saga_id, "step_unknown")
        held = other._parts.work.attention._reporter = HeldQuestions(other, "reasons")
        handle = await other.get(saga, saga_id)
        await held.began.wait()
        await owner.cancel(saga_id, reason="too late")
        await recorded_of(openings[0], saga_id, "stuck")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(comes_to_be_stuck, handle)
            await anyio.wait_all_tasks_blocked()
            held.gate.set()


async def comes_to_be_stuck(handle) -> None:
    with anyio.fail_after(SOON):
        assert (await handle.result()).outcome is eb.SagaOutcome.STUCK


async def test_a_start_waits_for_a_place_only_in_its_coordinators_own_shards(openings):
    receiver = Receiver()
    receiver.plan = {"pay": ["stall"]}
    saga = trip(outside(receiver, "pay", timeout=HOUR))
    with anyio.CancelScope() as block:
        async with (
            eb.SagaCoordinator(openings[0], [saga], concurrency=1) as owner,
            eb.SagaCoordinator(openings[1], [saga], concurrency=1) as other,
        ):
            pair = Pair(owner, other)
            await pair.shared()
            first, second, *more = pair.ids_of(owner)
            await owner.start(saga, Trip("mia"), id=first)
            with anyio.move_on_after(A_WHILE.total_seconds()) as waiting:
                await owner.start(saga, Trip("mia"), id=second)
            assert waiting.cancelled_caught
            assert await records(openings[0], second) == []
            with anyio.fail_after(SOON):
                for saga_id in more[:5]:
                    await other.start(saga, Trip("mia"), id=saga_id)
            await settled(owner)
            assert receiver.calls.total() == 1
            # Nobody waits for the call that hangs.
            block.cancel()
    assert block.cancelled_caught
