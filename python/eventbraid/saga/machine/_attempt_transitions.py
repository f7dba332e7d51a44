"""The transitions of the attempts at one call, which is an action or a compensation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga.definition._context import Doubt
    from eventbraid.saga.machine._branch import Attempts


def after_attempt_started(attempts: Attempts, number: int, *, alone: bool) -> Attempts:
    """Return the state of the attempts after the start of a further attempt."""
    return replace(attempts, number=number, in_flight=True, alone=alone, retry_at=None)


def is_no_longer_alone(attempts: Attempts, number: int, *, alone: bool) -> bool:
    """Return whether a record only removes the flag ``alone`` of the last attempt."""
    return attempts.alone and not alone and number == attempts.number


def after_attempt_failed(
    attempts: Attempts,
    number: int,
    retry_at: datetime | None,
    *,
    doubt: Doubt | None = None,
    is_crash: bool = False,
    is_charged: bool = False,
) -> Attempts:
    """Return the attempts after a failed attempt.

    Args:
        attempts: The attempts before.
        number: The number of the attempt.
        retry_at: The time at which the next attempt is due; None if there is none.
        doubt: The reason why the attempt may have had an effect; None if it certainly
            had no effect.
        is_crash: Whether the attempt ended with its process.
        is_charged: Whether the attempt counts as the cause of the crash.
    """
    return replace(
        attempts,
        number=number,
        in_flight=False,
        doubt=doubt or attempts.doubt,
        retry_at=retry_at,
        unspent=attempts.unspent + is_crash,
        crashes=attempts.crashes + 1 if is_crash else 0,
        crashes_alone=attempts.crashes_alone + is_charged if is_crash else 0,
    )


def after_attempt_ended_by_defect(attempts: Attempts) -> Attempts:
    """Return the attempts after an attempt that a defect ended.

    Such an attempt counts neither as a failure nor as a crash. But the call may have
    had an effect before its code raised, so the attempts are in doubt.
    """
    return replace(
        attempts,
        in_flight=False,
        doubt=attempts.doubt or "lost",
        unspent=attempts.unspent + 1,
    )


def failure_text(step: str, code: str, message: str) -> str:
    """Return the text of a failure, for people."""
    return f"{step}: {code}: {message}" if message else f"{step}: {code}"
