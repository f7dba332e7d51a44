"""The time of day for sagas, which advances like the monotonic clock.

Recorded times are times of day, because they must have the same meaning in other
processes and after a restart. But the wall clock may be set at any moment, by hand, by
NTP or by the hypervisor, permanently or for half a second. If sagas followed the wall
clock, one second of wrong time could compensate each saga that has a deadline, or a
retry that is due could wait for hours. So each saga uses the wall clock only once: when
this process first reads the saga. From then on, its time advances with the monotonic
clock. A jump of the wall clock is logged, and no decision depends on the jump.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from eventbraid.saga.machine._due_times import CLOCK_TOLERANCE_SECONDS, TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

_log = logging.getLogger("eventbraid.saga")

CONFIRMATION = 5.0
"""The seconds for which both clocks must agree before the wall clock is trusted."""

_LOOK_INTERVAL = 0.5


class Clock:
    """The wall clock of this process, as far as the monotonic clock confirms it.

    Args:
        wall: Returns the seconds since 1970; may jump.
        monotonic: Returns seconds since an unknown moment; never jumps.
    """

    __slots__ = (
        "_jumped_at",
        "_jumped_to",
        "_offset",
        "_since",
        "_wall",
        "next_look",
        "read_monotonic",
    )

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use the present offset of the wall clock until a later one is confirmed."""
        self._wall = wall
        self.read_monotonic = monotonic
        self._since = monotonic()
        self._offset = wall() - self._since
        self._jumped_to: float | None = None
        self.next_look = self._since + _LOOK_INTERVAL
        self._jumped_at = 0.0

    def offset(self) -> float:
        """Return the offset of the wall clock from the monotonic clock, in seconds.

        After a jump, the offset from before the jump is returned until the new offset
        is confirmed.
        """
        now = self.read_monotonic()
        self.next_look = now + _LOOK_INTERVAL
        measured = self._wall() - now
        jump = measured - self._offset
        if abs(jump) <= CLOCK_TOLERANCE_SECONDS:
            if self._jumped_to is not None:
                _log.warning("the wall clock is back at its time from before the jump")
            self._offset, self._jumped_to = measured, None
        elif (
            self._jumped_to is None
            or abs(measured - self._jumped_to) > CLOCK_TOLERANCE_SECONDS
        ):
            _log.warning(
                "the wall clock jumped by %+.1f s; sagas keep their time", jump
            )
            self._jumped_to, self._jumped_at = measured, now
        elif now - self._jumped_at >= CONFIRMATION:
            _log.warning(
                "the wall clock stays at its new time after a jump by %+.1f s; sagas "
                "that this process reads from now on use the new time",
                jump,
            )
            self._since = self._jumped_at
            self._offset, self._jumped_to = measured, None
        return self._offset

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        """Wait for an event, at most for a number of seconds; None: without limit."""
        with anyio.move_on_after(seconds):
            await event.wait()

    def lowest_offset(self) -> float:
        """Return the lower of the offsets before and after an unconfirmed jump."""
        offset = self.offset()
        return offset if self._jumped_to is None else min(offset, self._jumped_to)

    def seconds_to_confirm(self) -> float:
        """Return the minimum seconds until the offset is confirmed; 0 if it is."""
        self.offset()
        since = self._since if self._jumped_to is None else self._jumped_at
        return max(since + CONFIRMATION - self.read_monotonic(), 0.0)


class SagaClock:
    """The time of day for one saga in this process.

    Args:
        clock: The clock of the process.
        is_new: Whether the saga is started now. If so, all its times come from this
            clock, and none is compared with a time of another clock.

    Attributes:
        is_confirmed: Whether its times can be compared with those of other processes.
    """

    __slots__ = ("_clock", "_offset", "_seen_at", "is_confirmed")

    def __init__(self, clock: Clock, *, is_new: bool = False) -> None:
        """Begin with the time of the process."""
        self._clock = clock
        self._offset = clock.offset() if is_new else None
        self._seen_at = clock.read_monotonic()
        self.is_confirmed = is_new

    def now(self) -> datetime:
        """Return the time of day for this saga.

        Until the clock is confirmed, two times are possible if it has jumped. The
        earlier one is returned. With the later one, a deadline could seem to have
        passed, and the compensation that follows can't be reversed.
        """
        clock, offset = self._clock, self._offset
        monotonic = clock.read_monotonic()
        # `offset` logs the jumps of the wall clock. So call it at intervals, even if
        # this saga no longer needs its result.
        if monotonic >= clock.next_look:
            clock.offset()
        if offset is None:
            offset = self._clock.lowest_offset()
            if not self._clock.seconds_to_confirm():
                self._offset, self.is_confirmed = offset, True
        return datetime.fromtimestamp(monotonic + offset, UTC)

    def wait(self, event: anyio.Event, seconds: float | None) -> Awaitable[None]:
        """Wait for an event, at most for a number of seconds; None: without limit."""
        return self._clock.wait(event, seconds)

    def bounded(self, due: datetime, longest: timedelta) -> datetime:
        """Return a recorded due time, or an earlier time if the recorded one is wrong.

        The wait began before this process first read the saga. So a due time is wrong
        if it is later than that moment plus the longest wait. Then it was recorded by a
        wall clock that was ahead and has been set back, or by the wall clock of another
        machine.

        Args:
            due: The due time.
            longest: The longest possible wait before such a due time.
        """
        if self._offset is None:
            return due
        seen_at = datetime.fromtimestamp(self._seen_at + self._offset, UTC)
        return due if due <= seen_at + longest + TOLERANCE else seen_at + longest

    def seconds_to_confirm(self) -> float:
        """Return the seconds until times of other processes can be compared; 0: now."""
        return 0.0 if self.is_confirmed else self._clock.seconds_to_confirm()


PROCESS_CLOCK = Clock()
"""The clock of this process; it is confirmed a few seconds after the import."""


def time_of_day() -> datetime:
    """Return the time of day in this process."""
    return SagaClock(PROCESS_CLOCK).now()
