"""Durations as arguments: validated once, bounded to what every clock can add."""

from __future__ import annotations

from datetime import timedelta

from eventbraid.errors import InvalidArgument
from eventbraid.store._argument import argument_text

LONGEST_DURATION = timedelta(days=36_500)
"""Longer durations count as this one, which is 100 years.

``timedelta.max`` is the usual way to write "no limit". It can't be added to a date,
and the timers of threads and event loops overflow above 292 years.
"""

_ZERO = timedelta(0)


def validate_duration(
    name: str, value: object, *, minimum: timedelta = _ZERO, reason: str = ""
) -> timedelta:
    """Return a duration, at most `LONGEST_DURATION`.

    Args:
        name: The argument's name, for the error.
        value: The argument.
        minimum: The shortest duration that is accepted.
        reason: Why a shorter one is refused, with the remedy.

    Raises:
        InvalidArgument: The value is not a `timedelta`, or is too short.
    """
    if not isinstance(value, timedelta):
        remedy = "expected a datetime.timedelta, such as timedelta(seconds=5)"
        raise InvalidArgument(name, argument_text(value), remedy)
    if value < minimum:
        bound = f"it must be at least {minimum}" if minimum else "it can't be negative"
        raise InvalidArgument(name, str(value), reason or bound)
    return min(value, LONGEST_DURATION)


def duration_seconds(
    name: str, value: object, *, minimum: timedelta = _ZERO, reason: str = ""
) -> float:
    """Return a duration in seconds; see `validate_duration`."""
    return validate_duration(
        name, value, minimum=minimum, reason=reason
    ).total_seconds()
