"""The rules for the attempts of one call: retries, refusals and crashes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from eventbraid.command._retry_policy import RetrySchedule
from eventbraid.errors import InvalidArgument
from eventbraid.saga._exception_groups import exceptions_in
from eventbraid.store._argument import argument_text
from eventbraid.store._paging import checked

if TYPE_CHECKING:
    from eventbraid.command import RetryPolicy

DEFAULT_MAXIMUM_CRASHES = 2

_INITIAL_DELAY = 0.1
_MAXIMUM_DELAY = 30.0


def _default_schedule(maximum_attempts: int | None) -> RetrySchedule:
    return RetrySchedule(
        maximum_attempts=maximum_attempts,
        initial_delay=_INITIAL_DELAY,
        maximum_delay=_MAXIMUM_DELAY,
    )


STEP_SCHEDULE = _default_schedule(5)
"""The default for a step that can be compensated, or is the pivot."""

RETRIABLE_STEP_SCHEDULE = _default_schedule(None)
"""The default for a step after the pivot, which is retried until it succeeds."""

COMPENSATION_SCHEDULE = _default_schedule(20)
"""The default for a compensation: for about eight minutes, then the saga is stuck."""

LOCAL_COMPENSATION_SCHEDULE = _default_schedule(5)
"""The default for a local compensation: few rejected commands are accepted later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRules:
    """The rules for the attempts of a step, or of its compensation.

    Attributes:
        schedule: The number of attempts, and their delays.
        refusals: Exceptions that prove that the attempt had no effect at the receiver.
        maximum_crashes: The maximum number of attempts that end with their process
            although the process made no other call. Such attempts don't count as
            attempts of the schedule. When the number is reached, the saga is stuck.
    """

    schedule: RetrySchedule
    refusals: tuple[type[BaseException], ...] = ()
    maximum_crashes: int = DEFAULT_MAXIMUM_CRASHES

    def allows_another(self, attempt: int) -> bool:
        """Return whether another attempt may follow an attempt.

        Args:
            attempt: The number of the attempt that has ended; the first is 1.
        """
        return self.schedule.allows_another(attempt)

    def delay(self, attempt: int, *, chance: float = 1.0) -> timedelta:
        """Return the delay after an attempt.

        Args:
            attempt: The number of the attempt that has ended; the first is 1.
            chance: The draw of the jitter, from 0 to 1.
        """
        return timedelta(seconds=self.schedule.delay(attempt, chance=chance))

    def proves_failure(self, error: BaseException) -> bool:
        """Return whether an exception proves that the attempt had no effect.

        A group of exceptions is a proof only if each exception in it is one.

        Args:
            error: The exception that the attempt raised.
        """
        return all(
            isinstance(single, (*self.refusals, BaseExceptionGroup))
            for single in exceptions_in(error, below=self.refusals)
        )


def attempt_rules(
    retry: RetryPolicy | None,
    default: RetrySchedule,
    *,
    refusals: tuple[type[BaseException], ...] = (),
    maximum_crashes: int = DEFAULT_MAXIMUM_CRASHES,
) -> AttemptRules:
    """Return the rules for the attempts of a call, after a check of the arguments.

    Args:
        retry: The policy that the program gives; None: the default.
        default: The schedule whose values replace the fields that are None.
        refusals: Exceptions that prove that the attempt had no effect.
        maximum_crashes: The maximum number of attempts that end with their process.

    Raises:
        InvalidArgument: ``refusals`` isn't a tuple of exception classes, or
            ``maximum_crashes`` isn't a whole number of at least 1.
    """
    if not _is_tuple_of_exception_classes(refusals):
        reason = "it must be a tuple of exception classes"
        raise InvalidArgument("refusals", argument_text(refusals), reason)
    return AttemptRules(
        schedule=default if retry is None else retry.schedule(default),
        refusals=refusals,
        maximum_crashes=checked("maximum_crashes", maximum_crashes, minimum=1),
    )


def _is_tuple_of_exception_classes(given: object) -> bool:
    return isinstance(given, tuple) and all(
        isinstance(kind, type) and issubclass(kind, BaseException)
        for kind in cast("tuple[object, ...]", given)
    )
