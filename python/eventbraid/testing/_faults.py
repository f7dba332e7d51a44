"""The faults that a store can have in a test, and which calls get them."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from eventbraid.errors import (
    ConflictedCategory,
    ConflictedStream,
    InvalidArgument,
    VersionConflict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from eventbraid.command import Write
    from eventbraid.store import NewEvent
    from eventbraid.testing._history import StreamEvents

Operation: TypeAlias = Literal[
    "append",
    "committed",
    "read_streams",
    "category_streams",
    "version",
    "head",
    "read_stream",
    "read_all",
]
"""A method of a store. The last two return iterators, and are only recorded."""

_FAULTY: tuple[str, ...] = get_args(Operation)[:-2]


@dataclass(frozen=True, slots=True)
class StoreCall:
    """One call of a method of a faulty store.

    Attributes:
        operation: The name of the method.
        number: The number of the call among those of the same method, from 1.
        arguments: The arguments by their names.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import FaultyStore
        >>> with eb.open("memory:") as inner:
        ...     store = FaultyStore(inner)
        ...     version = store.version("account-alice")
        >>> store.calls[0].operation, store.calls[0].arguments
        ('version', {'stream': 'account-alice'})
    """

    operation: Operation
    number: int
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What all faults have in common: the choice of the calls that get the fault.

    A fault without `at`, `where` and `probability` applies to each call of its
    operation, but at most to `times` of them.

    Attributes:
        at: The number of the call, from 1; or a collection of numbers.
        where: A function that returns whether a call gets the fault.
        probability: The probability that a call gets the fault. It is drawn from a
            generator with the store's seed, so equal calls in equal order get equal
            faults.
        times: The maximum number of calls that get the fault.
        operation: The method of the store that has the fault.

    Raises:
        InvalidArgument: A value is out of its range.

    Example:
        >>> from eventbraid.testing import Conflict, Fault
        >>> isinstance(Conflict(at=1), Fault)
        True
    """

    at: int | Collection[int] | None = None
    where: Callable[[StoreCall], bool] | None = None
    probability: float | None = None
    times: int | None = None
    operation: Operation = "append"

    def __post_init__(self) -> None:
        """Validate the choice of the calls."""
        if self.at is not None and not all(number >= 1 for number in _numbers(self.at)):
            raise self._refused("at", self.at, "calls are numbered from 1")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise self._refused("probability", self.probability, "it is from 0 to 1")
        if self.times is not None and self.times < 1:
            raise self._refused("times", self.times, "it must be 1 or more")
        allowed = self._operations()
        if self.operation not in allowed:
            names = ", ".join(allowed)
            raise self._refused("operation", self.operation, f"it is one of: {names}")

    def matches(self, call: StoreCall) -> bool:
        """Return whether a call is among those that may get the fault."""
        return (
            call.operation == self.operation
            and (self.at is None or call.number in _numbers(self.at))
            and (self.where is None or self.where(call))
        )

    @property
    def ends_the_call(self) -> bool:
        """Whether the call raises an error, so that it gets no further fault."""
        return True

    @staticmethod
    def _operations() -> tuple[str, ...]:
        return _FAULTY

    def _refused(self, name: str, value: object, remedy: str) -> InvalidArgument:
        return InvalidArgument(f"{name} of {type(self).__name__}", str(value), remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict(Fault):
    """Another writer is faster: the append conflicts.

    Attributes:
        by: What the other writer appends right before the append, in one commit:
            `on(...)`, a `Write` or a `NewEvent`. The append then conflicts if it
            expects other versions. Without events, nothing is written, and an append
            with expectations raises `VersionConflict` all the same.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import Conflict, FaultyStore
        >>> with eb.open("memory:") as inner:
        ...     rival = eb.NewEvent("account-alice", "account.opened", b"{}")
        ...     store = FaultyStore(inner, Conflict(by=[rival], at=1))
        ...     try:
        ...         store.append(
        ...             [("account-alice", "x", b"")], expect={"account-alice": 0}
        ...         )
        ...     except eb.VersionConflict as conflict:
        ...         print(conflict.failures[0].actual)
        1
    """

    by: Collection[StreamEvents | Write | NewEvent] = ()

    def matches(self, call: StoreCall) -> bool:
        """Return whether a call is among those that may get the fault."""
        arguments = call.arguments
        expects = arguments.get("expect") or arguments.get("expect_categories")
        return bool(self.by or expects) and Fault.matches(self, call)

    @property
    def ends_the_call(self) -> bool:
        """Whether the call raises an error, so that it gets no further fault."""
        return not self.by

    @staticmethod
    def _operations() -> tuple[str, ...]:
        return ("append",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(Fault):
    """The call waits before it begins; in an event loop, other tasks run meanwhile.

    Attributes:
        duration: How long it waits; 0 lets other tasks run once.

    Example:
        >>> from datetime import timedelta
        >>> from eventbraid.testing import Delay
        >>> Delay(duration=timedelta(milliseconds=5), probability=0.1).times is None
        True
    """

    duration: timedelta = field(default=timedelta())

    def __post_init__(self) -> None:
        """Validate the duration and the choice of the calls."""
        Fault.__post_init__(self)
        if self.duration < timedelta():
            raise self._refused("duration", self.duration, "it must be 0 or more")

    @property
    def ends_the_call(self) -> bool:
        """Whether the call raises an error, so that it gets no further fault."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Fault):
    """The call raises an error, before or after it takes effect.

    Attributes:
        error: The exception, or its class.
        after: Whether the call takes effect before the error is raised.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import Failure, FaultyStore
        >>> with eb.open("memory:") as inner:
        ...     store = FaultyStore(
        ...         inner, Failure(error=TimeoutError, after=True, at=1)
        ...     )
        ...     try:
        ...         store.append([("account-alice", "x", b"")])
        ...     except TimeoutError:
        ...         print(inner.head())
        1
    """

    error: BaseException | type[BaseException]
    after: bool = False

    def __post_init__(self) -> None:
        """Validate the error and the choice of the calls."""
        Fault.__post_init__(self)
        given: Any = self.error
        kind: type[object] = given if isinstance(given, type) else type(given)
        if not issubclass(kind, BaseException):
            raise self._refused("error", self.error, "give an exception or its class")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownOutcome(Fault):
    """The append raises `OutcomeUnknown`, and may have been committed.

    Attributes:
        committed: Whether it was committed.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import FaultyStore, UnknownOutcome
        >>> with eb.open("memory:") as inner:
        ...     store = FaultyStore(inner, UnknownOutcome(committed=True, at=1))
        ...     try:
        ...         store.append([("account-alice", "x", b"")], idempotency_key="k")
        ...     except eb.OutcomeUnknown as unknown:
        ...         print(store.committed(unknown.idempotency_key).last_position)
        1
    """

    committed: bool

    @staticmethod
    def _operations() -> tuple[str, ...]:
        return ("append",)


class FaultPlan:
    """The faults of a store: which of them each call gets.

    Attributes:
        calls: The calls so far.
        injected: The faults so far, each with the call that got it.
    """

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        """Begin before the first call."""
        self.calls: list[StoreCall] = []
        self.injected: list[tuple[StoreCall, Fault]] = []
        self._faults: list[Fault] = []
        self._counts: Counter[str] = Counter()
        self._times: Counter[int] = Counter()
        self._random = random.Random(seed)
        # Several threads may call one store. The lock keeps the numbers of the calls,
        # the counts of the faults and the order of the random draws consistent.
        self._lock = threading.Lock()
        self.inject(*faults)

    def inject(self, *faults: Fault) -> None:
        """Add faults after the present ones."""
        for fault in faults:
            if not isinstance(fault, Fault):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArgument(
                    "fault",
                    type(fault).__name__,
                    "give a Conflict, Delay, Failure or UnknownOutcome",
                )
        with self._lock:
            self._faults = [*self._faults, *faults]

    def faults_of(self, operation: Operation, **arguments: Any) -> list[Fault]:
        """Record a call, and return the faults that it gets, in their order."""
        with self._lock:
            self._counts[operation] += 1
            call = StoreCall(operation, self._counts[operation], arguments)
            self.calls.append(call)
            chosen: list[Fault] = []
            for number, fault in enumerate(self._faults):
                if self._applies(number, fault, call):
                    self._times[number] += 1
                    self.injected.append((call, fault))
                    chosen.append(fault)
                    if fault.ends_the_call:
                        break
            return chosen

    def _applies(self, number: int, fault: Fault, call: StoreCall) -> bool:
        if fault.times is not None and self._times[number] >= fault.times:
            return False
        if not fault.matches(call):
            return False
        return fault.probability is None or self._random.random() < fault.probability


def spurious_conflict(
    stream: str, expect: Mapping[str, Any], actual: int
) -> VersionConflict:
    """Return the conflict of an append to which nothing has happened."""
    return VersionConflict([ConflictedStream(stream, expect[stream], actual)])


def spurious_category_conflict(
    category: str, expect: Mapping[str, Any], actual: int
) -> VersionConflict:
    """Return the conflict on a category of an append to which nothing has happened."""
    return VersionConflict([], [ConflictedCategory(category, expect[category], actual)])


def raise_failures(faults: Iterable[Fault], *, after: bool) -> None:
    """Raise the error of a `Failure` that comes before or after the effect."""
    for fault in faults:
        if isinstance(fault, Failure) and fault.after is after:
            raise fault.error


def _numbers(at: int | Collection[int]) -> Collection[int]:
    return (at,) if isinstance(at, int) else at
