"""A clock and a source of ids for tests, with the same values in each run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from eventbraid.errors import InvalidArgument

if TYPE_CHECKING:
    from eventbraid.domain import Id

I = TypeVar("I", bound="Id")  # noqa: E741 - the kind of id

START = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_TIME = timedelta()
_MILLISECOND = timedelta(milliseconds=1)
_SEEDS = 2**12


class ManualClock:
    """A clock that a test sets and advances.

    Pass it where code takes a function that returns the time, for example in place of
    ``lambda: datetime.now(UTC)``.

    Args:
        start: The first time; by default the beginning of the year 2000.
        step: The duration by which each call advances the clock after it.

    Raises:
        InvalidArgument: The time has no time zone, or the step is negative.

    Example:
        >>> from datetime import timedelta
        >>> from eventbraid.testing import ManualClock
        >>> clock = ManualClock()
        >>> clock.advance(timedelta(hours=1))
        >>> str(clock())
        '2000-01-01 01:00:00+00:00'
    """

    def __init__(self, start: datetime = START, *, step: timedelta = _NO_TIME) -> None:
        """Begin at a time."""
        if step < _NO_TIME:
            raise InvalidArgument(
                "step of a clock",
                str(step),
                "it must not be negative; set() goes back",
            )
        self._time = _in_utc(start)
        self._step = step

    def __call__(self) -> datetime:
        """Return the time in UTC, and advance the clock by its step."""
        time = self._time
        self._time += self._step
        return time

    @property
    def time(self) -> datetime:
        """The time that the next call returns."""
        return self._time

    def advance(self, by: timedelta, /) -> None:
        """Advance the clock.

        Raises:
            InvalidArgument: The duration is negative.
        """
        if by < _NO_TIME:
            raise InvalidArgument(
                "duration",
                str(by),
                "it must not be negative; set() goes back",
            )
        self._time += by

    def set(self, time: datetime, /) -> None:
        """Set the clock to a time, also to an earlier one.

        Raises:
            InvalidArgument: The time has no time zone.
        """
        self._time = _in_utc(time)

    def __repr__(self) -> str:
        return f"<ManualClock at {self._time.isoformat()}>"


class SequentialIds:
    """A source of UUIDs that returns the same ascending sequence in each run.

    The ids are valid UUIDv7s. Their time is that of the clock.

    Args:
        clock: The clock; by default, the time is the beginning of the year 2000.
        seed: A number from 0 to 4095. Different seeds give disjoint sequences.

    Raises:
        InvalidArgument: The seed is out of its range.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import SequentialIds
        >>> class OrderId(eb.Id, prefix="order"): ...
        >>> ids = SequentialIds()
        >>> ids()
        UUID('00dc6acf-ac00-7000-8000-000000000001')
        >>> ids.new(OrderId)
        OrderId('order-00dc6acf-ac00-7000-8000-000000000002')
    """

    def __init__(self, clock: ManualClock | None = None, *, seed: int = 0) -> None:
        """Begin a sequence."""
        if not 0 <= seed < _SEEDS:
            raise InvalidArgument(
                "seed of ids", str(seed), f"it must be from 0 to {_SEEDS - 1}"
            )
        self._clock = clock
        self._seed = seed
        self._count = 0

    def __call__(self) -> UUID:
        """Return the next id."""
        self._count += 1
        time = START if self._clock is None else self._clock.time
        milliseconds = (time - _EPOCH) // _MILLISECOND
        version, variant = 7 << 76, 2 << 62
        number = (milliseconds << 80) | version | (self._seed << 64) | variant
        return UUID(int=number | self._count)

    def new(self, kind: type[I], /) -> I:
        """Return the next id as an id of one kind, in place of ``kind.new()``.

        Args:
            kind: The class of the id.
        """
        start = f"{kind.prefix}-" if kind.prefix else ""
        return kind(f"{start}{self()}")


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise InvalidArgument(
            "time of a clock",
            str(time),
            "it has no time zone; use, for example, datetime(2000, 1, 1, tzinfo=UTC)",
        )
    return time.astimezone(UTC)
