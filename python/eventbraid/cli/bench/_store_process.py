"""A process that opens a store, and then closes it or is killed; run as a file.

It imports the library and nothing else, so that its memory is the library's.

    _store_process.py fill STORE EVENTS COMMIT   append events, then be killed
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
    """Open the store, replay it, print a report, and end as requested."""
    if end == "fill":
        asyncio.run(_fill(path, *map(int, numbers)))
    start = time.perf_counter()
    store = eb.open(path, create=False)
    opened = time.perf_counter() - start
    events = sum(1 for _ in store.read_all())
    report = {"opened": opened, "events": events, "peak": _peak()}
    print(json.dumps(report), flush=True)
    if end == "kill":
        store.append([_event(events)])
        _kill_self()
    store.close()


def _event(number: int) -> tuple[str, str, bytes]:
    return f"account-{number % _STREAMS:05}", "account.deposited", _DATA


async def _fill(path: str, events: int, commit: int) -> None:
    """Append with many commits in flight, then be killed with the store open."""
    store = await eb.open_async(path)
    begins = iter(range(0, events, commit))

    async def work() -> None:
        for begin in begins:
            end = min(begin + commit, events)
            await store.append([_event(number) for number in range(begin, end)])

    await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
    _kill_self()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _peak() -> int:
    """Return the peak memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Of this program alone: `getrusage` includes the parent's before the exec.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(*sys.argv[1:])
