"""The sessions that share a store, as leases and saga coordinators need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from eventbraid._native import LogWaiter
from eventbraid.store._completion_port import unwrapped
from eventbraid.store._current_port import current_port
from eventbraid.store._heartbeat import LoopHeartbeat
from eventbraid.store._reservation import LONGEST_SECONDS, NativeReservation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventbraid.store._handle import Handle


class Heartbeat(Protocol):
    """The heartbeat of an event loop: it shows that the loop still runs.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def age_within_the_loop() -> float:
        ...     async with eb.open_async("memory:") as store:
        ...         _ = store.coordination.start_heartbeat()
        ...         heartbeat = store.coordination.start_loop_heartbeat()
        ...         try:
        ...             return heartbeat.age()
        ...         finally:
        ...             heartbeat.stop()
        >>> asyncio.run(age_within_the_loop())
        0.0
    """

    def age(self) -> float:
        """Return the seconds since the event loop last ran; 0 within the loop."""
        ...

    def stop(self) -> None:
        """Stop the heartbeat."""
        ...


class Coordination(Protocol):
    """What a store reports about the sessions that share it.

    A backend implements it so that leases and sagas work on it. A store that only one
    session uses reports that session alone, with an age of 0.

    An open store has one such object, which is the same for its sync and its async
    face. Executors of commands recognize the store by it: those of one object let
    their commands queue for contended streams together. For this the object has to be
    hashable and to allow weak references; otherwise each executor has queues of its
    own, and the commands of two executors race.

    `StreamReservations` is an optional part.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     session = store.coordination.start_heartbeat()
        ...     list(store.coordination.heartbeat_ages()) == [session]
        True
    """

    def start_heartbeat(self) -> str:
        """Start the heartbeat of this session, unless it runs already.

        Returns:
            The session's id: the same at each call, and unique among all sessions.
        """
        ...

    def heartbeat_ages(self) -> Mapping[str, float]:
        """Return the live sessions, with the seconds since the last heartbeat of each.

        Sessions that never started a heartbeat are left out.
        """
        ...

    async def heartbeat_ages_async(self) -> Mapping[str, float]:
        """Return what `heartbeat_ages` does, off the event loop."""
        ...

    def start_loop_heartbeat(self) -> Heartbeat:
        """Start a heartbeat that comes from the running event loop.

        Until it is stopped, this session's heartbeat is at most as recent as the oldest
        of the last heartbeats of its event loops.
        """
        ...

    async def wait_beyond(self, position: int) -> None:
        """Wait until the durable head is beyond a position, or the store is closed.

        Args:
            position: The position.
        """
        ...


class NativeCoordination:
    """The sessions of a store of the engine."""

    __slots__ = ("__weakref__", "_handle")

    def __init__(self, handle: Handle) -> None:
        """Report about the store of a handle."""
        self._handle = handle

    def start_heartbeat(self) -> str:
        """Start the heartbeat of this session, unless it runs already."""
        return self._handle.native.start_heartbeat()

    def heartbeat_ages(self) -> Mapping[str, float]:
        """Return the seconds since the last heartbeat of each live session."""
        return dict(self._handle.native.heartbeat_ages())

    async def heartbeat_ages_async(self) -> Mapping[str, float]:
        """Return what `heartbeat_ages` does, off the event loop."""
        port = current_port()
        token = self._handle.native.heartbeat_ages_async(port.native)
        ages = cast(
            "list[tuple[str, float]]", unwrapped(await port.result(token), list)
        )
        return dict(ages)

    def start_loop_heartbeat(self) -> LoopHeartbeat:
        """Start a heartbeat that comes from the running event loop."""
        return LoopHeartbeat(self._handle.native)

    def reserve(
        self,
        streams: Sequence[str],
        seconds: float,
        *,
        categories: Sequence[str] = (),
    ) -> NativeReservation | None:
        """Reserve streams for a time, at most `LONGEST_SECONDS`. It doesn't wait."""
        seconds = min(seconds, LONGEST_SECONDS)
        number = self._handle.own().reserve(list(streams), seconds, list(categories))
        return (
            None if number is None else NativeReservation(self._handle, number, seconds)
        )

    async def wait_beyond(self, position: int) -> None:
        """Wait until the durable head is beyond a position, or the store is closed."""
        port = current_port()
        waiter = LogWaiter(self._handle.native)
        token = waiter.wait_async(port.native, position)
        try:
            unwrapped(await port.result(token), bool)
        finally:
            waiter.abandon(token)
