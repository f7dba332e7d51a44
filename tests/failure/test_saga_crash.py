"""A process that dies anywhere leaves no saga half done, and no effect happens twice.

Each case kills a coordinator at one place (before or after one append, before or after
one outside effect, forward or compensating), sometimes a second one while it resumes,
and then lets a third one finish. The hazards are an effect whose record was lost, a
record whose effect never came, and a compensation that was forgotten or done by halves.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, replace

import anyio
import pytest

import eventbraid as eb
from tests.saga_kit import (
    MAXIMUM_CRASHES,
    Crash,
    Declined,
    MortalStore,
    Receiver,
    Trip,
    inside,
    notes,
    outside,
    trip,
)

pytestmark = pytest.mark.anyio

# One loop is enough for hundreds of cases: what differs between loops is tested in
# tests/integration.


@pytest.fixture
def anyio_backend():
    return "asyncio"


@dataclass
class DeadlyReceiver(Receiver):
    """Kills the process inside of a call, before or after its effect."""

    mortal: MortalStore | None = None
    kills_at: int | None = None
    after: bool = False
    called: int = 0

    async def do(self, step: str, key: str) -> str:
        return await self._deadly(super().do, step, key)

    async def compensate(self, step: str, forward_key: str, key: str) -> str:
        return await self._deadly(super().compensate, step, forward_key, key)

    async def _deadly(self, call, *arguments):
        self.called += 1
        if self.called != self.kills_at:
            return await call(*arguments)
        if self.after:
            with contextlib.suppress(Declined, ConnectionError):
                await call(*arguments)
        self.mortal.dead = True
        raise ConnectionError("the process is gone")


def journey(receiver):
    """Local and external steps, one with an answer that is lost at first."""
    return trip(
        inside("book"),
        outside(receiver, "pay"),
        inside(
            "pack", then=lambda state, done: replace(state, who=done.events[0].what)
        ),
        outside(receiver, "ship"),
        outside(receiver, "tell", otherwise=note_later, compensatable=False),
    )


def note_later(context, failure):
    from tests.saga_kit import note

    return note("tell later")(context)


SCENES = {
    "completes": {},
    "answers are lost": {"pay": ["lose", "ok"], "ship": ["drop", "ok"]},
    "shipping declines": {"ship": ["decline"]},
    "shipping stays unknown": {"ship": ["lose"]},
    "compensating is hard": {
        "ship": ["decline"],
        "compensate pay": ["lose", "drop", "ok"],
    },
    "telling fails": {"tell": ["decline"]},
}


def scene_of(name):
    return {step: list(behaviours) for step, behaviours in SCENES[name].items()}


async def drive(store, saga):
    """Start or resume the saga and wait for its end."""
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        with anyio.fail_after(60):
            return await handle.result()


async def die(store, saga):
    with contextlib.suppress(Crash):
        await drive(store, saga)


async def check(store, receiver, end):
    """Every saga ends whole: all of it stands, or nothing does."""
    noted = await notes(store, "saga-1")
    assert end.outcome in {eb.SagaOutcome.COMPLETED, eb.SagaOutcome.COMPENSATED}
    if end.outcome is eb.SagaOutcome.COMPLETED:
        assert {"pay", "ship"} <= set(receiver.standing())
        assert noted[:4] == ["book", "pay", "pack", "ship"]
        assert noted[4:] in (["tell"], ["tell later"])
        assert end.state.who == "pack"
    else:
        assert set(receiver.standing()) <= {"tell"}
        assert sorted(what for what in noted if what in {"book", "pack"}) == sorted(
            what.removeprefix("compensate ")
            for what in noted
            if what.startswith("compensate ")
        )
    # One key a step, and no key took effect twice: the log has each effect once.
    assert set(receiver.effects) <= {
        f"saga-1/{step}/1" for step in ("pay", "ship", "tell")
    }
    assert len(receiver.log) == len(set(receiver.log))
    assert len(noted) == len(set(noted))
    await check_the_log(store, end)


async def check_the_log(store, end):
    """What is recorded can be read back: the end, the state, and the timeline."""
    timeline = eb.saga.read_timeline(store.as_sync(), "saga-1")
    assert timeline.outcome is end.outcome
    ends = [entry for entry in timeline.entries if entry.what.startswith("saga c")]
    assert len(ends) == 1


async def count(scene):
    """How many appends and calls there are without any crash."""
    receiver = DeadlyReceiver(plan=scene_of(scene))
    async with eb.open_async("memory:") as store:
        mortal = MortalStore(store)
        end = await drive(mortal, journey(receiver))
        await check(store, receiver, end)
        return mortal.appends, receiver.called, end.outcome


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_each_recorded_transition(scene, after):
    appends, _, outcome = await count(scene)
    for dies_at in range(1, appends + 1):
        receiver = DeadlyReceiver(plan=scene_of(scene))
        async with eb.open_async("memory:") as store:
            saga = journey(receiver)
            await die(MortalStore(store, dies_at, after=after), saga)
            end = await drive(store, saga)
            await check(store, receiver, end)
            assert end.outcome is outcome


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_inside_of_each_call(scene, after):
    _, calls, outcome = await count(scene)
    for kills_at in range(1, calls + 1):
        async with eb.open_async("memory:") as store:
            mortal = MortalStore(store)
            receiver = DeadlyReceiver(
                plan=scene_of(scene), mortal=mortal, kills_at=kills_at, after=after
            )
            saga = journey(receiver)
            await die(mortal, saga)
            assert mortal.dead
            end = await drive(store, saga)
            await check(store, receiver, end)
            assert end.outcome is outcome


@pytest.mark.parametrize("scene", ["completes", "compensating is hard"])
async def test_a_second_crash_while_resuming(scene):
    appends, _, outcome = await count(scene)
    moments = itertools.product(range(1, appends + 1), range(1, 6), [False, True])
    for first, second, after in moments:
        receiver = DeadlyReceiver(plan=scene_of(scene))
        async with eb.open_async("memory:") as store:
            saga = journey(receiver)
            await die(MortalStore(store, first, after=after), saga)
            await die(MortalStore(store, second, after=not after), saga)
            end = await drive(store, saga)
            await check(store, receiver, end)
            assert end.outcome is outcome


async def test_a_saga_whose_call_always_ends_the_process_becomes_stuck():
    """The crashes are no attempts, but neither do they go on for ever."""
    receiver = DeadlyReceiver()
    async with eb.open_async("memory:") as store:
        saga = trip(outside(receiver, "pay"))
        for _ in range(2 + MAXIMUM_CRASHES):
            mortal = MortalStore(store)
            receiver.mortal, receiver.kills_at = mortal, receiver.called + 1
            receiver.after = True
            await die(mortal, saga)
        receiver.kills_at = None
        end = await drive(store, saga)
        assert end.outcome is eb.SagaOutcome.STUCK
        assert "the process ended 2 times during the call of step 'pay'" in end.failure
        assert receiver.calls["saga-1/pay/1"] == 2 + MAXIMUM_CRASHES
        # A person may have it compensated all the same.
        async with eb.SagaCoordinator(store, [saga]) as coordinator:
            await coordinator.cancel("saga-1", reason="the bank's library crashes")
            handle = await coordinator.get(saga, "saga-1")
            assert (await handle.result()).outcome is eb.SagaOutcome.COMPENSATED
    assert receiver.standing() == []
