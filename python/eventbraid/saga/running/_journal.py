"""The only code that appends to the streams of sagas.

Each commit expects the exact version of the saga's stream that this process has folded.
If another writer has appended a record meanwhile, the store refuses the commit. So the
stream needn't be read again between two steps. Each commit of a driver also expects the
fencing token of the saga's shard. If the coordinator has lost the shard meanwhile, the
store refuses its records.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.command._provenance import is_raised_by_command
from eventbraid.errors import (
    CommandRejected,
    EventbraidError,
    InvalidArgument,
    OutcomeUnknown,
    VersionConflict,
)
from eventbraid.lease._state import lost_error
from eventbraid.saga._defect_classification import CommandDefect, Defect
from eventbraid.saga._text import text_of
from eventbraid.saga.machine._decider import decide_without_declaration
from eventbraid.saga.machine._outcomes import Unfoldable
from eventbraid.saga.running._blocked_error import unfoldable_error
from eventbraid.saga.running._commit_errors import NOT_ABOUT_THE_STEP
from eventbraid.saga.running._observer import report_transitions
from eventbraid.saga.running._records import batch_of, head_of
from eventbraid.saga.running._saga_reader import SagaReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from eventbraid.command import AnyCommand, AsyncExecutor, Executed
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.saga.machine._state import SagaState
    from eventbraid.saga.running._clock import Clock
    from eventbraid.saga.running._observer import Observer
    from eventbraid.saga.running._records import RecordBatch, StreamHead
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease
    from eventbraid.store import Appended, AsyncStore

S = TypeVar("S")


class Journal:
    """Writes the streams of sagas.

    Attributes:
        store: The store.
        reader: Reads the streams.
        registry: The registry of the events of local steps.
    """

    def __init__(
        self,
        store: AsyncStore,
        executor: AsyncExecutor,
        observer: Observer | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Write to a store.

        Args:
            store: The store.
            executor: Executes the commands of steps on the same store.
            observer: Is called with each recorded transition, after its commit.
            clock: The clock of this process, or a simulated clock in a test.
        """
        self.store = store
        self.registry = executor.registry
        self.reader = SagaReader(store, clock, executor.registry)
        self._executor = executor
        self._observer = observer

    async def commit(
        self, run: Run[S], events: Sequence[SagaEvent], state: SagaState[S]
    ) -> None:
        """Append records, then advance the run to the state after them.

        Args:
            run: The saga.
            events: The records of a decision.
            state: The saga's state after them.

        Raises:
            LeaseLost: Another coordinator has the saga's shard.
            VersionConflict: Another writer has appended to the saga's stream.
        """
        batch = batch_of(state.progress, run.head, events)
        run.claim(batch.head.version)
        try:
            await self._append(batch, _expectations(run))
        except VersionConflict as conflict:
            _raise_if_lease_is_lost(run.shard_lease, conflict)
            raise
        self._advance(run, state, batch.head, events)

    async def execute(
        self,
        run: Run[S],
        command: AnyCommand,
        events: Sequence[SagaEvent],
        state: SagaState[S],
        *,
        cause: str,
    ) -> Executed:
        """Execute a command and append records in the same commit.

        The records are the last events of the commit. So a local step is executed
        exactly once: after a crash, the log has both the command's events and the
        step's record, or neither.

        Args:
            run: The saga.
            command: The command.
            events: The records of a decision.
            state: The saga's state after them.
            cause: The idempotency key of the step, which becomes the causation id of
                the command's events.

        Returns:
            The whole commit, the records included.

        Raises:
            CommandDefect: A function of the command raised an error whose class a
                commit can also raise. The error comes from that function and not from
                this commit.
            CommandRejected: A business rule rejected the command, or UTF-8 can't encode
                a text in one of its events; nothing was recorded.
            LeaseLost: Another coordinator has the saga's shard.
            VersionConflict: Another writer has appended to the saga's stream.
        """
        batch = batch_of(state.progress, run.head, events)
        run.claim(batch.head.version)
        try:
            executed = await self._executor.execute(
                command,
                also=batch.as_writes(),
                expect=_expectations(run),
                metadata={"correlation_id": run.id, "causation_id": cause},
            )
        except EventbraidError as error:
            if is_raised_by_command(error) and isinstance(error, NOT_ABOUT_THE_STEP):
                raise CommandDefect(error) from error
            _raise_if_lease_is_lost(run.shard_lease, error)
            if _is_of_encoding(error):
                code, message = type(error).__name__, text_of(error)
                raise CommandRejected(code, message) from error
            raise
        self._advance(run, state, batch.head, events)
        return executed

    async def record(
        self, progress: Progress, head: StreamHead, events: Sequence[SagaEvent]
    ) -> None:
        """Record a person's decision about a saga, without the saga's declaration.

        The commit expects no fencing token. The coordinator that drives the saga finds
        the decision in the log.

        Args:
            progress: The progress after the records.
            head: The head of the stream before.
            events: The records of a decision.

        Raises:
            VersionConflict: Another writer has appended to the stream.
        """
        batch = batch_of(progress, head, events)
        await self._append(batch, {progress.id: head.version})

    async def record_unfoldable(
        self,
        progress: Progress,
        head: StreamHead,
        defect: Defect,
        shard_lease: ShardLease | None,
    ) -> StreamHead:
        """Record a defect that prevents the fold of a saga's results.

        Args:
            progress: The saga's progress.
            head: The head of its stream.
            defect: The defect.
            shard_lease: The lease under which the saga is driven here. None if another
                coordinator drives the saga; that coordinator records the defect itself.

        Returns:
            The head of the stream; without the new record if its append failed.
        """
        events, reached = decide_without_declaration(progress, Unfoldable(defect))
        if not events or shard_lease is None:
            return head
        batch = batch_of(reached, head, events)
        expect = {progress.id: head.version, **shard_lease.fence}
        # A failed append needs no handling: at the next read of the saga, this
        # coordinator or another one finds the same defect.
        with suppress(VersionConflict, OutcomeUnknown):
            await self._append(batch, expect)
            return batch.head
        return head

    async def reload(self, run: Run[Any]) -> None:
        """Read a saga's stream again, because another writer has appended to it.

        Raises:
            SagaBlocked: This program can't fold the new records.
        """
        run.begin_reload()
        recorded = await self.reader.read(run.id)
        try:
            fresh = await self.reader.restore(run.saga, run.id, recorded)
        except Defect as defect:
            progress = self.reader.progress(run.id, recorded)
            await self.record_unfoldable(
                progress, head_of(recorded), defect, run.shard_lease
            )
            raise unfoldable_error(progress, defect) from defect.error
        # During the read, another task may have advanced the run. For example, the read
        # was made for a caller, and this coordinator has begun to drive the saga.
        if fresh.version >= run.version:
            run.advance(fresh.state, fresh.head)

    def _append(
        self, batch: RecordBatch, expect: Mapping[str, int]
    ) -> Awaitable[Appended]:
        """Append records that belong to no command."""
        # Not ``async``: a further coroutine would cost time at each commit.
        return self.store.append(batch.encoded, expect=expect)

    def _advance(
        self,
        run: Run[S],
        state: SagaState[S],
        head: StreamHead,
        events: Sequence[SagaEvent],
    ) -> None:
        """Advance a run to the committed state, and report the transitions.

        If the process is killed before this call, nothing is lost: the next process
        folds the same state from the log.
        """
        run.advance(state, head)
        if self._observer is not None:
            report_transitions(self._observer, state.progress, events)


def _expectations(run: Run[Any]) -> dict[str, int]:
    """Return the expectations of a saga's commits: its version and the fencing token.

    Because of the version, the store refuses a decision that was made before the last
    record of the stream was read. Because of the token, it refuses a decision of a
    coordinator that has lost the lease.
    """
    expect = {run.id: run.head.version}
    if run.shard_lease is not None:
        expect.update(run.shard_lease.fence)
    return expect


def _raise_if_lease_is_lost(
    shard_lease: ShardLease | None, error: EventbraidError
) -> None:
    """Raise `LeaseLost` if the fencing token caused the conflict."""
    if shard_lease is None or not isinstance(error, VersionConflict):
        return
    lost = lost_error(shard_lease.lease, shard_lease.token, error)
    if lost is not None:
        raise lost from error


def _is_of_encoding(error: EventbraidError) -> bool:
    """Return whether UTF-8 can't encode a text in an event.

    A text from outside may contain half a character (a lone surrogate). This is a fault
    of the data and not a bug in the program. So it fails the step, like an event that
    is too large.
    """
    is_of_event = isinstance(error, InvalidArgument) and error.what == "event"
    return is_of_event and isinstance(error.__cause__, UnicodeEncodeError)
