"""Short calls of a store for tests."""

from __future__ import annotations

import eventbraid as eb


async def listed(items):
    """Collect an async iterator."""
    return [item async for item in items]


async def first(count, subscription):
    """Return the first events of a subscription."""
    taken = []
    async for recorded in subscription:
        taken.append(recorded)
        if len(taken) == count:
            break
    return taken


async def is_untouched(store):
    """Whether the log is empty."""
    return await store.head() == 0 and await listed(store.read_all()) == []


async def refusal(awaitable, kind=eb.EventbraidError):
    """Return the error that a call must raise."""
    try:
        outcome = await awaitable
    except kind as error:
        return error
    message = f"expected {kind.__name__}, got {outcome!r}"
    raise AssertionError(message)
