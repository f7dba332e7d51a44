"""The simulated network to a service: requests and answers are lost or late."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import anyio

from .chance import share

if TYPE_CHECKING:
    from .ledger import Entry, Ledger, Request
    from .rates import Rates


class Trouble(Enum):
    """What goes wrong with one call."""

    NONE = auto()
    REQUEST_LOST = auto()
    """The call fails without an effect."""
    ANSWER_LOST = auto()
    """The call fails after its effect."""
    ANSWER_LATE = auto()
    """The effect is immediate; the answer arrives after the caller's timeout."""
    EFFECT_LATE = auto()
    """The effect happens after the caller's timeout."""


@dataclass(frozen=True, slots=True)
class _Forecast:
    failing: float
    late: float

    def trouble(self, draw: float) -> Trouble:
        bands = (
            (self.failing / 2, Trouble.REQUEST_LOST),
            (self.failing / 2, Trouble.ANSWER_LOST),
            (self.late / 2, Trouble.ANSWER_LATE),
            (self.late / 2, Trouble.EFFECT_LATE),
        )
        for width, trouble in bands:
            if draw < width:
                return trouble
            draw -= width
        return Trouble.NONE


class Network:
    """A connection to a ledger that fails at given rates.

    What goes wrong with a call depends only on the seed, its key, and the number of
    failed calls with this key.

    Args:
        ledger: The ledger to which the requests are sent.
        rates: The rate of each failure.
        seed: The seed of all random choices.
        late_by: The delay of a late call in seconds; longer than the callers' timeout.
    """

    def __init__(
        self, ledger: Ledger, rates: Rates, *, seed: int = 0, late_by: float = 3.0
    ) -> None:
        self._ledger = ledger
        self._forecast = _Forecast(rates.failing, rates.late)
        self._seed = seed
        self._late_by = late_by
        self._failed: Counter[str] = Counter()

    async def send(self, request: Request) -> Entry:
        """Send a request to the ledger, and return its answer.

        Raises:
            ConnectionError: The call failed; whether it took effect is unknown.
        """
        key = request.key
        draw = share(self._seed, "network", key, self._failed[key])
        trouble = self._forecast.trouble(draw)
        if trouble is Trouble.NONE:
            # Only keys whose last call failed are kept: memory does not grow with the
            # number of orders.
            self._failed.pop(key, None)
            return await self._ledger.post(request)
        self._failed[key] += 1
        return await self._send_with(trouble, request)

    async def _send_with(self, trouble: Trouble, request: Request) -> Entry:
        what = f"{request.action} {request.subject}"
        match trouble:
            case Trouble.REQUEST_LOST:
                await anyio.lowlevel.checkpoint()
                raise ConnectionRefusedError(f"no connection: {what}")
            case Trouble.ANSWER_LOST:
                await self._ledger.post(request)
                raise ConnectionResetError(f"the connection was lost: {what}")
            case Trouble.EFFECT_LATE:
                return await self._ledger.post(request, delay=self._late_by)
            case Trouble.ANSWER_LATE | Trouble.NONE:
                entry = await self._ledger.post(request)
                await anyio.sleep(self._late_by)
                return entry
