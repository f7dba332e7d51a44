"""One saga as its coordinator knows it, and how it can end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import anyio

if TYPE_CHECKING:
    from eventbraid.errors import SagaError
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._defect import Defect
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.saga.running._clock import SagaClock
    from eventbraid.saga.running._shard_lease import ShardLease

S = TypeVar("S")


class Outcome(Enum):
    """How a saga has come to rest.

    Example:
        >>> import eventbraid as eb
        >>> eb.Outcome.COMPENSATED.value
        'compensated'
    """

    COMPLETED = "completed"
    """Every step is settled."""

    COMPENSATED = "compensated"
    """Everything that happened was compensated."""

    STUCK = "stuck"
    """It waits for a person: `SagaCoordinator.retry` or `SagaCoordinator.skip`."""


@dataclass(frozen=True, slots=True)
class Ended(Generic[S]):
    """How a saga has ended.

    Attributes:
        outcome: The end.
        state: The state, folded from the results of its steps.
        failure: What undid it or left it stuck; None if it is completed.

    Example:
        >>> import eventbraid as eb
        >>> eb.Ended(eb.Outcome.COMPLETED, state={"cents": 500}).outcome.value
        'completed'
    """

    outcome: Outcome
    state: S
    failure: str | None = None


class Sleep(Protocol):
    """The wait of a saga for its next attempt."""

    def wake(self) -> None:
        """End the wait, and put the saga back to work."""
        ...

    def cancel(self) -> None:
        """End the wait, and leave the saga as it is."""
        ...


class Run(Generic[S]):
    """One saga as this process knows it; it changes with each commit."""

    __slots__ = (
        "__weakref__",
        "at_rest",
        "claimed",
        "clock",
        "defective",
        "error",
        "holds_permit",
        "id",
        "is_taken_over",
        "outages",
        "outages_blocked",
        "progress",
        "saga",
        "shard_lease",
        "sleep",
        "stale",
        "state",
        "version",
    )

    def __init__(
        self,
        saga: Saga[S],
        progress: Progress,
        state: Encoded[S],
        version: int,
        clock: SagaClock,
    ) -> None:
        """Take over what is recorded."""
        self.clock = clock
        self.id = progress.id
        self.saga = saga
        self.progress = progress
        self.state = state
        self.version = version
        # The version up to which records of the stream are, or may be, this run's own.
        self.claimed = version
        # The steps whose compensation has a defect in this program.
        self.defective: dict[str, Defect] = {}
        # Whether another process may have ended in the move that comes next.
        self.is_taken_over = False
        self.shard_lease: ShardLease | None = None
        self.error: SagaError | None = None
        self.at_rest = anyio.Event()
        # How often in a row the store failed, which is no attempt's fault.
        self.outages = 0
        # How often in a row an outage has blocked the saga.
        self.outages_blocked = 0
        # The wait for the next attempt, if it is waited for.
        self.sleep: Sleep | None = None
        self.stale = False
        self.holds_permit = False

    def replace(self, progress: Progress, state: Encoded[S], version: int) -> None:
        """Take over what was recorded since."""
        self.progress = progress
        self.state = state
        self.version = version
        self.claimed = version

    def copy(self) -> Run[S]:
        """Give one for a record that is nobody's move: it needs no shard."""
        return Run(self.saga, self.progress, self.state, self.version, self.clock)

    def go_on(self) -> None:
        """Let those wait again who ask for the end of a saga that rested."""
        self.error = None
        if self.at_rest.is_set():
            self.at_rest = anyio.Event()

    def rest(self, error: SagaError | None = None) -> None:
        """Tell those who wait that the saga goes no further here."""
        self.error = error
        self.at_rest.set()

    def wake(self, *, stale: bool) -> None:
        """End a sleep between two attempts.

        Args:
            stale: Whether somebody else has written to the saga's stream.
        """
        self.stale = self.stale or stale
        if self.sleep is not None:
            self.sleep.wake()

    def let_go(self) -> None:
        """Wait for no further attempt: the saga isn't to be driven on here."""
        if self.sleep is not None:
            self.sleep.cancel()

    def ended(self) -> Ended[S]:
        """Give the end of a saga that is at rest."""
        outcome = Outcome(self.progress.status.value)
        failed = outcome is not Outcome.COMPLETED
        trouble = self.progress.trouble if failed else None
        return Ended(outcome, self.state.read(), trouble)
