"""Decides by the age of its last heartbeat whether a holder counts as stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from eventbraid.errors import InvalidArgument
from eventbraid.lease._holder import heartbeat_age

if TYPE_CHECKING:
    from collections.abc import Mapping

STALE_AFTER = timedelta(seconds=10)
"""The default age of the last heartbeat from which a holder counts as stopped."""

HEARTBEAT_SECONDS = 0.2
"""The interval between two heartbeats of a session."""

MINIMUM_STALE_SECONDS = 1.0
"""The minimum of ``stale_after``. A busy machine delays heartbeats, and a shorter
time would take leases from live holders."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """The live sessions of a store, as one session has read them.

    Attributes:
        own_session: The session that has read them.
        ages: The seconds since the last heartbeat of each live session.
        stale_after: The age of a heartbeat from which its holder counts as stopped.
    """

    own_session: str
    ages: Mapping[str, float]
    stale_after: float

    def age_of(self, holder: str) -> float | None:
        """Return the seconds since a holder's last heartbeat; None if it is gone."""
        return heartbeat_age(holder, self.ages, self.own_session)

    def is_live(self, holder: str) -> bool:
        """Return whether a holder exists and isn't stopped."""
        age = self.age_of(holder)
        return age is not None and age < self.stale_after


def validate_stale_after(seconds: float) -> float:
    """Validate the heartbeat age from which a holder counts as stopped.

    Raises:
        InvalidArgument: It is below the minimum.
    """
    if seconds < MINIMUM_STALE_SECONDS:
        reason = (
            f"must be >= {MINIMUM_STALE_SECONDS} s: heartbeats have an interval of "
            f"{HEARTBEAT_SECONDS} s, and a busy machine delays them"
        )
        raise InvalidArgument("stale_after", f"{seconds} s", reason)
    return seconds
