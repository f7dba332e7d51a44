"""Attempts that end with their process: whether the call itself is the cause."""

from __future__ import annotations

from eventbraid.saga.definition._context import StepFailure

# From this number of crashes in a row a call is made alone, so that the next crash has
# one possible cause. A single crash, as of a deployment, makes no call wait for others.
CRASHES_BEFORE_ALONE = 2

CRASH = StepFailure("crash", "the process ended during the call", doubt="crash")
"""The failure of an attempt whose process ended during it."""


def killed(step: str, times: int) -> str:
    """Return the reason of a step that is stuck because it ended its process."""
    return (
        f"the process ended {times} times during the call of step {step!r}, while it "
        "made no other call"
    )
