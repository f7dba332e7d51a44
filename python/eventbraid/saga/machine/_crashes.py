"""Attempts that end with their process: the cause, and the delay after a crash."""

from __future__ import annotations

from datetime import timedelta

from eventbraid.command._retry_policy import RetrySchedule
from eventbraid.saga.definition._context import StepFailure

# After this number of crashes in a row a call is made alone, so that the next crash has
# only one possible cause. The number is above 1, so that a single crash, for example by
# a deployment, doesn't make other calls wait.
CRASHES_BEFORE_ALONE = 2

_AFTER_CRASHES = RetrySchedule(
    maximum_attempts=None, initial_delay=0.05, maximum_delay=60.0
)

CRASH = StepFailure("crash", "the process ended during the call", doubt="crash")
"""The failure of an attempt whose process ended during it."""


def killed(step: str, times: int) -> str:
    """Return the reason for people why a step is stuck whose call ends the process."""
    return (
        f"the process ended {times} times during the call of step {step!r}, while it "
        "made no other call"
    )


def crash_delay(crashes: int, *, chance: float = 1.0) -> timedelta:
    """Return the delay after an attempt that ended with its process.

    Args:
        crashes: The number of such attempts in a row, this one included.
        chance: The draw of the jitter, from 0 to 1.
    """
    return timedelta(seconds=_AFTER_CRASHES.delay(crashes, chance=chance))
