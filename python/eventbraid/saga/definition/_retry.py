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

# The largest exponent and factor of a delay. Every cap is reached long before, and the
# power still fits into a float.
_MOST_FACTOR = 100.0
_MOST_DOUBLINGS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The number of attempts of a step, or of its compensation, and their delays.

    The delay before attempt n + 1 is ``first * factor ** (n - 1)``, at most ``cap``.
    The jitter then spreads it.

    Attributes:
        attempts: The maximum number of attempts; None: any number.
        first: The delay after the first attempt.
        factor: The growth of each further delay, 1 to 100.
        cap: The longest delay; `timedelta.max` counts as 100 years.
        jitter: ``"full"`` draws from 0 to the delay, ``"equal"`` from half of it to all
            of it, ``"none"`` is the delay itself.
        crashes: The number of attempts that may end with their process while it made no
            other call. They don't count as ``attempts``; after them the saga is stuck.
        never: Exceptions by which the receiver proves that nothing happened. They end
            the step at once; every other exception leaves its outcome unknown.

    Raises:
        InvalidArgument: A number is out of its range, or ``never`` holds something
            other than exception classes.

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
        """Validate the numbers when they are written, not when a step fails."""
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
        """Return whether another attempt may follow this one.

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

        A group proves it only if each exception in it does.

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
"""For a step after the pivot: it is retried until it succeeds."""

PATIENTLY = Retry(attempts=20)
"""For a compensation: about eight minutes, then the saga waits for a person."""

BRIEFLY = Retry(attempts=5)
"""For a local compensation: a rejected command is rarely accepted later."""

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
