"""The operations on a store that a lease needs, for threads and for event loops."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

    from eventbraid.store import (
        Appended,
        AsyncStore,
        Coordination,
        Expectation,
        Heartbeat,
        NewEvent,
        RecordedEvent,
        Store,
    )


class Port(Protocol):
    """The operations that a lease needs; with `ThreadPort` none of them suspends."""

    @property
    def coordination(self) -> Coordination:
        """The sessions that share the store."""
        ...

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation],
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append events."""
        ...

    async def last_of(self, stream: str) -> RecordedEvent | None:
        """Return the last event of a stream; None if the stream is empty."""
        ...

    async def heartbeat_ages(self) -> Mapping[str, float]:
        """Return the live sessions, with the age of the last heartbeat of each."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def shield(self) -> AbstractContextManager[object]:
        """Return a block that a cancellation doesn't interrupt."""
        ...

    def heartbeat(self) -> Heartbeat | None:
        """Start a heartbeat of the event loop; return None in a thread."""
        ...


class ThreadPort:
    """The operations of a store that blocks the calling thread."""

    __slots__ = ("_store", "coordination")

    def __init__(self, store: Store) -> None:
        """Use a store whose methods block."""
        self._store = store
        self.coordination = store.coordination

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation],
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append events."""
        return self._store.append(
            events, expect=expect, idempotency_key=idempotency_key
        )

    async def last_of(self, stream: str) -> RecordedEvent | None:
        """Return the last event of a stream; None if the stream is empty."""
        return next(self._store.read_stream(stream, backward=True, limit=1), None)

    async def heartbeat_ages(self) -> Mapping[str, float]:
        """Return the live sessions, with the age of the last heartbeat of each."""
        return self.coordination.heartbeat_ages()

    async def sleep(self, seconds: float) -> None:
        """Block the thread; Ctrl-C ends the wait."""
        time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs this coroutine

    def shield(self) -> AbstractContextManager[object]:
        """Return a block without effect, because a thread isn't cancelled."""
        return contextlib.nullcontext()

    def heartbeat(self) -> Heartbeat | None:
        """Return None: the session's own heartbeat is enough for its threads."""
        return None


class LoopPort:
    """The operations of a store that is awaited: on asyncio, uvloop or trio."""

    __slots__ = ("_store", "coordination")

    def __init__(self, store: AsyncStore) -> None:
        """Use a store whose methods are awaited."""
        self._store = store
        self.coordination = store.coordination

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation],
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append events."""
        return await self._store.append(
            events, expect=expect, idempotency_key=idempotency_key
        )

    async def last_of(self, stream: str) -> RecordedEvent | None:
        """Return the last event of a stream; None if the stream is empty."""
        last = self._store.read_stream(stream, backward=True, limit=1)
        events = [recorded async for recorded in last]
        return events[0] if events else None

    async def heartbeat_ages(self) -> Mapping[str, float]:
        """Return the live sessions, with the age of the last heartbeat of each."""
        return await self.coordination.heartbeat_ages_async()

    async def sleep(self, seconds: float) -> None:
        """Wait while other tasks run."""
        await anyio.sleep(seconds)

    def shield(self) -> AbstractContextManager[object]:
        """Return a block that a cancellation doesn't interrupt."""
        return anyio.CancelScope(shield=True)

    def heartbeat(self) -> Heartbeat | None:
        """Start a heartbeat of the running event loop."""
        return self.coordination.start_loop_heartbeat()
