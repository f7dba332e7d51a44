"""Hangs its event loop while it holds leases: the other half of test_hung_event_loop.py.

Usage: hung_loop_victim.py STORE BACKEND lease    holds the lease "importer"
       hung_loop_victim.py STORE BACKEND saga    drives the saga "saga-hung"

It says "hanging" and blocks its event loop by reading its input. After a line it
continues, says what became of what it was doing, and ends.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import anyio

import eventbraid as eb

SECOND = timedelta(seconds=1)
MAY_HANG = "EVENTBRAID_TEST_MAY_HANG"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def hang() -> None:
    say("hanging")
    sys.stdin.readline()


async def sign(context: eb.StepContext[str]) -> int:
    await anyio.lowlevel.checkpoint()
    if MAY_HANG in os.environ:
        hang()
    return os.getpid()


signed = eb.Saga(
    "signed",
    str,
    steps=[
        eb.step(
            "sign",
            sign,
            timeout=600 * SECOND,
            retry=eb.RetryPolicy(
                maximum_attempts=3, initial_delay=timedelta(milliseconds=1)
            ),
            then=lambda _, pid: str(pid),
        ).without_compensation()
    ],
)


async def hold_lease(path: str) -> None:
    async with eb.open_async(path) as store:
        try:
            async with eb.AsyncLease(store, "importer", stale_after=SECOND) as lease:
                hang()
                await lease.append([("order-1", "imported", b"late")])
                say("appended")
        except eb.errors.LeaseLost:
            say("lost")


async def drive(path: str) -> None:
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [signed], stale_after=SECOND) as coordinator,
    ):
        handle = await coordinator.start(signed, "", id="saga-hung")
        say((await handle.result()).state)


if __name__ == "__main__":
    run = hold_lease if sys.argv[3] == "lease" else drive
    anyio.run(run, sys.argv[1], backend=sys.argv[2])
