"""A program one of whose syncs fails; test_lost_sync runs it.

Usage: lost_sync_victim.py STORE FACE

It appends until an append fails, then calls every method of the store, closes it, opens it
again and appends. It prints the results as JSON.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable

import anyio

import eventbraid as eb

MAXIMUM = 100


class Sync:
    """A synchronous store."""

    def __init__(self, path: str) -> None:
        self._store = eb.open(path)

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._store, name)

    def read(self) -> int:
        return len(list(self._store.read_all()))


class Async:
    """An asynchronous store, with a new event loop for each call."""

    def __init__(self, path: str) -> None:
        self._store = anyio.run(self._open, path)

    async def _open(self, path: str) -> eb.AsyncEventStore:
        return await eb.open_async(path)

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._store, name)

        async def awaited(args, kwargs):
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: anyio.run(awaited, args, kwargs)

    def read(self) -> int:
        async def count() -> int:
            return len([event async for event in self._store.read_all()])

        return anyio.run(count)


def outcome(work: Callable[[], object]) -> str:
    """Return the name of the error that a call raises."""
    try:
        work()
    except eb.EventbraidError as error:
        return type(error).__name__
    return "none"


def main(path: str, face: str) -> None:
    opened = {"sync": Sync, "async": Async}[face]
    store = opened(path)
    results: dict[str, object] = {"acknowledged": 0}
    for number in range(MAXIMUM):
        event = eb.NewEvent("a", "x", b"", event_id=uuid.UUID(int=number + 1))
        try:
            store.append([event], idempotency_key=f"k-{number}")
        except eb.EventbraidError as error:
            results["ids"] = [str(event.event_id)]
            results["first"] = {
                "type": type(error).__name__,
                "text": str(error),
                "key": getattr(error, "idempotency_key", None),
                "ids": [str(i) for i in getattr(error, "event_ids", ())],
            }
            break
        results["acknowledged"] = number + 1
    lost = [("a", "x", b"")]
    results["then"] = [outcome(lambda: store.append(lost)) for _ in range(3)]
    results["poisoned"] = store.stats().poisoned
    results["head"], results["read"] = store.head(), store.read()
    results["closed"] = outcome(store.close)
    store = opened(path)
    results["reopened"] = store.head()
    again = store.append([event], idempotency_key=f"k-{number}")
    results["again"] = {"replayed": again.replayed, "position": again.last_position}
    results["verified"] = store.verify().events
    store.close()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
