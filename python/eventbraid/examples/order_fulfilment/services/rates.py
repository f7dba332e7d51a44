"""The failure rates of the simulated services."""

from __future__ import annotations

from dataclasses import dataclass, fields

import eventbraid as eb


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of cases, each from 0 (never) to 1 (always).

    Attributes:
        declined: Payments that the bank declines, for good.
        unserved: Shipments that the carrier refuses to take or to fetch, for good.
        failing: Calls that fail: half of them before they took effect, half after.
        late: Calls that are answered after the caller's timeout: half of them take
            effect at once, half after the timeout.
        unreachable: Customers who are reached only at the fourth attempt.

    Example:
        >>> Rates(declined=0.5).declined
        0.5
    """

    declined: float = 0.03
    unserved: float = 0.02
    failing: float = 0.02
    late: float = 0.0005
    unreachable: float = 0.01

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate <= 1:
                raise eb.InvalidValue(
                    f"Rates.{field.name}",
                    repr(rate),
                    "a rate is a share of cases, from 0 to 1",
                    "give 0.03 for three in a hundred",
                )


USUAL_TROUBLE = Rates()
"""The rates of the demo."""

NO_TROUBLE = Rates(declined=0, unserved=0, failing=0, late=0, unreachable=0)
"""Services that never fail."""
