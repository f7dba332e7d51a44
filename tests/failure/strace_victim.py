"""A process that records the time of each answer; test_engine_strace runs it.

Usage: strace_victim.py STORE MARKS

Threads append to a few streams. After every answer the thread writes a line to MARKS with
one system call: the kind of the answer, and the body of the event that it depends on.
Bodies are unique: `<STREAM VERSION>` and padding.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import eventbraid as eb

STREAMS = ("a-1", "a-2")
ROUNDS = 12
PADDING = b"x" * 8000


def token(stream: str, version: int) -> str:
    return f"<{stream} {version}>"


class Marks:
    """The file that records the answers."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def record(self, kind: str, stream: str, version: int) -> None:
        if version:
            os.write(self._file, f"{kind} {token(stream, version)}\n".encode())


def append(store: eb.EventStore, marks: Marks, stream: str, key: str) -> None:
    """Append at the present version, and again with the same key."""
    version = store.version(stream)
    body = token(stream, version + 1).encode() + PADDING
    expect = {stream: version}
    try:
        store.append([(stream, "x", body)], expect=expect, idempotency_key=key)
    except eb.VersionConflict as conflict:
        marks.record("conflict", stream, conflict.failures[0].actual)
        return
    marks.record("committed", stream, version + 1)
    again = store.append([(stream, "x", body)], expect=expect, idempotency_key=key)
    assert again.replayed
    marks.record("replay", stream, version + 1)


def check(store: eb.EventStore, marks: Marks, stream: str) -> None:
    """Check a version without an append, which succeeds or conflicts."""
    version = store.version(stream)
    try:
        store.append([], expect={stream: version})
    except eb.VersionConflict as conflict:
        marks.record("conflict", stream, conflict.failures[0].actual)
    else:
        marks.record("checked", stream, version)


def refuse(store: eb.EventStore, marks: Marks, stream: str) -> None:
    """Check an impossible expectation: the conflict contains the actual version."""
    try:
        store.append([], expect={stream: eb.NO_STREAM})
    except eb.VersionConflict as conflict:
        marks.record("conflict", stream, conflict.failures[0].actual)


def read(store: eb.EventStore, marks: Marks, stream: str) -> None:
    """Read the newest event."""
    for event in store.read_stream(stream, backward=True, limit=1):
        marks.record("read", stream, event.version)


def work(store: eb.EventStore, marks: Marks, worker: int) -> None:
    for number in range(ROUNDS):
        stream = STREAMS[(worker + number) % len(STREAMS)]
        append(store, marks, stream, f"key-{worker}-{number}")
        check(store, marks, stream)
        refuse(store, marks, stream)
        read(store, marks, stream)


def follow(subscription: eb.Subscription, marks: Marks) -> None:
    for event in subscription:
        marks.record("delivered", event.stream, event.version)


def main(path: Path, marks: Marks) -> None:
    with eb.open(path, segment_size=64 << 10, max_segment_size=64 << 10) as store:
        subscription = store.subscribe()
        follower = threading.Thread(target=follow, args=(subscription, marks))
        workers = [
            threading.Thread(target=work, args=(store, marks, worker))
            for worker in range(3)
        ]
        for thread in (follower, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        subscription.close()
        follower.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Marks(Path(sys.argv[2])))
