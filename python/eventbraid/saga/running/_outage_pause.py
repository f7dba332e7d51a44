"""Waits for the end of an outage while the result of a step is still to be recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga._defect import Outage, log_outage
from eventbraid.saga.running._pauses import MAXIMUM_OUTAGES, pause_after_outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.saga.running._run import Run


class OutagePause:
    """Waits before code is called again that the system has refused something."""

    __slots__ = ("_draw", "_pause")

    def __init__(
        self, draw: Callable[[], float], pause: Callable[[float], Awaitable[bool]]
    ) -> None:
        """Wait by the coordinator's clock.

        Args:
            draw: Draws a number from 0 to 1, for the jitter.
            pause: Waits for seconds, and returns whether the coordinator is left.
        """
        self._draw = draw
        self._pause = pause

    async def sit_out(self, run: Run[Any], outage: Outage, outages: int) -> None:
        """Wait for the end of an outage.

        Args:
            run: The saga.
            outage: The outage.
            outages: The number of outages of this call in a row.

        Raises:
            Defect: There were too many, or the coordinator is left. The answer of the
                receiver is recorded with it, so the receiver isn't called again.
        """
        log_outage(run.id, outage)
        is_left = outages < MAXIMUM_OUTAGES and await self._pause(
            pause_after_outage(outages, self._draw())
        )
        if is_left or outages >= MAXIMUM_OUTAGES:
            raise outage.as_defect() from outage.error
