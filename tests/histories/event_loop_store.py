"""A store on an event loop, asked by the threads of the program of histories.

The calls of all threads run as tasks of one loop, so that their appends are in flight
together and are answered through the loop's own wake-ups.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine
from typing import TypeVar

import eventbraid as eb

T = TypeVar("T")


class StoreOnLoop:
    """An open store that is asked from the process's loop."""

    def __init__(self, path: str, **options: object) -> None:
        self._store = told(_opened(path, options))

    def append(self, events: list, **options: object) -> eb.Appended:
        return told(self._store.append(events, **options))

    def read_streams(self, streams: list[str], **options: object) -> eb.StreamsSnapshot:
        return told(self._store.read_streams(streams, **options))

    def read_stream(self, stream: str, **options: object) -> list[eb.RecordedEvent]:
        return told(_all_of(self._store.read_stream(stream, **options)))

    def read_all(self, **options: object) -> list[eb.RecordedEvent]:
        return told(_all_of(self._store.read_all(**options)))

    def version(self, stream: str) -> int:
        return told(self._store.version(stream))

    def head(self) -> int:
        return told(self._store.head())

    def subscribe(self, **options: object) -> SubscriptionOnLoop:
        return SubscriptionOnLoop(self._store.subscribe(**options))

    def close(self) -> None:
        told(self._store.close())


class SubscriptionOnLoop:
    """A subscription whose waits are tasks of the loop."""

    def __init__(self, subscription: eb.AsyncSubscription) -> None:
        self._subscription = subscription

    def __iter__(self) -> SubscriptionOnLoop:
        return self

    def __next__(self) -> eb.RecordedEvent:
        # A task can't end with StopAsyncIteration, so that the end is no event.
        found = told(_next_of(self._subscription))
        if found is None:
            raise StopIteration
        return found

    def close(self) -> None:
        loop().call_soon_threadsafe(self._subscription.close)


def told(asked: Coroutine[object, object, T]) -> T:
    """Ask in the loop, and wait for the answer."""
    return asyncio.run_coroutine_threadsafe(asked, loop()).result()


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """The process's loop: it runs in a thread of its own, as long as the process."""
    made = asyncio.new_event_loop()
    threading.Thread(target=made.run_forever, daemon=True).start()
    return made


async def _opened(path: str, options: dict[str, object]) -> eb.AsyncEventStore:
    return await eb.open_async(path, **options)


async def _all_of(events) -> list[eb.RecordedEvent]:
    return [event async for event in events]


async def _next_of(subscription: eb.AsyncSubscription) -> eb.RecordedEvent | None:
    return await anext(subscription, None)
