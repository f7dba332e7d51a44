"""The operations of an execution, with a measurement of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from eventbraid.command._execution_trace import ExecutionTrace, Phase
    from eventbraid.command._port import Port
    from eventbraid.command._queue import Waiter
    from eventbraid.store import (
        Appended,
        CategoryStreams,
        Expectation,
        NewEvent,
        RecordedEvent,
        StreamReservations,
        StreamsSnapshot,
    )


class ObservedPort:
    """The operations of another port, whose durations become facts of a trace.

    Each method returns to the phase that it has interrupted: a fold that reads further
    events continues as a fold.
    """

    __slots__ = ("_port", "trace")

    def __init__(self, port: Port, trace: ExecutionTrace) -> None:
        """Measure the operations of one execution.

        Args:
            port: The port.
            trace: The trace of the execution.
        """
        self._port = port
        self.trace = trace

    @property
    def links_appends(self) -> bool:
        """Whether an append can build on one whose outcome isn't known yet."""
        return self._port.links_appends

    @property
    def reservations(self) -> StreamReservations | None:
        """The reservations of the store; None if it has none."""
        return self._port.reservations

    async def append(
        self,
        events: Iterable[NewEvent],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Appended:
        """Append the events of the command, or a snapshot of a state."""
        trace = self.trace
        # The append that follows the decision is the command's own. Any other one is
        # that of a snapshot, which belongs to a fold.
        is_decided = trace.phase == "decide"
        trace.enter("append" if is_decided else "snapshot")
        following: Phase | None = None
        try:
            appended = await self._port.append(
                events,
                expect=expect,
                idempotency_key=idempotency_key,
                content=content,
                expect_categories=expect_categories,
            )
            # After its own append, the command folds its events into the states.
            following = "fold"
        finally:
            trace.enter(following)
        return appended

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append under an idempotency key."""
        previous = self.trace.enter("lookup")
        try:
            return await self._port.committed(idempotency_key, content=content)
        finally:
            self.trace.enter(previous)

    async def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
        limit: int | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position."""
        trace = self.trace
        previous = trace.enter("read")
        try:
            snapshot = await self._port.read_streams(
                streams, at=at, after=after, limit=limit
            )
        finally:
            trace.enter(previous)
        trace.events_read += len(snapshot.events)
        return snapshot

    async def category_streams(
        self, category: str, *, at: int | None, after: int = 0, limit: int
    ) -> CategoryStreams:
        """Return the streams of a category as of one position."""
        previous = self.trace.enter("read")
        try:
            return await self._port.category_streams(
                category, at=at, after=after, limit=limit
            )
        finally:
            self.trace.enter(previous)

    async def read_commit(self, first: int, last: int) -> list[RecordedEvent]:
        """Return the events from one position to another, both included."""
        previous = self.trace.enter("lookup")
        try:
            return await self._port.read_commit(first, last)
        finally:
            self.trace.enter(previous)

    async def read_last(self, stream: str) -> RecordedEvent | None:
        """Return the newest event of a stream; None if the stream has none."""
        previous = self.trace.enter("read")
        try:
            return await self._port.read_last(stream)
        finally:
            self.trace.enter(previous)

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait between two attempts, which belongs to no phase."""
        return self._port.sleep(seconds)

    async def checkpoint(self) -> None:
        """Let other tasks run, which belongs to no phase."""
        previous = self.trace.enter(None)
        try:
            await self._port.checkpoint()
        finally:
            self.trace.enter(previous)

    def waiter(self) -> Waiter:
        """Return a waiter for the current thread or task."""
        return self._port.waiter()

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        return self._port.now()
