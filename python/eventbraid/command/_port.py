"""What an execution needs of the world, for threads and for event loops.

The execution is one coroutine. Over `SyncPort` it never suspends, because every
answer is there when the call returns; over `AsyncPort` it is awaited.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

from eventbraid.store import AsyncEventStore
from eventbraid.store._async import (
    committed_without_checkpoint,
    read_streams_without_checkpoint,
)
from eventbraid.store._event_loop import current_port
from eventbraid.store._handle import Handle
from eventbraid.store._reservation import release, reserve

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    import trio

    from eventbraid.command._queue import Waiter
    from eventbraid.store import (
        Appended,
        Expectation,
        NewEvent,
        RecordedEvent,
        StreamsSnapshot,
    )


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
        """The store, awaited."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def checkpoint(self) -> None:
        """Let other tasks run, and stop here if this one is cancelled.

        Reads of `store` needn't do so: whatever ends without an append calls this.
        """
        ...

    def waiter(self) -> Waiter:
        """Make a waiter that can wait for a turn here."""
        ...

    def reserve(self, streams: Sequence[str], seconds: float) -> int | None:
        """Reserve streams; see `store._reservation.reserve`. It doesn't wait."""
        ...

    def release(self, reservation: int) -> None:
        """End a reservation."""
        ...

    def now(self) -> float:
        """Return a time in seconds that never goes back."""
        ...


class Reserving:
    """Reservations of streams, on any store."""

    __slots__ = ("_reservable",)

    def __init__(self, store: object) -> None:
        """Reserve streams of a store, if it has reservations."""
        self._reservable = store

    def reserve(self, streams: Sequence[str], seconds: float) -> int | None:
        """Reserve streams; see `store._reservation.reserve`. It doesn't wait."""
        return reserve(self._reservable, streams, seconds)

    def release(self, reservation: int) -> None:
        """End a reservation."""
        release(self._reservable, reservation)


class AsyncPort(Reserving):
    """The world of an event loop: asyncio, uvloop or trio."""

    __slots__ = ("store",)

    def __init__(self, store: AsyncStore) -> None:
        """Execute on a store that is awaited."""
        super().__init__(store)
        handle: object = getattr(store, "_handle", None)
        # A store of another class, a test's for example, is called by its own methods.
        self.store = (
            _LeanStore(store, handle)
            if type(store) is AsyncEventStore and isinstance(handle, Handle)
            else store
        )

    async def sleep(self, seconds: float) -> None:
        """Let the loop's other tasks run meanwhile."""
        await anyio.sleep(seconds)

    async def checkpoint(self) -> None:
        """Let the loop's other tasks run."""
        await current_port().checkpoint()

    def waiter(self) -> Waiter:
        """Make a task that can wait."""
        return TaskWaiter()

    def now(self) -> float:
        """Return the time of the monotonic clock."""
        return time.monotonic()


class SyncPort(Reserving):
    """The world of a thread."""

    __slots__ = ("store",)

    def __init__(self, store: SyncStore) -> None:
        """Execute on a store that blocks."""
        super().__init__(store)
        self.store = AnsweringStore(store)

    async def sleep(self, seconds: float) -> None:
        """Block the thread; Ctrl-C ends it."""
        time.sleep(seconds)  # noqa: ASYNC251 - no loop runs here

    async def checkpoint(self) -> None:
        """Return at once: the system switches between threads at any time."""

    def waiter(self) -> Waiter:
        """Make a thread that can wait."""
        return ThreadWaiter()

    def now(self) -> float:
        """Return the time of the monotonic clock."""
        return time.monotonic()


class _LeanStore:
    """A store whose reads are no checkpoints if the answer is in memory."""

    __slots__ = ("append", "committed", "read_all", "read_streams")

    def __init__(self, store: AsyncEventStore, handle: Handle) -> None:
        """Wrap a store of event loops."""
        self.append = store.append
        self.committed = partial(committed_without_checkpoint, handle)
        self.read_streams = partial(read_streams_without_checkpoint, handle)
        self.read_all = store.read_all


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


class ThreadWaiter:
    """A thread that waits for its turn."""

    __slots__ = ("_turn", "blocked", "is_urgent", "runner")

    def __init__(self) -> None:
        """Make a waiter for this thread."""
        loop = running_loop()
        self._turn = threading.Event()
        self.runner: object = threading.get_ident()
        self.is_urgent = loop is not None
        self.blocked = (self.runner,) if loop is None else (self.runner, loop)

    def can_run(self) -> bool:
        """Return True: a thread that ends gives its turn back before."""
        return True

    def wake(self) -> bool:
        """Signal the turn."""
        self._turn.set()
        return True

    async def wait(self, seconds: float) -> bool:
        """Block until the turn has come, or the time is over."""
        return self._turn.wait(seconds)


class TaskWaiter:
    """A task that waits for its turn; it may be woken from any thread.

    It keeps no reference that would keep a closed event loop alive for longer than the
    task itself does.
    """

    __slots__ = ("_loop", "_turn")

    blocked: tuple[object, ...] = ()
    is_urgent = False

    def __init__(self) -> None:
        """Make a waiter for the running loop.

        Raises:
            RuntimeError: No event loop runs that the library knows.
        """
        loop = running_loop()
        if loop is None:
            raise RuntimeError("no asyncio or trio event loop runs here")
        self._turn = anyio.Event()
        self._loop = loop

    @property
    def runner(self) -> object:
        """The event loop."""
        return self._loop

    def can_run(self) -> bool:
        """Return whether the event loop is there and runs."""
        return self._loop.is_running()

    def wake(self) -> bool:
        """Signal the turn; return whether the event loop can still deliver it."""
        if running_loop() == self._loop:
            self._turn.set()
            return True
        return self._loop.call(self._turn.set) and self.can_run()

    async def wait(self, seconds: float) -> bool:
        """Wait until the turn has come, or the time is over."""
        with anyio.move_on_after(seconds):
            await self._turn.wait()
        return self._turn.is_set()


@dataclass(frozen=True, slots=True)
class AsyncioLoop:
    """An event loop of asyncio or uvloop."""

    loop: asyncio.AbstractEventLoop

    def is_running(self) -> bool:
        """Return whether it runs; one that was stopped or closed doesn't."""
        return self.loop.is_running()

    def call(self, function: Callable[[], object]) -> bool:
        """Have the loop call a function; return False if the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class TrioLoop:
    """A run of trio."""

    token: trio.lowlevel.TrioToken

    def is_running(self) -> bool:
        """Return whether it runs."""
        return self.call(_nothing)

    def call(self, function: Callable[[], object]) -> bool:
        """Have the run call a function; return False if it is over."""
        try:
            self.token.run_sync_soon(function, idempotent=True)
        except RuntimeError:
            return False
        return True


def _nothing() -> None:
    """Do nothing, in an event loop that is asked whether it runs."""


def running_loop() -> AsyncioLoop | TrioLoop | None:
    """Return the event loop that runs in this thread, if there is one."""
    if "trio" in sys.modules:
        import trio  # noqa: PLC0415 - an optional dependency, imported already

        if trio.lowlevel.in_trio_run():
            return TrioLoop(trio.lowlevel.current_trio_token())
    try:
        return AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        return None
