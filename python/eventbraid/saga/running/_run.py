"""The state of one saga in this process."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import anyio
from msgspec import structs

from eventbraid.saga.machine._decider import decide
from eventbraid.saga.running._outcome import SagaOutcome, SagaResult
from eventbraid.saga.running._setbacks import Setbacks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from eventbraid.errors import SagaError
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._outcomes import ActionOutcome, Request
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.saga.machine._state import SagaState
    from eventbraid.saga.running._clock import SagaClock
    from eventbraid.saga.running._records import StreamHead
    from eventbraid.saga.running._shard_lease import ShardLease

S = TypeVar("S")

_NO_TURN: AbstractAsyncContextManager[None] = nullcontext()


class Timer(Protocol):
    """The wait of a saga for its next attempt."""

    def wake(self) -> None:
        """End the wait, and put the saga back to work."""
        ...

    def cancel(self) -> None:
        """End the wait, and leave the saga as it is."""
        ...


class Run(Generic[S]):
    """One saga in this process: its recorded state, and the wait of its callers.

    Only the methods of this class change a run. All of them run on one event loop, so
    they need no lock. But after each ``await`` any attribute may have changed, because
    other tasks call these methods when they find records in the log.

    Attributes:
        id: The saga's id.
        saga: Its declaration.
        clock: The time of day for this saga.
        state: Its state at `head`: the folds of its stream and of its results.
        head: The end of the part of its stream that is folded.
        claimed: The version that this run's last append has reached, or will reach if
            it succeeds. The log follower may read a record before its append returns. A
            record above this version is another writer's.
        is_stale: Whether the stream may have records that aren't folded.
        is_taken_over: Whether another process drove the saga before, and may have ended
            during the action that is next here.
        shard_lease: The lease under which the saga is driven; None if it isn't driven
            here.
        setbacks: The outages and defects that have delayed the saga in this process.
        at_rest: An event for waiting callers. It is set while the saga isn't driven
            further.
        error: The error because of which the saga isn't driven further; None if it has
            ended, is stuck, or is driven.
    """

    __slots__ = (
        "__weakref__",
        "_listener",
        "_timer",
        "_turn",
        "at_rest",
        "claimed",
        "clock",
        "error",
        "head",
        "id",
        "is_stale",
        "is_taken_over",
        "saga",
        "setbacks",
        "shard_lease",
        "state",
    )

    def __init__(
        self,
        saga: Saga[S],
        state: SagaState[S],
        head: StreamHead,
        clock: SagaClock,
    ) -> None:
        """Begin with the recorded state."""
        self.id = state.progress.id
        self.saga = saga
        self.clock = clock
        self.state = state
        self.head = head
        self.claimed = head.version
        self.is_stale = False
        self.is_taken_over = False
        self.shard_lease: ShardLease | None = None
        self.setbacks = Setbacks()
        self.at_rest = anyio.Event()
        self.error: SagaError | None = None
        self._timer: Timer | None = None
        self._turn: anyio.Lock | None = None
        self._listener: Callable[[], None] | None = None

    # --- the recorded state ----------------------------------------------------------

    @property
    def version(self) -> int:
        """The version of the saga's stream, as far as it is folded."""
        return self.head.version

    @property
    def progress(self) -> Progress:
        """The fold of the saga's stream."""
        return self.state.progress

    def decide(
        self, outcome: ActionOutcome | Request
    ) -> tuple[tuple[SagaEvent, ...], SagaState[S]]:
        """Return the records that follow from an outcome, and the state after them.

        The run isn't changed here: the journal commits the records, then advances it.
        """
        return decide(self.saga, self.state, outcome, self.clock.now())

    def copy(self) -> Run[S]:
        """Return a copy without a lease, for the record of a person's decision."""
        return Run(self.saga, self.state, self.head, self.clock)

    def claim(self, version: int) -> None:
        """Note the version that an append will reach, before the append is made.

        The log follower may read the records before the append returns, and must not
        take them for another writer's records.
        """
        self.claimed = version

    def advance(self, state: SagaState[S], head: StreamHead) -> None:
        """Adopt the state and the head after a commit or a read."""
        self.state = state
        self.head = head
        self.claimed = head.version

    def adopt(self, read: Run[S]) -> None:
        """Adopt the state of another run of the saga, just read from the log."""
        self.advance(read.state, read.head)
        self.is_taken_over = read.is_taken_over

    def fold_data(self, data: Encoded[S]) -> None:
        """Replace the data by the fold that includes the result of a recorded step."""
        self.state = structs.replace(self.state, data=data)

    def bound_deadline(self, deadline: datetime) -> None:
        """Set an earlier deadline in memory; the record isn't changed."""
        progress = structs.replace(self.state.progress, deadline=deadline)
        self.state = structs.replace(self.state, progress=progress)

    def mark_stale(self) -> None:
        """Request that the stream is read again before the next action."""
        self.is_stale = True

    def begin_reload(self) -> None:
        """Mark the run as current, just before its stream is read.

        A record that is appended during the read marks the run as stale again. If the
        mark were removed after the read instead, the read could miss that record.
        """
        self.is_stale = False

    # --- attempts at the same time ---------------------------------------------------

    def begin_turns(self, listener: Callable[[], None]) -> None:
        """Let tasks of the saga decide and record outcomes one after the other.

        Args:
            listener: Is called when another writer has appended to the stream.
        """
        self._turn = anyio.Lock()
        self._listener = listener

    def end_turns(self) -> None:
        """Return to one task."""
        self._turn = self._listener = None

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return a block in which no other task of the saga decides or records.

        A decision must be made on a state with all outcomes before it. While the saga
        has one task, the block costs nothing.
        """
        return _NO_TURN if self._turn is None else self._turn

    # --- the lease under which it is driven ------------------------------------------

    def assign(self, shard_lease: ShardLease | None) -> None:
        """Set the lease under which the saga is driven here; None if it isn't."""
        self.shard_lease = shard_lease

    def take_over(self) -> None:
        """Record that another process drove the saga before.

        That process may have ended during the action that is next here.
        """
        self.is_taken_over = True

    def end_takeover(self) -> None:
        """Record that the first action since the takeover has been chosen."""
        self.is_taken_over = False

    @property
    def is_leaving(self) -> bool:
        """Whether the lease is lost or given back, so that no further action begins."""
        return self.shard_lease is not None and self.shard_lease.is_leaving

    # --- the wait for its next attempt -----------------------------------------------

    def begin_sleep(self, timer: Timer) -> None:
        """Keep the timer that puts the saga back to work."""
        self._timer = timer

    def end_sleep(self) -> None:
        """Remove the timer, which has ended."""
        self._timer = None

    def wake(self) -> None:
        """End the wait for the next attempt.

        The stream is read again before that attempt.
        """
        self.is_stale = True
        if self._timer is not None:
            self._timer.wake()
        elif self._listener is not None:
            self._listener()

    def cancel_timer(self) -> None:
        """Cancel the wait for the next attempt: the saga isn't driven here any more."""
        if self._timer is not None:
            self._timer.cancel()

    # --- the callers that wait for its end -------------------------------------------

    def mark_at_rest(self, error: SagaError | None = None) -> None:
        """Notify the waiting callers that the saga isn't driven further here."""
        self.error = error
        self.at_rest.set()

    def clear_at_rest(self) -> None:
        """Let callers wait for the saga again, because it may be driven further."""
        self.error = None
        if self.at_rest.is_set():
            self.at_rest = anyio.Event()

    def result(self) -> SagaResult[S]:
        """Return the result of a saga that is at rest."""
        outcome = SagaOutcome(self.progress.status.value)
        failed = outcome is not SagaOutcome.COMPLETED
        trouble = self.progress.trouble if failed else None
        return SagaResult(outcome, self.state.data.read(), trouble)
