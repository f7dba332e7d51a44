"""What a caller holds of a saga: its id, its status, its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from eventbraid.errors import CoordinatorClosed
from eventbraid.saga.running._permits import waiting_for_saga
from eventbraid.store._duration import duration_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.errors import SagaError
    from eventbraid.saga.coordination._shards import Tenure
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._defect import Defect
    from eventbraid.saga.machine._progress import Progress, Status
    from eventbraid.saga.running._clock import SagaClock
    from eventbraid.saga.running._timers import Sleep

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
    """Everything that happened was undone."""

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


class Run(Generic[S]):
    """One saga as this process knows it; it changes with each commit."""

    __slots__ = (
        "__weakref__",
        "at_rest",
        "claimed",
        "clock",
        "defective",
        "error",
        "holds_slot",
        "id",
        "is_taken_over",
        "outages",
        "progress",
        "saga",
        "sleep",
        "stale",
        "state",
        "tenure",
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
        self.tenure: Tenure | None = None
        self.error: SagaError | None = None
        self.at_rest = anyio.Event()
        # How often in a row the store failed, which is no attempt's fault.
        self.outages = 0
        # The wait for the next attempt, if it is waited for.
        self.sleep: Sleep | None = None
        self.stale = False
        self.holds_slot = False

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


class SagaHandle(Generic[S]):
    """A saga that was started; made by `SagaCoordinator.start`.

    Example:
        >>> import eventbraid as eb
        >>> eb.SagaHandle.__name__
        'SagaHandle'
    """

    __slots__ = ("_catch_up", "_run")

    def __init__(
        self, run: Run[S], catch_up: Callable[[Run[S]], Awaitable[None]]
    ) -> None:
        """Show a saga; use `SagaCoordinator.start` instead."""
        self._run = run
        self._catch_up = catch_up

    @property
    def id(self) -> str:
        """The saga's id, which is its stream."""
        return self._run.id

    @property
    def status(self) -> Status:
        """Where the saga stands, as far as this coordinator knows.

        Of a saga that another coordinator drives, only the end is heard of.
        """
        return self._run.progress.status

    @property
    def state(self) -> S:
        """The saga's state, folded from the results so far; the caller's own copy."""
        return self._run.state.read()

    async def result(self, *, timeout: timedelta | None = None) -> Ended[S]:
        """Wait until the saga has ended, or is stuck.

        A step of another saga that waits here isn't counted by ``concurrency``
        meanwhile.

        Args:
            timeout: How long to wait; without end if not given. The saga goes on.

        Returns:
            How it ended.

        Raises:
            TimeoutError: The time is over.
            SagaParked: The program that has the saga's shard, this one or another one,
                can't drive it. Called again, it waits if one that can has gone on with
                the saga or has its shard now, and raises at once if not.
            CoordinatorClosed: The coordinator was left before the saga ended.
        """
        seconds = None
        if timeout is not None:
            # A caller's time may be up already.
            seconds = duration_seconds("timeout", timeout, minimum=timedelta.min)
        with anyio.fail_after(seconds):
            if self._run.error is not None:
                # Nobody is told when a parked saga only goes on.
                await self._catch_up(self._run)
            if self._run.at_rest.is_set():
                await checkpoint()
            else:
                with waiting_for_saga():
                    await self._run.at_rest.wait()
            if not self._run.at_rest.is_set():
                raise CoordinatorClosed(
                    "the coordinator of this step is being left; the step's next "
                    "attempt waits again"
                )
        if self._run.error is not None:
            raise self._run.error
        return self._run.ended()

    def __repr__(self) -> str:
        """Name it with its status."""
        return f"<SagaHandle {self.id!r}, {self.status.value}>"
