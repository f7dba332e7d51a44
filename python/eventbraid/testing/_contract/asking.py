"""Short questions that the contract's tests ask of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from eventbraid.testing._contract.backend import (
        StoreUnderTest,
        SubscriptionUnderTest,
    )

# Seconds that a wait for events may take on the slowest of machines.
PATIENCE = 30.0

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Exception)


async def listed(items: AsyncIterable[_T]) -> list[_T]:
    """Collect an async iterator."""
    return [item async for item in items]


async def positions(events: AsyncIterable[eb.RecordedEvent]) -> list[int]:
    """Collect the positions of events."""
    return [recorded.position async for recorded in events]


async def versions(events: AsyncIterable[eb.RecordedEvent]) -> list[int]:
    """Collect the versions of events."""
    return [recorded.version async for recorded in events]


async def first(
    count: int, subscription: SubscriptionUnderTest
) -> list[eb.RecordedEvent]:
    """Take so many events from a subscription; fail if they do not come."""
    taken: list[eb.RecordedEvent] = []
    with anyio.move_on_after(PATIENCE):
        async for recorded in subscription:
            taken.append(recorded)
            if len(taken) == count:
                return taken
    message = f"{count} events should have come, but only {len(taken)} did"
    raise AssertionError(message)


async def filled(store: StoreUnderTest, *streams: str) -> None:
    """Append one event per given stream, each in a commit of its own."""
    for number, stream in enumerate(streams, start=1):
        await store.append([(stream, "happened", str(number).encode())])


async def is_untouched(store: StoreUnderTest, head: int = 0) -> bool:
    """Whether the log still ends where it did."""
    return await store.head() == head and len(await listed(store.read_all())) == head


async def refusal(awaitable: Awaitable[object], kind: type[_E]) -> _E:
    """Answer the error that something must raise."""
    try:
        outcome = await awaitable
    except kind as error:
        return error
    message = f"expected {kind.__name__}, got {outcome!r}"
    raise AssertionError(message)


async def refused_read(read: Callable[[], AsyncIterable[object]], kind: type[_E]) -> _E:
    """Answer the error that a read must raise, at the latest when it begins."""

    async def begun() -> list[object]:
        return await listed(read())

    return await refusal(begun(), kind)


class StartingLine:
    """Holds tasks back until as many as are expected have come."""

    def __init__(self, runners: int) -> None:
        self._missing = runners
        self._open = anyio.Event()

    async def wait(self) -> None:
        """Wait for the others."""
        self._missing -= 1
        if self._missing == 0:
            self._open.set()
        await self._open.wait()


async def race(*attempts: Callable[[], Awaitable[object]]) -> list[bool]:
    """Run all attempts from one starting line; answer which met no conflict."""
    line = StartingLine(len(attempts))
    won = [False] * len(attempts)

    async def run(number: int, attempt: Callable[[], Awaitable[object]]) -> None:
        await line.wait()
        try:
            await attempt()
        except eb.VersionConflict:
            return
        won[number] = True

    async with anyio.create_task_group() as tasks:
        for number, attempt in enumerate(attempts):
            tasks.start_soon(run, number, attempt)
    return won
