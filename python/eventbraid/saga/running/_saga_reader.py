"""Reads the streams of sagas, and folds them into their progress and state."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from eventbraid.errors import (
    EventDecodeError,
    InvalidTransition,
    SagaNotFound,
    UnknownEventType,
    VersionConflict,
)
from eventbraid.event import decode_event
from eventbraid.event._registry import default_registry
from eventbraid.saga.definition._step import LocalStep
from eventbraid.saga.machine._events import STARTED_TYPE, SagaEvent, StepSucceeded
from eventbraid.saga.machine._fold import fold
from eventbraid.saga.machine._idempotency_keys import forward_key
from eventbraid.saga.machine._progress import Progress
from eventbraid.saga.running._blocked_error import blocked_error
from eventbraid.saga.running._clock import PROCESS_CLOCK, SagaClock
from eventbraid.saga.running._data_fold import fold_state
from eventbraid.saga.running._executed import recall
from eventbraid.saga.running._records import head_of
from eventbraid.saga.running._run import Run
from eventbraid.store import EXISTS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from eventbraid.command import Executed
    from eventbraid.event import EventRegistry
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.running._clock import Clock
    from eventbraid.store import AsyncStore, RecordedEvent

S = TypeVar("S")


class SagaReader:
    """Reads the streams of sagas; it appends no record.

    Attributes:
        clock: The clock of this process, for the sagas that are read.
    """

    def __init__(
        self,
        store: AsyncStore,
        clock: Clock | None = None,
        registry: EventRegistry = default_registry,
    ) -> None:
        """Read from a store.

        Args:
            store: The store.
            clock: The clock; by default, that of the process.
            registry: The registry of the events of local steps.
        """
        self._store = store
        self._registry = registry
        self.clock = PROCESS_CLOCK if clock is None else clock

    async def read(self, saga_id: str) -> Sequence[RecordedEvent]:
        """Read a saga's stream.

        Raises:
            SagaNotFound: The stream has no events, or isn't a saga's.
        """
        recorded = [found async for found in self._store.read_stream(saga_id)]
        if not recorded or recorded[0].type != STARTED_TYPE:
            raise SagaNotFound(saga_id)
        return recorded

    async def exists(self, saga_id: str) -> bool:
        """Return whether a stream has events; wait for pending appends first.

        A read doesn't return the events of an append that isn't durable yet. So this
        method makes an empty append with an expectation, which the store validates
        after the pending appends.
        """
        try:
            await self._store.append([], expect={saga_id: EXISTS})
        except VersionConflict:
            return False
        return True

    async def is_current(self, run: Run[Any]) -> bool:
        """Return whether a run has folded its whole stream."""
        return await self._store.version(run.id) == run.version

    def progress(self, saga_id: str, recorded: Iterable[RecordedEvent]) -> Progress:
        """Fold a saga's records into its progress; no declaration is needed.

        Raises:
            SagaBlocked: The stream has an event that isn't a saga's record.
        """
        _, progress = _folded_history(Progress(saga_id), recorded)
        return progress

    async def restore(
        self, saga: Saga[S], saga_id: str, recorded: Sequence[RecordedEvent]
    ) -> Run[S]:
        """Fold a saga's stream into a run.

        Raises:
            Defect: A ``then`` of this program raised.
            SagaBlocked: This program can't fold the stream.
        """
        blank = Progress(saga_id, saga=saga.name, version=saga.version)
        history, progress = _folded_history(blank, recorded)
        with _unreadable_is_blocked(progress):
            executed = await self._executed(saga, progress, recorded, history)
        state = fold_state(saga, progress, history, executed)
        return Run(saga, state, head_of(recorded), SagaClock(self.clock))

    async def _executed(
        self,
        saga: Saga[Any],
        progress: Progress,
        recorded: Sequence[RecordedEvent],
        history: Sequence[SagaEvent],
    ) -> Mapping[str, Executed]:
        """Read from the log the results of the local steps that have a ``then``."""
        found: dict[str, Executed] = {}
        for record, event in zip(recorded, history, strict=True):
            if isinstance(event, StepSucceeded):
                node = saga.by_name.get(event.step)
                if isinstance(node, LocalStep) and node.then is not None:
                    cause = forward_key(progress, event.step)
                    found[event.step] = await recall(
                        self._store, record.position, cause, self._registry
                    )
        return found


@contextmanager
def _unreadable_is_blocked(progress: Progress) -> Generator[None]:
    """Raise `SagaBlocked` for an unreadable record, which is no fault of the store."""
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
