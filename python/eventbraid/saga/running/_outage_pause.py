"""Waits for the end of an outage that delays the record of a step's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga._defect_classification import Outage, log_outage
from eventbraid.saga.running._pauses import MAXIMUM_OUTAGES, pause_after_outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.saga.running._run import Run


class OutagePause:
    """Pauses before a function that an outage interrupted is called again."""

    __slots__ = ("_draw", "_pause")

    def __init__(
        self, draw: Callable[[], float], pause: Callable[[float], Awaitable[bool]]
    ) -> None:
        """Use the pause of the worker pool, which ends early at a stop.

        Args:
            draw: Draws a number from 0 to 1, for the jitter.
            pause: Waits for a number of seconds, and returns whether the coordinator is
                being left.
        """
        self._draw = draw
        self._pause = pause

    async def wait(self, run: Run[Any], outage: Outage, outages: int) -> None:
        """Wait before the next call, or raise if the outage lasts too long.

        Args:
            run: The saga.
            outage: The outage.
            outages: The number of outages in a row, for the same step.

        Raises:
            Defect: There were too many outages, or the coordinator is being left. The
                defect has the receiver's answer, which is recorded with it. So the
                receiver isn't called again.
        """
        log_outage(run.id, outage)
        is_left = outages < MAXIMUM_OUTAGES and await self._pause(
            pause_after_outage(outages, self._draw())
        )
        if is_left or outages >= MAXIMUM_OUTAGES:
            raise outage.as_defect() from outage.error
