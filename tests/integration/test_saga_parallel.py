"""Parallel groups: branches run at the same time, and are compensated as a whole.

The hazard: an outcome that is lost because two branches record at the same moment; a
branch that starts after another has failed; a compensation that begins while a call of
the group still runs, or that compensates a step before one that depends on it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga import parallel, sequence

SECOND = timedelta(seconds=1)
LONG = timedelta(seconds=60)
ONCE = eb.RetryPolicy(maximum_attempts=1)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@eb.value_object
class Trip:
    booked: tuple[str, ...] = ()


class Desk:
    """The receiver of all calls: records what begins and ends, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.running: set[str] = set()
        self.most = 0
        self.gates: dict[str, anyio.Event] = {}
        self.refused: set[str] = set()

    async def book(self, name: str) -> str:
        self.log.append(f"book {name}")
        self.running.add(name)
        self.most = max(self.most, len(self.running))
        try:
            gate = self.gates.get(name)
            if gate is not None:
                await gate.wait()
            if name in self.refused:
                raise PermissionError(name)
        finally:
            self.running.discard(name)
        self.log.append(f"booked {name}")
        return name

    async def cancel(self, name: str) -> None:
        self.log.append(f"cancel {name}")
        self.running.add(f"cancel {name}")
        self.most = max(self.most, len(self.running))
        gate = self.gates.get(f"cancel {name}")
        if gate is not None:
            await gate.wait()
        self.running.discard(f"cancel {name}")
        self.log.append(f"cancelled {name}")

    def step(self, name: str, **options):
        async def book(context: eb.StepContext[Trip]) -> str:
            return await self.book(name)

        async def cancel(
            context: eb.StepContext[Trip], did: eb.StepCompleted[str] | eb.StepInDoubt
        ) -> None:
            await self.cancel(name)

        return eb.step(
            name,
            book,
            timeout=LONG,
            refusals=(PermissionError,),
            then=lambda trip, name: replace(trip, booked=(*trip.booked, name)),
            **options,
        ).compensated_by(cancel)

    def saga(self) -> eb.Saga[Trip]:
        return eb.Saga(
            "trip",
            Trip,
            steps=[
                self.step("quote"),
                parallel(
                    self.step("flight"),
                    sequence(self.step("hotel"), self.step("transfer")),
                    self.step("car"),
                ),
                self.step("pay"),
            ],
        )


async def run(store, desk: Desk, saga: eb.Saga[Trip], act=None):
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        handle = await coordinator.start(saga, Trip(), id="trip-1")
        if act is not None:
            await act()
        return await handle.result()


async def until(condition) -> None:
    while not condition():  # noqa: ASYNC110 - the log is a plain list
        await anyio.sleep(0.005)


async def test_branches_run_at_the_same_time_and_all_results_are_kept(tmp_path):
    desk = Desk()
    for name in ("flight", "hotel", "car"):
        desk.gates[name] = anyio.Event()

    async def act() -> None:
        await until(lambda: len(desk.running) == 3)
        for name in ("car", "hotel", "flight"):
            desk.gates[name].set()

    async with eb.open_async(tmp_path / "store") as store:
        done = await run(store, desk, desk.saga(), act)
    assert done.outcome is eb.saga.SagaOutcome.COMPLETED
    assert desk.most == 3
    assert sorted(done.state.booked[1:5]) == ["car", "flight", "hotel", "transfer"]
    assert (done.state.booked[0], done.state.booked[5]) == ("quote", "pay")
    booked = done.state.booked
    assert booked.index("hotel") < booked.index("transfer")


async def test_a_failure_starts_nothing_more_and_waits_for_what_runs(tmp_path):
    desk = Desk()
    desk.gates["flight"] = anyio.Event()
    desk.gates["hotel"] = anyio.Event()
    desk.refused.add("car")

    async def act() -> None:
        await until(
            lambda: {"flight", "hotel"} <= desk.running and "car" not in desk.running
        )
        await anyio.sleep(0.1)
        assert not any(entry.startswith("cancel") for entry in desk.log)
        desk.gates["hotel"].set()
        await until(lambda: "booked hotel" in desk.log)
        await anyio.sleep(0.1)
        assert not any(entry.startswith("cancel") for entry in desk.log)
        desk.gates["flight"].set()

    async with eb.open_async(tmp_path / "store") as store:
        done = await run(store, desk, desk.saga(), act)
        timeline = [one async for one in store.read_stream("trip-1")]
    assert done.outcome is eb.saga.SagaOutcome.COMPENSATED
    assert "book transfer" not in desk.log
    assert "book pay" not in desk.log
    cancelled = [entry for entry in desk.log if entry.startswith("cancelled")]
    assert sorted(cancelled[:2]) == ["cancelled flight", "cancelled hotel"]
    assert cancelled[2:] == ["cancelled quote"]
    assert "cancel car" not in desk.log
    assert timeline[-1].type == "saga.compensated"


async def test_branches_are_compensated_at_the_same_time_in_their_own_order(tmp_path):
    desk = Desk()
    desk.refused.add("pay")
    for name in ("cancel flight", "cancel transfer", "cancel car"):
        desk.gates[name] = anyio.Event()

    async def act() -> None:
        await until(lambda: len(desk.running) == 3)
        assert "cancel hotel" not in desk.log
        assert "cancel quote" not in desk.log
        desk.gates["cancel transfer"].set()
        await until(lambda: "cancelled hotel" in desk.log)
        assert "cancel quote" not in desk.log
        desk.gates["cancel car"].set()
        desk.gates["cancel flight"].set()

    async with eb.open_async(tmp_path / "store") as store:
        done = await run(store, desk, desk.saga(), act)
    assert done.outcome is eb.saga.SagaOutcome.COMPENSATED
    assert desk.log[-1] == "cancelled quote"


async def test_a_group_of_local_steps_loses_no_record(tmp_path):
    class Notes(eb.Stream[object], category="notes"): ...

    saga = eb.Saga(
        "local",
        Trip,
        steps=[
            parallel(
                *(
                    sequence(
                        eb.local_step(
                            f"a{i}",
                            lambda c: Mark(note=f"note-{c.step}"),
                        ).without_compensation(),
                        eb.local_step(
                            f"b{i}",
                            lambda c: Mark(note=f"note-{c.step}"),
                        ).without_compensation(),
                    )
                    for i in range(10)
                )
            )
        ],
    )
    async with eb.open_async(tmp_path / "store") as store:
        done = await run(store, Desk(), saga)
        assert done.outcome is eb.saga.SagaOutcome.COMPLETED
        for i in range(10):
            assert await store.version(f"note-a{i}") == 1
            assert await store.version(f"note-b{i}") == 1


@eb.event("parallel.note.marked")
class Marked: ...


class Note(eb.Stream[Marked], category="note"): ...


class Mark(eb.Command):
    note: eb.Declared[Note]

    def decide(self):
        yield self.note.write(Marked())


async def test_a_cancelled_group_waits_for_its_calls(tmp_path):
    desk = Desk()
    desk.gates["flight"] = anyio.Event()
    saga = desk.saga()
    async with (
        eb.open_async(tmp_path / "store") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Trip(), id="trip-1")
        await until(lambda: "flight" in desk.running and "booked transfer" in desk.log)
        await coordinator.cancel("trip-1", reason="no")
        await anyio.sleep(0.1)
        assert "cancel flight" not in desk.log
        desk.gates["flight"].set()
        done = await handle.result()
    assert done.outcome is eb.saga.SagaOutcome.COMPENSATED
    assert desk.log.index("booked flight") < desk.log.index("cancel flight")
    assert desk.log[-1] == "cancelled quote"
