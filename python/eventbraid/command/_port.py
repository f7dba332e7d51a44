"""What an execution needs of the world, for threads and for event loops.

The execution is one coroutine. Over `SyncPort` it never suspends, because every
answer is there when the call returns; over `AsyncPort` it is awaited.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Mapping,
    )

    from eventbraid.command._queue import Waiter
    from eventbraid.store import (
        Appended,
        Expectation,
        NewEvent,
        RecordedEvent,
        StreamsSnapshot,
    )

T = TypeVar("T")


class SyncStore(Protocol):
    """The part of `EventStore` that commands need."""

    def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
    ) -> Appended:
        """Append events."""
        ...

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Look up what was done under a key."""
        ...

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position."""
        ...

    def read_all(
        self, *, after: int = 0, before: int | None = None
    ) -> Iterator[RecordedEvent]:
        """Read the log."""
        ...


class AsyncStore(Protocol):
    """The part of `AsyncEventStore` that commands need."""

    def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
    ) -> Awaitable[Appended]:
        """Append events."""
        ...

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Awaitable[Appended | None]:
        """Look up what was done under a key."""
        ...

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> Awaitable[StreamsSnapshot]:
        """Read several streams as of one position."""
        ...

    def read_all(
        self, *, after: int = 0, before: int | None = None
    ) -> AsyncIterator[RecordedEvent]:
        """Read the log."""
        ...


class Port(Protocol):
    """The world, as an execution sees it."""

    @property
    def store(self) -> AsyncStore:
        """Give the store, awaited."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def waiter(self) -> Waiter:
        """Make somebody who can wait for a turn here."""
        ...

    def now(self) -> float:
        """Give a time in seconds that never goes back."""
        ...


class AsyncPort:
    """The world of an event loop: asyncio, uvloop or trio."""

    __slots__ = ("store",)

    def __init__(self, store: AsyncStore) -> None:
        """Execute on a store that is awaited."""
        self.store = store

    async def sleep(self, seconds: float) -> None:
        """Let the loop's other tasks run meanwhile."""
        await anyio.sleep(seconds)

    def waiter(self) -> Waiter:
        """Make a task that can wait."""
        return TaskWaiter()

    def now(self) -> float:
        """Give the monotonic clock."""
        return time.monotonic()


class SyncPort:
    """The world of a thread."""

    __slots__ = ("store",)

    def __init__(self, store: SyncStore) -> None:
        """Execute on a store that blocks."""
        self.store = AnsweringStore(store)

    async def sleep(self, seconds: float) -> None:
        """Block the thread; Ctrl-C ends it."""
        time.sleep(seconds)  # noqa: ASYNC251 - no loop runs here

    def waiter(self) -> Waiter:
        """Make a thread that can wait."""
        return ThreadWaiter()

    def now(self) -> float:
        """Give the monotonic clock."""
        return time.monotonic()


class AnsweringStore:
    """A blocking store in the shape of an awaited one."""

    __slots__ = ("_store",)

    def __init__(self, store: SyncStore) -> None:
        """Wrap a blocking store."""
        self._store = store

    async def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
    ) -> Appended:
        """Append events."""
        return self._store.append(
            events, expect=expect, idempotency_key=idempotency_key, content=content
        )

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Look up what was done under a key."""
        return self._store.committed(idempotency_key, content=content)

    async def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position."""
        return self._store.read_streams(streams, at=at, after=after)

    async def read_all(
        self, *, after: int = 0, before: int | None = None
    ) -> AsyncIterator[RecordedEvent]:
        """Read the log."""
        for recorded in self._store.read_all(after=after, before=before):
            yield recorded


def run_without_loop(execution: Coroutine[object, object, T]) -> T:
    """Run a coroutine that never suspends, and give its result.

    Raises:
        RuntimeError: It did suspend, which a `SyncPort` never does.
    """
    try:
        execution.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    execution.close()
    raise RuntimeError("a synchronous execution waited for an event loop")


class ThreadWaiter:
    """A thread that waits for its turn."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        """Make a waiter for this thread."""
        self._turn = threading.Event()

    def wake(self) -> None:
        """Say that the turn has come."""
        self._turn.set()

    async def wait(self, seconds: float) -> bool:
        """Block until the turn has come, or the time is over."""
        return self._turn.wait(seconds)


class TaskWaiter:
    """A task that waits for its turn; it may be woken from any thread."""

    __slots__ = ("_call", "_thread", "_turn")

    def __init__(self) -> None:
        """Make a waiter for the running loop."""
        self._turn = anyio.Event()
        self._thread = threading.get_ident()
        self._call = _loop_call()

    def wake(self) -> None:
        """Say that the turn has come."""
        if threading.get_ident() == self._thread:
            self._turn.set()
        else:
            self._call(self._turn.set)

    async def wait(self, seconds: float) -> bool:
        """Wait until the turn has come, or the time is over."""
        with anyio.move_on_after(seconds):
            await self._turn.wait()
        return self._turn.is_set()


def _loop_call() -> Callable[[Callable[[], None]], object]:
    """Give what makes the running loop call something, from any thread."""
    if "trio" in sys.modules:
        import trio  # noqa: PLC0415 - an optional dependency, imported already

        if trio.lowlevel.in_trio_run():
            return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe
