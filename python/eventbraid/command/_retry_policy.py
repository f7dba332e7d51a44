"""The retry policy of commands and of steps: the number of attempts, and their delays.

A `RetryPolicy` is what a program declares. Together with the defaults of its use, it
becomes a `RetrySchedule`, whose values are all known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from eventbraid.errors import InvalidArgument
from eventbraid.store._argument import argument_text
from eventbraid.store._duration import validate_duration
from eventbraid.store._paging import checked

if TYPE_CHECKING:
    from datetime import timedelta

Jitter: TypeAlias = Literal["full", "equal", "none"]
Unlimited: TypeAlias = Literal["unlimited"]

# The maximum factor and exponent of a delay. The delay reaches any maximum long before
# these limits, and the power of the two still fits into a float.
_MAXIMUM_FACTOR = 100.0
_MAXIMUM_EXPONENT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """The number of attempts of a command or a step, and the delays between them.

    The delay before attempt n + 1 is ``initial_delay * backoff_factor ** (n - 1)``, at
    most ``maximum_delay``. The jitter then reduces the delay at random.

    A field that is None has the default of its use:

    ======================  ================  =============  =============
    Use                     maximum_attempts  initial_delay  maximum_delay
    ======================  ================  =============  =============
    command                 10                1 ms           250 ms
    step                    5                 100 ms         30 s
    retriable step          unlimited         100 ms         30 s
    compensation of a step  20                100 ms         30 s
    local compensation      5                 100 ms         30 s
    ======================  ================  =============  =============

    Attributes:
        maximum_attempts: The maximum number of attempts, at least 1, or
            ``"unlimited"``.
        initial_delay: The delay after the first attempt.
        backoff_factor: The growth of each further delay, 1 to 100.
        maximum_delay: The longest delay; `timedelta.max` counts as 100 years.
        jitter: ``"full"`` draws from 0 to the delay, ``"equal"`` from half the delay to
            the delay, and ``"none"`` uses the delay itself.

    Raises:
        InvalidArgument: A value is out of its range.
        TypeError: ``maximum_attempts`` is neither a number nor a text.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> patient = eb.RetryPolicy(
        ...     maximum_attempts="unlimited", maximum_delay=timedelta(minutes=5)
        ... )
        >>> with eb.open("memory:") as store:
        ...     executor = eb.Executor(store, retry=patient)
    """

    maximum_attempts: int | Unlimited | None = None
    initial_delay: timedelta | None = None
    backoff_factor: float = 2.0
    maximum_delay: timedelta | None = None
    jitter: Jitter = "full"

    def __post_init__(self) -> None:
        """Validate the values now, so that an error isn't found only at a failure."""
        attempts = _checked_attempts(self.maximum_attempts)
        object.__setattr__(self, "maximum_attempts", attempts)
        for name in ("initial_delay", "maximum_delay"):
            given: object = getattr(self, name)
            if given is not None:
                length = validate_duration(f"RetryPolicy.{name}", given)
                object.__setattr__(self, name, length)
        initial, maximum = self.initial_delay, self.maximum_delay
        if initial is not None and maximum is not None and maximum < initial:
            reason = f"it must be at least initial_delay, which is {initial}"
            raise _out_of_range("maximum_delay", str(maximum), reason)
        factor: object = self.backoff_factor
        if not _is_number(factor) or not 1 <= self.backoff_factor <= _MAXIMUM_FACTOR:
            raise _out_of_range("backoff_factor", factor, "it must be from 1 to 100")
        if self.jitter not in get_args(Jitter):
            reason = "it must be 'full', 'equal' or 'none'"
            raise _out_of_range("jitter", self.jitter, reason)

    def schedule(self, default: RetrySchedule) -> RetrySchedule:
        """Return the schedule of the policy in a place that has its own defaults.

        Args:
            default: The schedule of this place without a policy.
        """
        attempts: int | None
        match self.maximum_attempts:
            case None:
                attempts = default.maximum_attempts
            case "unlimited":
                attempts = None
            case attempts:
                pass
        initial = _seconds(self.initial_delay, default.initial_delay)
        maximum = _seconds(self.maximum_delay, default.maximum_delay)
        if self.maximum_delay is None:
            # An initial delay beyond the default maximum is meant as it is given.
            maximum = max(initial, maximum)
        return RetrySchedule(
            maximum_attempts=attempts,
            # A maximum below the default initial delay limits that delay, too.
            initial_delay=min(initial, maximum),
            backoff_factor=float(self.backoff_factor),
            maximum_delay=maximum,
            jitter=self.jitter,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrySchedule:
    """The number of attempts in one place, and their delays; no value is missing.

    Attributes:
        maximum_attempts: The maximum number of attempts; None: unlimited.
        initial_delay: The delay after the first attempt, in seconds.
        backoff_factor: The growth of each further delay.
        maximum_delay: The longest delay, in seconds.
        jitter: The effect of chance on a delay, as in `RetryPolicy`.
    """

    maximum_attempts: int | None
    initial_delay: float
    maximum_delay: float
    backoff_factor: float = 2.0
    jitter: Jitter = "full"

    def allows_another(self, attempt: int) -> bool:
        """Return whether another attempt may follow an attempt.

        Args:
            attempt: The number of the attempt that has ended; the first is 1.
        """
        return self.maximum_attempts is None or attempt < self.maximum_attempts

    def delay(self, attempt: int, *, chance: float = 1.0) -> float:
        """Return the delay after an attempt, in seconds.

        Args:
            attempt: The number of the attempt that has ended; the first is 1.
            chance: The draw of the jitter, from 0 to 1.
        """
        growth = self.backoff_factor ** min(attempt - 1, _MAXIMUM_EXPONENT)
        full = min(self.maximum_delay, self.initial_delay * growth)
        match self.jitter:
            case "full":
                return full * chance
            case "equal":
                return full * (1 + chance) / 2
            case "none":
                return full


COMMAND_SCHEDULE = RetrySchedule(
    maximum_attempts=10, initial_delay=0.001, maximum_delay=0.25
)
"""The default of an executor: a conflict is over within milliseconds."""


def _checked_attempts(given: int | Unlimited | None) -> int | Unlimited | None:
    text: object = given
    if isinstance(text, str) and text != "unlimited":
        reason = "it must be a whole number of at least 1, or 'unlimited'"
        raise _out_of_range("maximum_attempts", text, reason)
    if given is None or isinstance(given, str):
        return given
    return checked("RetryPolicy.maximum_attempts", given, minimum=1)


def _seconds(given: timedelta | None, default: float) -> float:
    return default if given is None else given.total_seconds()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _out_of_range(name: str, value: object, reason: str) -> InvalidArgument:
    return InvalidArgument(f"RetryPolicy.{name}", argument_text(value), reason)
