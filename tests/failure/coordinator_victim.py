"""Coordinates sagas until its input ends, or the test kills or stops it.

python coordinator_victim.py STORE SECONDS

Another coordinator whose heartbeat is older than SECONDS counts as stopped.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import anyio
import anyio.to_thread

import eventbraid as eb

# Longer than a busy machine keeps a process that is not stopped from running.
STALE_AFTER = timedelta(seconds=3)


async def sign(context: eb.StepContext[str]) -> int:
    """Record which process makes the call."""
    await anyio.lowlevel.checkpoint()
    return os.getpid()


signed = eb.Saga(
    "signed",
    str,
    steps=[
        eb.step(
            "sign",
            sign,
            timeout=timedelta(seconds=30),
            then=lambda state, pid: f"{state} {pid}".strip(),
        ).without_compensation()
    ],
)


async def main(store: str, seconds: str) -> None:
    stale_after = timedelta(seconds=float(seconds))
    async with (
        eb.open_async(store) as opened,
        eb.SagaCoordinator(opened, [signed], stale_after=stale_after),
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
