"""A process that has a store open, and how it ends; run as a file of its own.

It imports the library and nothing more, so that what it weighs is what the library
weighs.

    _store_process.py fill STORE EVENTS COMMIT   append so many, then be killed
    _store_process.py kill STORE                 open, replay, append, then be killed
    _store_process.py close STORE                open, replay, close
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import eventbraid as eb

KILLED = -signal.SIGKILL

_IN_FLIGHT = 256
_STREAMS = 10_000
_DATA = b'{"amount":100,"currency":"USD","note":"' + b"0" * 159 + b'"}'


def main(end: str, path: str, *numbers: str) -> None:
    """Live, and end as told."""
    if end == "fill":
        asyncio.run(_fill(path, *map(int, numbers)))
    start = time.perf_counter()
    store = eb.open(path, create=False)
    opened = time.perf_counter() - start
    events = sum(1 for _ in store.read_all())
    facts = {"opened": opened, "events": events, "peak": _peak()}
    print(json.dumps(facts), flush=True)
    if end == "kill":
        store.append([_event(events)])
        _die()
    store.close()


def _event(number: int) -> tuple[str, str, bytes]:
    return f"account-{number % _STREAMS:05}", "account.deposited", _DATA


async def _fill(path: str, events: int, commit: int) -> None:
    """Append, many commits at a time, and be killed with the store open."""
    store = await eb.open_async(path)
    begins = iter(range(0, events, commit))

    async def work() -> None:
        for begin in begins:
            end = min(begin + commit, events)
            await store.append([_event(number) for number in range(begin, end)])

    await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Of this program alone, where `getrusage` counts what its parent had before it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
