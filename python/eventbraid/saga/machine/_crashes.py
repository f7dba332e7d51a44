"""Attempts that end with their process, and when their call counts as the cause."""

from __future__ import annotations

from eventbraid.saga.definition._context import StepFailure

# After this number of crashes in a row a call is made alone, so that the next crash has
# only one possible cause. The number is above 1, so that a single crash, for example by
# a deployment, doesn't make other calls wait.
CRASHES_BEFORE_ALONE = 2

CRASH = StepFailure("crash", "the process ended during the call", doubt="crash")
"""The failure of an attempt whose process ended during it."""


def killed(step: str, times: int) -> str:
    """Return the reason for people why a step is stuck whose call ends the process."""
    return (
        f"the process ended {times} times during the call of step {step!r}, while it "
        "made no other call"
    )
