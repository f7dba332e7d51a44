"""A program one of whose syncs fails: the other half of test_lost_sync.

Usage: lost_sync_victim.py STORE FACE

Appends until one fails, then tries what can be tried with the store, closes it, opens it
again and goes on. What it was told stands on its standard output, as JSON.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable

import anyio

import eventbraid as eb

MOST = 100


class Sync:
    """The synchronous face."""

    def __init__(self, path: str) -> None:
        self._store = eb.open(path)

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._store, name)

    def read(self) -> int:
        return len(list(self._store.read_all()))


class Async:
    """The async face, a loop at a time."""

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
    """The name of the error that it raises."""
    try:
        work()
    except eb.EventbraidError as error:
        return type(error).__name__
    return "none"


def main(path: str, face: str) -> None:
    opened = {"sync": Sync, "async": Async}[face]
    store = opened(path)
    told: dict[str, object] = {"acknowledged": 0}
    for number in range(MOST):
        event = eb.NewEvent("a", "x", b"", event_id=uuid.UUID(int=number + 1))
        try:
            store.append([event], idempotency_key=f"k-{number}")
        except eb.EventbraidError as error:
            told["ids"] = [str(event.event_id)]
            told["first"] = {
                "type": type(error).__name__,
                "text": str(error),
                "key": getattr(error, "idempotency_key", None),
                "ids": [str(i) for i in getattr(error, "event_ids", ())],
            }
            break
        told["acknowledged"] = number + 1
    lost = [("a", "x", b"")]
    told["then"] = [outcome(lambda: store.append(lost)) for _ in range(3)]
    told["poisoned"] = store.stats().poisoned
    told["head"], told["read"] = store.head(), store.read()
    told["closed"] = outcome(store.close)
    store = opened(path)
    told["reopened"] = store.head()
    again = store.append([event], idempotency_key=f"k-{number}")
    told["again"] = {"replayed": again.replayed, "position": again.last_position}
    told["verified"] = store.verify().events
    store.close()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
