"""A process that drives sagas and kills itself: the other half of test_saga_kill.py.

Several may share one store and one ledger.

Usage: saga_victim.py STORE LEDGER SAGAS MOMENT

It starts (or resumes) so many sagas and waits for all of them. At the MOMENT-th moment,
counted over recorded transitions and the beginnings and ends of outside calls, it sends
itself SIGKILL; with 0 it lives. The ledger is the receiver's own file.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import anyio

import eventbraid as eb
from tests.saga_kit import QUICK, SECOND, Declined, Trip, inside, note, trip

# The process is killed during its calls on purpose, often during the same call several
# times in a row. With the default maximum of crashes, the saga would then be stuck.
MAXIMUM_CRASHES = 100


class Victim:
    """Counts the moments, and dies at the one that was chosen."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def moment(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class LedgerReceiver:
    """Honours keys by a ledger that outlives the process."""

    def __init__(self, path: Path, victim: Victim) -> None:
        self.path = path
        self.victim = victim

    async def act(self, what: str, key: str) -> str:
        self.victim.moment(f"before {what} {key}")
        line = f"{what} {key}\n"
        with self.path.open("a+") as ledger:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            ledger.seek(0)
            if line not in ledger.readlines():
                ledger.write(line)
        self.victim.moment(f"after {what} {key}")
        await anyio.lowlevel.checkpoint()
        return f"receipt {key}"


def outside(receiver: LedgerReceiver, name: str):
    async def act(context: eb.StepContext[Trip]) -> str:
        if name == "ship" and context.state.who == "declined":
            raise Declined
        return await receiver.act("do", context.idempotency_key)

    async def compensate(
        context: eb.StepContext[Trip], did: eb.StepCompleted[str] | eb.StepInDoubt
    ) -> None:
        await receiver.act("compensate", context.forward_key)

    step = eb.step(
        name,
        act,
        timeout=60 * SECOND,
        retry=replace(QUICK, maximum_attempts=100),
        refusals=(Declined,),
        maximum_crashes=MAXIMUM_CRASHES,
        record=note(name),
    )
    return step.compensated_by(
        compensate,
        retry=replace(QUICK, maximum_attempts="unlimited"),
        maximum_crashes=MAXIMUM_CRASHES,
    )


def local(name: str):
    once = replace(QUICK, maximum_attempts=1)
    return inside(
        name, retry=once, compensate_retry=once, maximum_crashes=MAXIMUM_CRASHES
    )


async def main(store: str, ledger: str, sagas: int, moment: int) -> None:
    victim = Victim(moment)
    receiver = LedgerReceiver(Path(ledger), victim)
    saga = trip(
        local("book"),
        outside(receiver, "pay"),
        local("pack"),
        outside(receiver, "ship"),
    )
    async with (
        eb.open_async(store) as opened,
        eb.SagaCoordinator(
            opened, [saga], on_event=victim.moment, ends_a_checkpoint=3
        ) as coordinator,
    ):
        for n in range(sagas):
            who = "declined" if n % 2 else "mia"
            await coordinator.start(saga, Trip(who), id=f"saga-{n}")
        for n in range(sagas):
            handle = await coordinator.get(saga, f"saga-{n}")
            await handle.result()


if __name__ == "__main__":
    _, where, ledger_path, how_many, when = sys.argv
    anyio.run(main, where, ledger_path, int(how_many), int(when))
