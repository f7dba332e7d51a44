"""Coordinates sagas, and may kill itself: the other half of test_saga_takeover.py.

Usage: takeover_victim.py STORE LEDGER            stands by until its input ends
       takeover_victim.py STORE LEDGER WHO MOMENT starts a saga, and dies in it

The second kind waits until it has its share of the shards, says which saga it is about
to start, in a shard of its own, and drives it: WHO "declined" is to be compensated, everybody
else's is to be completed. Each append for the saga is two moments, before it is sent and
after it was acknowledged, and so is each outside effect. It names every moment on its
output, and at the MOMENT-th it sends itself SIGKILL. If there are fewer, it ends.

The ledger is the receiver's own file: a line for each effect, beside it one for each call.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

import eventbraid as eb
from eventbraid.saga.running._shard_mapping import SHARDS
from tests.failure.saga_victim import LedgerReceiver, outside
from tests.saga_kit import SECOND, Trip, inside, trip

if TYPE_CHECKING:
    from collections.abc import Callable

# Far more than the whole test takes: whoever takes over knows of a death, not a silence.
STALE_AFTER = 600 * SECOND


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Moments:
    """Names the moments, and dies at the one that was chosen."""

    def __init__(self, dies_at: int) -> None:
        self.left = dies_at

    def moment(self, name: str) -> None:
        say(name)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class NotingReceiver(LedgerReceiver):
    """Notes each call, also those that have no effect because their key is known."""

    async def act(self, what: str, key: str) -> str:
        with self.path.with_suffix(".calls").open("a") as calls:
            calls.write(f"{what} {key}\n")
        return await super().act(what, key)


class WatchedStore:
    """A store whose appends for one saga are moments."""

    def __init__(
        self, store: eb.AsyncEventStore, moment: Callable[[str], None]
    ) -> None:
        self._store = store
        self._moment = moment
        self.saga_id = ""

    async def append(self, events, **options):
        mine = [
            kind.removeprefix("saga.")
            for stream, kind in ((one.stream, one.type) for one in events)
            if stream == self.saga_id
        ]
        if not mine:
            return await self._store.append(events, **options)
        name = " and ".join(mine)
        self._moment(f"before {name}")
        appended = await self._store.append(events, **options)
        self._moment(f"after {name}")
        return appended

    def __getattr__(self, name: str):
        return getattr(self._store, name)


def journey(receiver: LedgerReceiver) -> eb.Saga[Trip]:
    return trip(
        inside("book"),
        outside(receiver, "pay"),
        inside("pack"),
        outside(receiver, "ship"),
    )


async def stand_by(store: str, ledger: Path) -> None:
    saga = journey(NotingReceiver(ledger, Moments(0)))
    async with (
        eb.open_async(store) as opened,
        eb.SagaCoordinator(opened, [saga], stale_after=STALE_AFTER),
    ):
        say("ready")
        await anyio.to_thread.run_sync(sys.stdin.read)


async def die(store: str, ledger: Path, who: str, dies_at: int) -> None:
    moments = Moments(dies_at)
    saga = journey(NotingReceiver(ledger, moments))
    async with eb.open_async(store) as opened:
        watched = WatchedStore(opened, moments.moment)
        async with eb.SagaCoordinator(
            watched, [saga], stale_after=STALE_AFTER
        ) as coordinator:
            shards = coordinator._parts.state.shards
            while len(shards.held) < SHARDS // 2:  # noqa: ASYNC110 - no event tells
                await anyio.sleep(0.002)
            names = (f"saga-{who}-{dies_at}-{n}" for n in range(1000))
            watched.saga_id = next(name for name in names if shards.lease_for(name))
            say(watched.saga_id)
            handle = await coordinator.start(saga, Trip(who), id=watched.saga_id)
            await handle.result()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        anyio.run(stand_by, sys.argv[1], Path(sys.argv[2]))
    else:
        anyio.run(die, sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
