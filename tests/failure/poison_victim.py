"""Coordinates sagas one of which kills its process: the other half of test_saga_poison.py.

Usage: poison_victim.py STORE WHERE

Starts a saga that sends SIGKILL to its own process in one of its functions, WHERE, and a
healthy ones that are in the middle of a call meanwhile. Prints how all came to rest.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import anyio

import eventbraid as eb
from tests.saga_kit import QUICK, SECOND, Trip, inside, note, trip


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


async def die_in_call(*_):
    await anyio.sleep(0.05)
    die()


async def pay(context: eb.StepContext[Trip]) -> str:
    return "paid"


async def refuse(context: eb.StepContext[Trip]) -> str:
    raise PermissionError("no")


async def lose(context: eb.StepContext[Trip]) -> str:
    raise ConnectionError("lost")


async def compensate(context, did):
    return None


async def die_as_action(context: eb.StepContext[Trip]) -> str:
    await die_in_call()
    return "never"


async def linger(context: eb.StepContext[Trip]) -> str:
    await anyio.sleep(0.2)
    return "lingered"


def external(name, action, compensated_by=compensate, **options):
    step = eb.step(
        name,
        action,
        timeout=60 * SECOND,
        retry=QUICK,
        refusals=(PermissionError,),
        **options,
    )
    return step.compensated_by(compensated_by, retry=QUICK)


def poisonous(where: str) -> eb.Saga[Trip]:
    match where:
        case "action":
            steps = [external("a", pay), external("b", die_as_action)]
        case "ask":
            steps = [external("a", lose, ask=die_in_call)]
        case "record":
            steps = [external("a", pay, record=die)]
        case "compensation":
            steps = [
                external("z", pay),
                external("a", pay, compensated_by=die_in_call),
                external("b", refuse),
            ]
        case "local compensation":
            steps = [
                eb.local_step("a", note("a")).compensated_by(die, retry=QUICK),
                external("b", refuse),
            ]
        case "local step":
            steps = [external("a", pay), eb.local_step("b", die).without_compensation()]
        case "child" | "child of a compensation" | "beside another coordinator":
            steps = [external("a", die_as_action)]
        case _:
            raise AssertionError(where)
    return trip(*steps, name="poisonous")


async def coordinate_parent(path: str, where: str) -> None:
    """Coordinate a saga that waits for the saga that kills the process."""
    bad = poisonous(where)

    async def wait_for_child(context, *_) -> str:
        handle = await coordinator.start(bad, Trip("mia"), id="saga-bad")
        return (await handle.result()).outcome.value

    steps = (
        [external("wait", wait_for_child, result=str)]
        if where == "child"
        else [
            external("wait", pay, compensated_by=wait_for_child),
            external("b", refuse),
        ]
    )
    parent = trip(*steps, name="parent")
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [bad, parent]) as coordinator,
    ):
        handle = await coordinator.start(parent, Trip("mia"), id="saga-parent")
        sys.stdout.write(f"{(await handle.result()).outcome.value}\n")


async def coordinate_one(path: str, saga: eb.Saga[Trip], saga_id: str) -> None:
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Trip("mia"), id=saga_id)
        sys.stdout.write(f"{saga_id} {(await handle.result()).outcome.value}\n")


def coordinate_two(path: str, where: str) -> None:
    """Coordinate the saga that kills the process, and one of another store."""

    async def linger_on(context: eb.StepContext[Trip]) -> str:
        # The other saga's call ends the process during this one.
        await anyio.sleep(0.5)
        return "lingered"

    healthy = trip(external("a", linger_on), name="healthy")
    threads = [
        threading.Thread(target=anyio.run, args=(coordinate_one, *args))
        for args in (
            (f"{path}-2", healthy, "saga-healthy"),
            (path, poisonous(where), "saga-bad"),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def main(path: str, where: str) -> None:
    bad, good = (
        poisonous(where),
        trip(external("a", linger), inside("b"), external("c", linger), name="healthy"),
    )
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [bad, good]) as coordinator,
    ):
        healthy = [
            await coordinator.start(good, Trip("ben"), id=f"saga-{number}")
            for number in range(3)
        ]
        handle = await coordinator.start(bad, Trip("mia"), id="saga-bad")
        for one in (handle, *healthy):
            ended = await one.result(timeout=60 * SECOND)
            sys.stdout.write(f"{ended.outcome.value}\n")


if __name__ == "__main__":
    if sys.argv[2].startswith("child"):
        anyio.run(coordinate_parent, *sys.argv[1:])
    elif sys.argv[2] == "beside another coordinator":
        coordinate_two(*sys.argv[1:])
    else:
        anyio.run(main, *sys.argv[1:])
