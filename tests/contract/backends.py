"""Stores of every kind behind one awaited interface, for the contract's tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_NO_MORE = object()


class SyncFace:
    """The sync store, as if it were the async one: its waits run in a thread."""

    def __init__(self, store: eb.EventStore) -> None:
        self.store = store

    def __getattr__(self, name):
        method = getattr(self.store, name)

        async def awaited(*args, **kwargs):
            return await anyio.to_thread.run_sync(lambda: method(*args, **kwargs))

        return awaited

    def read_stream(self, *args, **kwargs):
        return _iterated(self.store.read_stream(*args, **kwargs))

    def read_all(self, *args, **kwargs):
        return _iterated(self.store.read_all(*args, **kwargs))

    def streams(self, *args, **kwargs):
        return _iterated(self.store.streams(*args, **kwargs))

    def subscribe(self, **kwargs):
        return SyncSubscription(self.store.subscribe(**kwargs))


async def _iterated(items):
    for item in items:
        yield item


class SyncSubscription:
    """A sync subscription whose waits run in a thread."""

    def __init__(self, subscription: eb.Subscription) -> None:
        self.subscription = subscription
        self.close = subscription.close

    @property
    def position(self) -> int:
        return self.subscription.position

    def __aiter__(self):
        return self

    async def __anext__(self):
        step = await anyio.to_thread.run_sync(next, self.subscription, _NO_MORE)
        if step is _NO_MORE:
            raise StopAsyncIteration
        return step

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.close()


@dataclass(frozen=True)
class Backend:
    """One kind of store, reached through one face."""

    location: str
    face: str

    @asynccontextmanager
    async def open(self, **options) -> AsyncIterator[eb.AsyncEventStore]:
        """Open it, closed at the end of the block."""
        if self.face == "async":
            async with eb.open_async(self.location, **options) as store:
                yield store
        else:
            with eb.open(self.location, **options) as store:
                yield SyncFace(store)


def backends(folder: Path) -> dict[str, Backend]:
    """Give every backend by its name; those on disk live in a folder."""
    disk = str(folder / "store.braid")
    return {
        "disk-sync": Backend(disk, "sync"),
        "disk-async": Backend(disk, "async"),
        "memory-sync": Backend("memory:", "sync"),
        "memory-async": Backend("memory:", "async"),
    }


NAMES = ("disk-sync", "disk-async", "memory-sync", "memory-async")
