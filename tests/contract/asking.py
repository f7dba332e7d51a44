"""Short questions that tests ask of a store."""

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


async def is_untouched(store):
    """Whether nothing was ever written to the log."""
    return await store.head() == 0 and await listed(store.read_all()) == []


async def refusal(awaitable, kind=eb.EventbraidError):
    """Answer the error that something must raise."""
    try:
        outcome = await awaitable
    except kind as error:
        return error
    message = f"expected {kind.__name__}, got {outcome!r}"
    raise AssertionError(message)
