"""A store on an event loop, called by the threads of the program of histories.

The calls of all threads run as tasks of one loop, so that their appends are in flight at
the same time and their results arrive through the wake-ups of the loop.
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
    """An open store whose calls run on the event loop of the process."""

    def __init__(self, path: str, **options: object) -> None:
        self._store = run_on_loop(_opened(path, options))

    def append(self, events: list, **options: object) -> eb.Appended:
        return run_on_loop(self._store.append(events, **options))

    def read_streams(
        self, streams: list[str], **options: object
    ) -> eb.store.StreamsSnapshot:
        return run_on_loop(self._store.read_streams(streams, **options))

    def read_stream(self, stream: str, **options: object) -> list[eb.RecordedEvent]:
        return run_on_loop(_all_of(self._store.read_stream(stream, **options)))

    def read_all(self, **options: object) -> list[eb.RecordedEvent]:
        return run_on_loop(_all_of(self._store.read_all(**options)))

    def version(self, stream: str) -> int:
        return run_on_loop(self._store.version(stream))

    def head(self) -> int:
        return run_on_loop(self._store.head())

    def subscribe(self, **options: object) -> SubscriptionOnLoop:
        return SubscriptionOnLoop(self._store.subscribe(**options))

    def close(self) -> None:
        run_on_loop(self._store.close())


class SubscriptionOnLoop:
    """A subscription whose waits are tasks of the loop."""

    def __init__(self, subscription: eb.AsyncSubscription) -> None:
        self._subscription = subscription

    def __iter__(self) -> SubscriptionOnLoop:
        return self

    def __next__(self) -> eb.RecordedEvent:
        # A task cannot end with StopAsyncIteration, so `None` is the end.
        event = run_on_loop(_next_of(self._subscription))
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        loop().call_soon_threadsafe(self._subscription.close)


def run_on_loop(call: Coroutine[object, object, T]) -> T:
    """Run a coroutine on the loop, and wait for its result."""
    return asyncio.run_coroutine_threadsafe(call, loop()).result()


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of the process, which runs in a thread of its own."""
    new = asyncio.new_event_loop()
    threading.Thread(target=new.run_forever, daemon=True).start()
    return new


async def _opened(path: str, options: dict[str, object]) -> eb.AsyncEventStore:
    return await eb.open_async(path, **options)


async def _all_of(events) -> list[eb.RecordedEvent]:
    return [event async for event in events]


async def _next_of(subscription: eb.AsyncSubscription) -> eb.RecordedEvent | None:
    return await anext(subscription, None)
