"""Compares the recorded times at which attempts are due with the present time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from eventbraid.saga.machine._crashes import crash_delay

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga.definition._attempt_rules import AttemptRules
    from eventbraid.saga.machine._branch import Attempts

# The clocks of two processes always differ a little.
CLOCK_TOLERANCE_SECONDS = 1.0
"""The maximum difference in seconds between two clocks that count as equal."""

TOLERANCE = timedelta(seconds=CLOCK_TOLERANCE_SECONDS)


def retry_due(
    attempts: Attempts, rules: AttemptRules, now: datetime
) -> datetime | None:
    """Return the time at which the next attempt is due; None if it is due now.

    A recorded time is wrong if it is further ahead than the longest delay before this
    attempt. Then it was recorded by a wall clock that was ahead and has been set back.
    An attempt with such a time is due now.
    """
    due = attempts.retry_at
    if due is None or due <= now:
        return None
    return due if due <= now + _longest_delay(attempts, rules) + TOLERANCE else None


def _longest_delay(attempts: Attempts, rules: AttemptRules) -> timedelta:
    if attempts.crashes:
        return crash_delay(attempts.crashes)
    return rules.delay(max(attempts.counted, 1))
