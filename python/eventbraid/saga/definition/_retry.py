"""The retry policy of a step: the number of its attempts, and their delays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from eventbraid.errors import InvalidArgument
from eventbraid.saga._exception_groups import exceptions_in
from eventbraid.store._argument import argument_text
from eventbraid.store._duration import validate_duration
from eventbraid.store._paging import checked

Jitter = Literal["full", "equal", "none"]

# The maximum factor and exponent of a delay. The delay reaches any cap long before
# these limits, and the power of the two still fits into a float.
_MOST_FACTOR = 100.0
_MOST_DOUBLINGS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The number of attempts of a step, or of its compensation, and their delays.

    The delay before attempt n + 1 is ``first * factor ** (n - 1)``, at most ``cap``.
    The jitter then reduces the delay at random.

    Attributes:
        attempts: The maximum number of attempts; None: any number.
        first: The delay after the first attempt.
        factor: The growth of each further delay, 1 to 100.
        cap: The longest delay; `timedelta.max` counts as 100 years.
        jitter: ``"full"`` draws from 0 to the delay, ``"equal"`` from half the delay to
            the delay, and ``"none"`` uses the delay itself.
        crashes: The maximum number of attempts that end with their process although the
            process made no other call. Such attempts don't count as ``attempts``. When
            the number is reached, the saga is stuck.
        never: Exceptions that prove that the attempt had no effect at the receiver.
            They fail the step at once; any other exception leaves the outcome unknown.

    Raises:
        InvalidArgument: A number is out of its range, or ``never`` isn't a tuple of
            exception classes.

    Example:
        >>> import eventbraid as eb
        >>> retry = eb.Retry(attempts=3, jitter="none", never=(PermissionError,))
        >>> [retry.delay(attempt).total_seconds() for attempt in (1, 2, 3)]
        [0.1, 0.2, 0.4]
        >>> retry.allows(3)
        False
    """

    attempts: int | None = 5
    first: timedelta = timedelta(milliseconds=100)
    factor: float = 2.0
    cap: timedelta = timedelta(seconds=30)
    jitter: Jitter = "full"
    crashes: int = 2
    never: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Validate the numbers now, so that an error isn't found only at a failure."""
        if self.attempts is not None:
            attempts = checked("retry attempts", self.attempts, minimum=1)
            object.__setattr__(self, "attempts", attempts)
        crashes = checked("retry crashes", self.crashes, minimum=1)
        object.__setattr__(self, "crashes", crashes)
        for name in ("first", "cap"):
            given: object = getattr(self, name)
            length = validate_duration(f"retry {name}", given)
            object.__setattr__(self, name, length)
        if self.cap < self.first:
            raise InvalidArgument("retry cap", str(self.cap), "not below `first`")
        if not 1.0 <= self.factor <= _MOST_FACTOR:
            raise InvalidArgument(
                "retry factor", argument_text(self.factor), "1 to 100"
            )
        if self.jitter not in get_args(Jitter):
            raise InvalidArgument(
                "retry jitter",
                argument_text(self.jitter),
                "one of 'full', 'equal', 'none'",
            )
        if not all(_is_exception_class(kind) for kind in self.never):
            raise InvalidArgument(
                "retry never", argument_text(self.never), "a tuple of exception classes"
            )

    def allows(self, attempt: int) -> bool:
        """Return whether another attempt may follow an attempt.

        Args:
            attempt: The number of the attempt that has ended; the first is 1.
        """
        return self.attempts is None or attempt < self.attempts

    def delay(self, attempt: int, *, chance: float = 1.0) -> timedelta:
        """Return the delay after an attempt.

        Args:
            attempt: The number of the attempt that has ended; the first is 1.
            chance: The draw of the jitter, from 0 to 1.
        """
        growth = self.factor ** min(attempt - 1, _MOST_DOUBLINGS)
        full = min(self.cap.total_seconds(), self.first.total_seconds() * growth)
        match self.jitter:
            case "full":
                return timedelta(seconds=full * chance)
            case "equal":
                return timedelta(seconds=full * (1 + chance) / 2)
            case "none":
                return timedelta(seconds=full)

    def proves_failure(self, error: BaseException) -> bool:
        """Return whether an exception proves that the attempt had no effect.

        A group of exceptions is a proof only if each exception in it is one.

        Args:
            error: The exception that the attempt raised.
        """
        return all(
            isinstance(single, (*self.never, BaseExceptionGroup))
            for single in exceptions_in(error, below=self.never)
        )


def _is_exception_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


FOREVER = Retry(attempts=None)
"""The default for a step after the pivot, which is retried until it succeeds."""

PATIENTLY = Retry(attempts=20)
"""The default for a compensation: for about eight minutes, then the saga is stuck."""

BRIEFLY = Retry(attempts=5)
"""The default for a local compensation: few rejected commands are accepted later."""

_AFTER_CRASHES = Retry(
    attempts=None, first=timedelta(milliseconds=50), cap=timedelta(minutes=1)
)


def crash_delay(crashes: int, *, chance: float = 1.0) -> timedelta:
    """Return the delay after an attempt that ended with its process.

    Args:
        crashes: The number of such attempts in a row, this one included.
        chance: The draw of the jitter, from 0 to 1.
    """
    return _AFTER_CRASHES.delay(crashes, chance=chance)
