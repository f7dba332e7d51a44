"""The saga's stream: what is written to it and how it is read back.

Each commit demands the exact version that the coordinator knows. So whoever else writes
to the stream is noticed at once, and nothing is read again between two steps. It
demands the fence of the saga's shard too: a coordinator that was replaced records
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from eventbraid.command import Write
from eventbraid.command._provenance import is_raised_by_command
from eventbraid.errors import (
    CommandRejected,
    CoordinatorClosed,
    EventbraidError,
    EventDecodeError,
    InvalidArgument,
    InvalidTransition,
    InvalidValue,
    OutcomeUnknown,
    SagaBlocked,
    SagaNotFound,
    UnknownEventType,
    VersionConflict,
)
from eventbraid.event import decode_event, event_type, new_event
from eventbraid.lease._state import lost_error
from eventbraid.saga._text import described, text_of
from eventbraid.saga.definition._codec import UnfitValue
from eventbraid.saga.definition._step import Local, Step, external
from eventbraid.saga.machine._consequences import unfoldable
from eventbraid.saga.machine._defect import (
    CommandDefect,
    Defect,
    raise_if_it_ends_the_program,
)
from eventbraid.saga.machine._events import (
    ATTENTION_STREAM,
    SagaEvent,
    SagaNeedsAttention,
    SagaStuck,
    StepSucceeded,
)
from eventbraid.saga.machine._idempotency_keys import forward_key
from eventbraid.saga.machine._progress import Progress, Status
from eventbraid.saga.machine._record_texts import recordable
from eventbraid.saga.machine._transitions import after, fold
from eventbraid.saga.running._clock import PROCESS_CLOCK, SagaClock
from eventbraid.saga.running._error_classes import NOT_ABOUT_THE_STEP
from eventbraid.saga.running._executed import recall
from eventbraid.saga.running._run import Run
from eventbraid.store import EXISTS

if TYPE_CHECKING:
    from eventbraid.command import AsyncExecutor, Executed
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._step_base import AnyCommand
    from eventbraid.saga.running._clock import Clock
    from eventbraid.saga.running._shard_lease import ShardLease
    from eventbraid.store import AsyncStore, RecordedEvent

S = TypeVar("S")


class SagaProgress(msgspec.Struct, frozen=True):
    """One recorded transition, as ``on_event`` of the coordinator is told.

    Attributes:
        saga_id: The saga's id.
        saga: The name of its declaration.
        what: The type of the record: ``"saga.step_succeeded"``.
        step: The step that it is about; empty if it is about the saga.
        status: Where the saga stands after the commit.

    Example:
        >>> import eventbraid as eb
        >>> eb.SagaProgress.__struct_fields__
        ('saga_id', 'saga', 'what', 'step', 'status')
    """

    saga_id: str
    saga: str
    what: str
    step: str
    status: Status


Observer = Callable[[SagaProgress], None]

NEEDS_CODE = "needs_code"
"""Begins the reason for which a saga is blocked that no live coordinator can run."""


class Journal:
    """Writes and reads the streams of sagas."""

    def __init__(
        self,
        store: AsyncStore,
        executor: AsyncExecutor,
        observer: Observer | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Write to a store, and tell the observer what was written."""
        self.clock = PROCESS_CLOCK if clock is None else clock
        self.store = store
        self._executor = executor
        self._observer = observer

    async def commit(
        self, run: Run[S], events: Iterable[SagaEvent], state: Encoded[S]
    ) -> None:
        """Record transitions, and then take them over into the run.

        Args:
            run: The saga.
            events: What is to be recorded.
            state: The saga's state after them.

        Raises:
            InvalidTransition: They don't follow from what was recorded.
            LeaseLost: The saga's shard is another coordinator's.
            VersionConflict: Somebody else has written to the stream.
        """
        events = recordable(events)
        progress = after(run.progress, events)
        written = [new_event(run.id, event) for event in events]
        written += [new_event(one.stream, one.event) for one in _notices(run, events)]
        run.claimed = run.version + len(events)
        try:
            await self.store.append(written, expect=_demands(run))
        except VersionConflict as conflict:
            _raise_loss(run, conflict)
            raise
        self._take_over(run, progress, state, events)

    async def execute(
        self,
        run: Run[S],
        command: AnyCommand,
        events: Iterable[SagaEvent],
        state: Encoded[S],
        *,
        cause: str,
    ) -> Executed:
        """Execute a command and record transitions, in one commit.

        Args:
            run: The saga.
            command: The command.
            events: What is to be recorded with its events, behind them.
            state: The saga's state after them.
            cause: The key of the step, kept as the events' causation.

        Returns:
            The whole commit, the records included.

        Raises:
            CommandDefect: A function of the command raised an error of a store.
            CommandRejected: A business rule said no, or an event of the command has
                content that no event can hold; nothing was recorded.
            InvalidTransition: The records don't follow from what was recorded.
            LeaseLost: The saga's shard is another coordinator's.
            VersionConflict: Somebody else has written to the saga's stream.
        """
        events = recordable(events)
        progress = after(run.progress, events)
        also = [Write(run.id, event) for event in events]
        also += _notices(run, events)
        run.claimed = run.version + len(events)
        try:
            executed = await self._executor.execute(
                command,
                also=also,
                expect=_demands(run),
                metadata={"correlation_id": run.id, "causation_id": cause},
            )
        except EventbraidError as error:
            if is_raised_by_command(error) and isinstance(error, NOT_ABOUT_THE_STEP):
                raise CommandDefect(error) from error
            if isinstance(error, VersionConflict):
                _raise_loss(run, error)
            if _is_of_encoding(error):
                code, message = type(error).__name__, text_of(error)
                raise CommandRejected(code, message) from error
            raise
        self._take_over(run, progress, state, events)
        return executed

    async def record(
        self, progress: Progress, version: int, events: Iterable[SagaEvent]
    ) -> None:
        """Record a decision about a saga whose declaration isn't needed for it.

        Args:
            progress: The fold of the saga's stream.
            version: The version of the stream.
            events: What is to be recorded.

        Raises:
            InvalidTransition: They don't follow from what was recorded.
            VersionConflict: Another writer has written to the stream.
        """
        events = recordable(events)
        after(progress, events)
        written = [new_event(progress.id, event) for event in events]
        await self.store.append(written, expect={progress.id: version})

    async def reload(self, run: Run[Any]) -> None:
        """Read the saga's stream again, because somebody else has written to it."""
        run.stale = False
        recorded = await self.read(run.id)
        try:
            fresh = await self.restore(run.saga, run.id, recorded)
        except Defect as defect:
            version = len(recorded)
            progress = self.progress(run.id, recorded)
            await self.record_unfoldable(progress, version, defect, run.shard_lease)
            raise unfoldable_error(progress, defect) from defect.error
        run.replace(fresh.progress, fresh.state, fresh.version)

    async def is_current(self, run: Run[Any]) -> bool:
        """Tell whether a run knows all that is in its stream."""
        return await self.store.version(run.id) == run.version

    async def exists(self, saga_id: str) -> bool:
        """Tell whether a stream has events, once the appends under way are through."""
        try:
            await self.store.append([], expect={saga_id: EXISTS})
        except VersionConflict:
            return False
        return True

    async def read(self, saga_id: str) -> Sequence[RecordedEvent]:
        """Read a saga's stream.

        Raises:
            SagaNotFound: The stream has no events, or isn't a saga's.
        """
        recorded = [found async for found in self.store.read_stream(saga_id)]
        if not recorded or recorded[0].type != "saga.started":
            raise SagaNotFound(saga_id)
        return recorded

    def progress(self, saga_id: str, recorded: Iterable[RecordedEvent]) -> Progress:
        """Fold what planning needs; works without the saga's declaration.

        Raises:
            SagaBlocked: The stream holds something that isn't a saga's record.
        """
        _, progress = _folded_history(Progress(saga_id), recorded)
        return progress

    async def restore(
        self, saga: Saga[S], saga_id: str, recorded: Sequence[RecordedEvent]
    ) -> Run[S]:
        """Fold a saga's stream.

        Raises:
            Defect: A ``then`` of this program raised.
            SagaBlocked: This program can't fold it.
        """
        blank = Progress(saga_id, saga=saga.name, version=saga.version)
        history, progress = _folded_history(blank, recorded)
        with _unreadable_is_blocked(progress):
            executed = await self._executed(saga, progress, recorded, history)
        state = fold_state(saga, progress, history, executed)
        clock = SagaClock(self.clock)
        return Run(saga, progress, state, len(recorded), clock)

    async def record_unfoldable(
        self,
        progress: Progress,
        version: int,
        defect: Defect,
        shard_lease: ShardLease | None,
    ) -> int:
        """Record a defect in ``then`` that keeps a saga from being read back.

        Args:
            progress: The saga's progress.
            version: The version of its stream.
            defect: The defect.
            shard_lease: The lease under which the saga is driven here; None if it is
                driven elsewhere, where that is recorded.

        Returns:
            The version of the stream, as far as it is known.
        """
        record = unfoldable(progress, defect)
        if record is None or shard_lease is None:
            return version
        events = recordable((record,))
        written = [new_event(progress.id, event) for event in events]
        expect = {progress.id: version, **shard_lease.fence}
        # After a conflict the saga is read again, by this coordinator or by its next.
        with suppress(VersionConflict, OutcomeUnknown):
            await self.store.append(written, expect=expect)
            version += len(written)
        return version

    async def _executed(
        self,
        saga: Saga[Any],
        progress: Progress,
        recorded: Sequence[RecordedEvent],
        history: Sequence[SagaEvent],
    ) -> Mapping[str, Executed]:
        """Read back what local steps executed, where the state is folded from it."""
        found: dict[str, Executed] = {}
        for record, event in zip(recorded, history, strict=True):
            if isinstance(event, StepSucceeded):
                node = saga.by_name.get(event.step)
                if isinstance(node, Local) and node.then is not None:
                    cause = forward_key(progress, event.step)
                    found[event.step] = await recall(self.store, record.position, cause)
        return found

    def _take_over(
        self,
        run: Run[S],
        progress: Progress,
        state: Encoded[S],
        events: Sequence[SagaEvent],
    ) -> None:
        run.replace(progress, state, run.version + len(events))
        if self._observer is not None:
            _tell(self._observer, progress, events)


def fold_state(
    saga: Saga[S],
    progress: Progress,
    history: Iterable[SagaEvent],
    executed: Mapping[str, Executed],
) -> Encoded[S]:
    """Fold the results of a saga's steps into its state.

    Args:
        saga: Its declaration.
        progress: The fold of its stream.
        history: Its events.
        executed: What its local steps executed, where the state is folded from it.

    Raises:
        SagaBlocked: The input can't be decoded.
        Defect: A result can't be decoded, or a ``then`` raised.
    """
    try:
        state = saga.state_codec.restore(progress.input)
    except BaseException as error:
        raise_if_it_ends_the_program(error)
        reason = f"the input can't be folded ({described(error)})"
        raise blocked_error(progress, f"{reason}; correct the program") from error
    for event in history:
        if isinstance(event, StepSucceeded):
            try:
                state = _folded(saga, state, event, executed)
            except BaseException as error:
                raise_if_it_ends_the_program(error)
                raise Defect(event.step, "then", error) from error
    return state


def blocked_error(progress: Progress, reason: str) -> SagaBlocked:
    """Make the error for a saga that this program can't drive."""
    return SagaBlocked(progress.id, progress.saga, progress.version, reason)


def unfoldable_error(progress: Progress, defect: Defect) -> SagaBlocked:
    """Make the error for a saga whose results this program can't fold."""
    reason = f"step {defect.step!r} can't be folded ({defect.description})"
    return blocked_error(progress, f"{reason}; correct the program")


@contextmanager
def _unreadable_is_blocked(progress: Progress) -> Generator[None]:
    """Say of a saga, and not of the store, that a record of it can't be read."""
    try:
        yield
    except (EventDecodeError, InvalidTransition, UnknownEventType) as error:
        reason = f"its stream can't be folded ({error})"
        raise blocked_error(progress, reason) from error


def _folded_history(
    blank: Progress, recorded: Iterable[RecordedEvent]
) -> tuple[Sequence[SagaEvent], Progress]:
    with _unreadable_is_blocked(blank):
        history = [cast("SagaEvent", decode_event(found)) for found in recorded]
        return history, fold(blank.id, history)


def _folded(
    saga: Saga[S],
    state: Encoded[S],
    event: StepSucceeded,
    executed: Mapping[str, Executed],
) -> Encoded[S]:
    node = saga.by_name[event.step]
    if isinstance(node, Local):
        return fold_result(saga, node, state, lambda: executed[event.step])
    step = external(node)
    return fold_result(saga, step, state, lambda: step.result.decode(event.result))


def fold_result(
    saga: Saga[S],
    node: Local[S] | Step[S, Any],
    state: Encoded[S],
    result: Callable[[], Any],
) -> Encoded[S]:
    """Fold the result of a step into the state.

    Args:
        saga: The saga's declaration.
        node: The step.
        state: The state before.
        result: Returns the result, as it is recorded.

    Raises:
        UnfitValue: ``then`` returned a value that is not a state of this saga.
        Exception: Whatever ``then`` raises.
    """
    if node.then is None:
        return state
    folded: S = node.then(state.read(), result())
    try:
        return saga.state_codec.keep(folded)
    except InvalidValue as error:
        returned = f"{error.value}, returned by `then` of step {node.name!r},"
        remedy = "return the new state"
        raise UnfitValue(error.type, returned, error.bound, remedy) from error


def _demands(run: Run[Any]) -> dict[str, int]:
    """Give what each record of a saga demands: its stream's version, and the fence."""
    known = {run.id: run.version}
    return known if run.shard_lease is None else {**known, **run.shard_lease.fence}


def _is_of_encoding(error: EventbraidError) -> bool:
    """Return whether UTF-8 can't encode a text in an event.

    Half a character in a customer's text is a matter of the data and no bug in the
    program: like an event that is too large, it ends the step.
    """
    is_of_event = isinstance(error, InvalidArgument) and error.what == "event"
    return is_of_event and isinstance(error.__cause__, UnicodeEncodeError)


def _raise_loss(run: Run[Any], conflict: VersionConflict) -> None:
    if run.shard_lease is not None:
        lost = lost_error(run.shard_lease.lease, run.shard_lease.token, conflict)
        if lost is not None:
            raise lost from conflict


def _notices(run: Run[Any], events: Iterable[SagaEvent]) -> list[Write]:
    """Make what is told on the attention stream."""
    return [
        Write(
            ATTENTION_STREAM,
            SagaNeedsAttention(run.id, run.saga.name, event.step, event.reason),
        )
        for event in events
        if isinstance(event, SagaStuck)
    ]


def _tell(observer: Observer, progress: Progress, events: Iterable[SagaEvent]) -> None:
    try:
        for event in events:
            observer(_told(progress, event))
    except BaseException as error:
        raise_if_it_ends_the_program(error)
        # The commit stands, so this must not pass for the failure of the step.
        raise CoordinatorClosed(
            f"the coordinator stops, because its on_event raised {error!r}; nothing is "
            "lost, correct it and start again"
        ) from error


def _told(progress: Progress, event: SagaEvent) -> SagaProgress:
    step: str = getattr(event, "step", "")
    what = event_type(type(event))
    return SagaProgress(progress.id, progress.saga, what, step, progress.status)
