"""`eventbraid saga list` finds blocked sagas, whatever blocks them.

The hazard: a saga that no program can run stays "running" on every list, so no operator
looks at it.
"""

from __future__ import annotations

import json

import anyio
import pytest

import eventbraid as eb
from eventbraid.cli import run
from tests.saga_kit import (
    DEADLINES,
    QUICK,
    SECOND,
    Receiver,
    Trip,
    inside,
    note,
    outside,
    records,
    trip,
)

pytestmark = pytest.mark.anyio
SOON = 60
# Not `SECOND`: no other saga may have the declaration.
SLEEPY = eb.RetryPolicy(maximum_attempts=30, initial_delay=30 * SECOND, jitter="none")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.braid"


def listed(path, capfd, *options: str):
    assert run(["saga", "list", str(path), "--json", *options]) == 0
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    return {one["saga_id"]: one for one in found}


def defective(where: str, receiver: Receiver, *, corrected: bool = False):
    """A saga whose function has a bug, or its corrected program."""

    def function(*arguments):
        if not corrected:
            raise TypeError("oops \x1b[31m")
        match where:
            case "then":
                return arguments[0]
            case "skip_if":
                return None
        return note(where)(arguments[0])

    if where == "local":
        return trip(eb.local_step("act", function).without_compensation())
    return trip(outside(receiver, "act", retry=QUICK, **{where: function}))


async def until_blocked(coordinator, *, overdue: bool = False):
    with anyio.fail_after(SOON):
        while not [s for s in await coordinator.blocked() if s.overdue >= overdue]:  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def is_noticed_as_overdue(store) -> bool:
    """Return whether the last notice of a blocked saga reports it as overdue."""
    last = store.read_stream("saga-attention", backward=True, limit=1)
    reasons = [eb.decode_event(read).reason async for read in last]
    return any(reason.startswith("overdue since") for reason in reasons)


async def block(path, saga):
    async with eb.open_async(path) as store, eb.SagaCoordinator(store, [saga]) as c:
        await c.start(saga, Trip("mia"), id="saga-1")
        await until_blocked(c)


@pytest.mark.parametrize("where", ["local", "then", "skip_if", "record"])
async def test_a_saga_with_a_defect_is_listed_as_blocked(path, capfd, where):
    await block(path, defective(where, Receiver()))
    found = listed(path, capfd, "--status", "blocked")
    assert found["saga-1"]["status"] == "blocked"
    assert "TypeError: oops" in found["saga-1"]["reason"]
    assert listed(path, capfd, "--status", "running") == {}
    assert run(["saga", "list", str(path)]) == 0
    out = capfd.readouterr().out
    assert "1 blocked" in out
    assert "TypeError: oops" in out
    assert "\x1b[31m" not in out


@pytest.mark.parametrize("where", ["local", "then", "skip_if", "record"])
async def test_a_saga_that_corrected_code_resumed_is_not_blocked(path, capfd, where):
    receiver = Receiver()
    await block(path, defective(where, receiver))
    corrected = defective(where, receiver, corrected=True)
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [corrected]) as coordinator,
    ):
        handle = await coordinator.get(corrected, "saga-1")
        await handle.result(timeout=SOON * SECOND)
    assert listed(path, capfd)["saga-1"] == {
        "saga_id": "saga-1",
        "status": "completed",
    }


async def test_a_saga_without_its_code_is_listed_as_blocked_and_overdue(path, capfd):
    receiver = Receiver({"pay": ["drop"]})
    other = trip(inside("other"), name="other")
    async with eb.open_async(path) as store:
        for n, deadline in enumerate(DEADLINES):
            saga = trip(outside(receiver, "pay", retry=SLEEPY), deadline=deadline)
            saga_id = f"saga-{n}"
            async with eb.SagaCoordinator(store, [saga]) as able:
                await able.start(saga, Trip("mia"), id=saga_id)
                while (last := (await records(store, saga_id))[-1]) not in {  # noqa: ASYNC110
                    "step_unknown",
                    "compensated",
                }:
                    await anyio.sleep(0.005)
            if last == (await records(store, saga_id))[-1] == "step_unknown":
                break
        async with eb.SagaCoordinator(store, [other]) as unable:
            await until_blocked(unable, overdue=True)
            # The saga may be overdue before its first notice, which then says so.
            with anyio.fail_after(SOON):
                while not await is_noticed_as_overdue(store):  # noqa: ASYNC110 - no event for it
                    await anyio.sleep(0.005)
    found = listed(path, capfd, "--status", "blocked")
    assert found[saga_id]["reason"].startswith("overdue since")
    assert "needs_code" in found[saga_id]["reason"]

    # A coordinator that has its code acquires its lease: it isn't blocked any more,
    # although its stream doesn't move.
    async with eb.open_async(path) as store, eb.SagaCoordinator(store, [saga]) as c:
        assert await c.blocked() == []
        saved = path.parent / "found"
        saved.write_text(json.dumps(listed(path, capfd)))
    assert json.loads(saved.read_text())[saga_id]["status"] != "blocked"


async def test_junk_among_the_notices_blocks_no_saga_of_the_list(path, capfd):
    receiver = Receiver({"pay": ["drop"]})
    saga = trip(outside(receiver, "pay", retry=SLEEPY))
    junk = [b"{}", b"\xff", b"[" * 5000, b'{"saga_id":7}']
    async with eb.open_async(path) as store, eb.SagaCoordinator(store, [saga]) as c:
        await c.start(saga, Trip("mia"), id="saga-1")
        for data in junk:
            await store.append([("saga-attention", "saga.needs_attention", data)])
        await store.append([("saga-attention", "x", b"{}")])
    assert listed(path, capfd)["saga-1"]["status"] == "running"
