"""Stores of every kind behind one awaited interface, for the contract's tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

import eventbraid as eb
from tests.contract.sqlite_store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from eventbraid.testing import StoreBackend, StoreUnderTest

_NO_MORE = object()


class SyncFace:
    """A sync store with the interface of an async one: its waits run in a thread."""

    def __init__(self, store) -> None:
        self.store = store

    @property
    def coordination(self):
        return self.store.coordination

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

    def __init__(self, subscription) -> None:
        self.subscription = subscription
        self.close = subscription.close

    @property
    def position(self) -> int:
        return self.subscription.position

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            step = await anyio.to_thread.run_sync(
                next, self.subscription, _NO_MORE, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            # The thread still waits: closing a sync subscription ends its wait.
            self.close()
            raise
        if step is _NO_MORE:
            raise StopAsyncIteration
        return step

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.close()


@dataclass(frozen=True)
class Embedded:
    """The engine, on disk or in memory, called synchronously or asynchronously."""

    location: str
    face: str

    @property
    def durable(self) -> bool:
        return self.location != "memory:"

    @property
    def shared(self) -> bool:
        return self.durable

    @asynccontextmanager
    async def open(self) -> AsyncIterator[StoreUnderTest]:
        if self.face == "async":
            async with eb.open_async(self.location) as store:
                yield store
        else:
            with eb.open(self.location) as store:
                yield SyncFace(store)


@dataclass(frozen=True)
class Sqlite:
    """The store on SQLite."""

    path: str
    durable: bool = True
    shared: bool = True

    @asynccontextmanager
    async def open(self) -> AsyncIterator[StoreUnderTest]:
        with SqliteStore(self.path) as store:
            yield SyncFace(store)


def backends(folder: Path) -> dict[str, StoreBackend]:
    """Return every backend by its name; those on disk are in a folder."""
    disk = str(folder / "store.braid")
    return {
        "disk-sync": Embedded(disk, "sync"),
        "disk-async": Embedded(disk, "async"),
        "memory-sync": Embedded("memory:", "sync"),
        "memory-async": Embedded("memory:", "async"),
        "sqlite": Sqlite(str(folder / "store.sqlite")),
    }


NAMES = ("disk-sync", "disk-async", "memory-sync", "memory-async", "sqlite")
