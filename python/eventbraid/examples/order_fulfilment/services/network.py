"""The way to a service: where calls get lost, fail half-way and come late."""

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
    """What befalls one call."""

    NONE = auto()
    REQUEST_LOST = auto()
    """The call fails and had no effect."""
    ANSWER_LOST = auto()
    """The call fails and had its effect."""
    ANSWER_LATE = auto()
    """The effect is there at once, the answer when the caller has left."""
    EFFECT_LATE = auto()
    """The effect itself comes when the caller has left."""


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
    """Carries requests to a ledger, as reliably as the rates say.

    What befalls a call depends on the seed, its key, and how often this key was sent,
    and on nothing else.

    Args:
        ledger: Where the requests go.
        rates: How often what goes wrong.
        seed: Which of the equally likely courses of events this is.
        late_by: How many seconds late "late" is: more than callers wait.
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
        """Bring a request to the ledger, and its answer back.

        Raises:
            ConnectionError: The call failed; whether it had its effect is unknown.
        """
        key = request.key
        draw = share(self._seed, "network", key, self._failed[key])
        trouble = self._forecast.trouble(draw)
        if trouble is Trouble.NONE:
            # Only keys in trouble are remembered: memory does not grow with orders.
            self._failed.pop(key, None)
            return await self._ledger.post(request)
        self._failed[key] += 1
        return await self._misfortune(trouble, request)

    async def _misfortune(self, trouble: Trouble, request: Request) -> Entry:
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
