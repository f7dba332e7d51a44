"""Short questions that the contract's tests ask of a store."""

from __future__ import annotations

import eventbraid as eb


async def listed(items):
    """Collect an async iterator."""
    return [item async for item in items]


async def first(count, subscription):
    """Take so many events from a subscription."""
    taken = []
    async for recorded in subscription:
        taken.append(recorded)
        if len(taken) == count:
            break
    return taken


async def filled(store, *streams):
    """Append one event per given stream, each in a commit of its own."""
    for number, stream in enumerate(streams, start=1):
        await store.append([(stream, "happened", str(number).encode())])


async def is_untouched(store, head=0):
    """Whether the log still ends where it did."""
    return await store.head() == head and len(await listed(store.read_all())) == head


async def refusal(awaitable, kind=eb.EventbraidError):
    """Answer the error that something must raise."""
    try:
        outcome = await awaitable
    except kind as error:
        return error
    message = f"expected {kind.__name__}, got {outcome!r}"
    raise AssertionError(message)
