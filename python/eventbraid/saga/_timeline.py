"""The timeline of one saga: its records, described for people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from eventbraid.errors import SagaNotFound
from eventbraid.event import decode_event
from eventbraid.saga.definition._graph import steps_of
from eventbraid.saga.machine._events import (
    BranchChosen,
    CompensationAttempted,
    CompensationFailed,
    CompensationStarted,
    DefectRecorded,
    ItemsCompleted,
    ItemsListed,
    RetriedByHand,
    SagaCompensated,
    SagaCompleted,
    SagaEvent,
    SagaStarted,
    SagaStuck,
    SignalReceived,
    SignalRefused,
    SkippedByHand,
    StepAnsweredLate,
    StepCompensated,
    StepFailed,
    StepGivenUp,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnknown,
    WaitEnded,
    WaitStarted,
)
from eventbraid.saga.machine._fold import evolve
from eventbraid.saga.machine._progress import Progress, SagaStatus
from eventbraid.saga.running._outcome import SagaOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from eventbraid.store import EventStore, RecordedEvent


@dataclass(frozen=True, slots=True)
class SagaEntry:
    """One line of a saga's timeline.

    Attributes:
        time: The time at which the record was appended, in UTC.
        what: The kind of the entry, in a word or two: ``"started"``, ``"succeeded"``.
        step: The step that it is about; empty if it is about the saga.
        attempt: The number of the attempt; 0 if there is none.
        detail: The reason, the error or the result, for people; empty if there is none.
        position: The record's position in the log.
        type: The record's event type.
        traceback: The end of the traceback of a defect; empty otherwise.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.SagaEntry.__name__
        'SagaEntry'
    """

    time: datetime
    what: str
    step: str
    attempt: int
    detail: str
    position: int
    type: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class SagaTimeline:
    """The records of one saga, in order.

    Attributes:
        saga_id: The saga's id.
        saga: The name of its declaration.
        version: The version of its graph.
        status: Its status.
        outcome: Its outcome; None if it isn't at rest.
        failure: The reason why it is compensated or stuck; None otherwise.
        steps: The names of its steps, in their order.
        entries: Its records.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         eb.saga.read_timeline(store, "saga-1")
        ...     except eb.errors.SagaNotFound as error:
        ...         print(error.saga_id)
        saga-1
    """

    saga_id: str
    saga: str
    version: int
    status: SagaStatus
    outcome: SagaOutcome | None
    failure: str | None
    steps: tuple[str, ...]
    entries: tuple[SagaEntry, ...]


def read_timeline(store: EventStore, saga_id: str) -> SagaTimeline:
    """Read the timeline of one saga.

    Neither the saga's declaration nor a coordinator is needed.

    Args:
        store: The store.
        saga_id: The saga's id.

    Raises:
        SagaNotFound: No saga was started under the id.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         timeline = eb.saga.read_timeline(store, "saga-1")
        ...     except eb.errors.SagaNotFound:
        ...         print("no such saga")
        no such saga
    """
    entries: list[SagaEntry] = []
    progress = Progress(saga_id)
    for recorded, event in _history(store, saga_id):
        progress = evolve(progress, event)
        entry = _entry(recorded, event)
        if entries and _attempt_of(entry) == _attempt_of(entries[-1]):
            entry = replace(entry, detail=_NO_LONGER_ALONE)
        entries.append(entry)
    is_at_rest = progress.status.is_at_rest
    return SagaTimeline(
        saga_id,
        progress.saga,
        progress.version,
        progress.status,
        SagaOutcome(progress.status.value) if is_at_rest else None,
        progress.trouble,
        tuple(shape.name for shape in steps_of(progress.graph)),
        tuple(entries),
    )


def _history(
    store: EventStore, saga_id: str
) -> Iterator[tuple[RecordedEvent, SagaEvent]]:
    found = False
    for recorded in store.read_stream(saga_id):
        if not found and recorded.type != "saga.started":
            break
        found = True
        yield recorded, cast("SagaEvent", decode_event(recorded))
    if not found:
        raise SagaNotFound(saga_id)


def _entry(recorded: RecordedEvent, event: SagaEvent) -> SagaEntry:
    what, detail = _description(event)
    return SagaEntry(
        recorded.recorded_at,
        what,
        getattr(event, "step", ""),
        getattr(event, "attempt", 0),
        detail,
        recorded.position,
        recorded.type,
        getattr(event, "traceback", ""),
    )


def _attempt_of(entry: SagaEntry) -> tuple[str, int] | SagaEntry:
    """Return the attempt that an entry begins; the entry itself if it begins none."""
    begins = entry.type in {"saga.step_started", "saga.compensation_attempted"}
    return (entry.step, entry.attempt) if begins else entry


def _description(event: SagaEvent) -> tuple[str, str]:  # noqa: C901, PLR0912 - one line a record
    match event:
        case SagaStarted(saga=saga, version=version):
            return "saga started", f"{saga} version {version}"
        case StepStarted(alone=alone):
            return "started", _ALONE if alone else ""
        case StepSucceeded(asked=asked):
            answer = _shown(event)
            return "succeeded", f"{answer} (asked)" if asked else answer
        case StepFailed(code=code, message=message, retry_at=retry_at):
            return "failed", _because(code, message, retry_at)
        case StepUnknown(why=why, code=code, message=message, retry_at=retry_at):
            return f"unknown ({why})", _because(code, message, retry_at)
        case StepSkipped(reason=reason):
            return "skipped", reason
        case BranchChosen(choice=choice, condition=condition):
            return "chosen", f"{choice}: {'yes' if condition else 'no'}"
        case ItemsListed(keys=keys):
            return "listed", _counted(len(keys), "item")
        case ItemsCompleted(without_result=missing):
            return "settled", f"{len(missing)} without result" if missing else ""
        case WaitStarted(until=until):
            return "waiting", "" if until is None else f"until {until.isoformat()}"
        case SignalReceived(signal=signal, by=by):
            return "signal", f"{signal}, by {by}" if by else signal
        case SignalRefused(signal=signal, reason=reason):
            return "signal refused", f"{signal}: {reason}"
        case WaitEnded(signal=signal):
            return "waited", signal or "the time has come"
        case StepGivenUp():
            return "given up", "another command took its place"
        case StepAnsweredLate():
            return "answered late", _shown(event)
        case CompensationStarted(reason=reason, plan=plan, detail=detail):
            order = " -> ".join(plan) or "nothing to compensate"
            return f"compensation started ({reason})", f"{detail or order}"
        case CompensationAttempted(alone=alone):
            return "compensating", _ALONE if alone else ""
        case StepCompensated():
            return "compensated", ""
        case CompensationFailed(code=code, message=message, retry_at=retry_at):
            return "compensation failed", _because(code, message, retry_at)
        case SagaStuck(reason=reason):
            return "stuck", reason
        case DefectRecorded(where=where, code=code, message=message):
            return "blocked", f"{where} raised {_because(code, message, None)}"
        case RetriedByHand(by=by, note=note):
            return "retried by hand", f"{by}: {note}"
        case SkippedByHand(by=by, note=note):
            return "skipped by hand", f"{by}: {note}"
        case SagaCompleted():
            return "saga completed", ""
        case SagaCompensated():
            return "saga compensated", ""


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_MAXIMUM_SHOWN = 120
_ALONE = "alone, because the process ended during the previous attempts"
_NO_LONGER_ALONE = "no longer alone, because it waits for another saga"


def _shown(event: StepSucceeded | StepAnsweredLate) -> str:
    text = bytes(event.result).decode()
    if text == "null":
        return ""
    return text if len(text) <= _MAXIMUM_SHOWN else f"{text[: _MAXIMUM_SHOWN - 1]}…"


def _because(code: str, message: str, retry_at: datetime | None) -> str:
    reason = f"{code}: {message}" if code and message else code or message
    if retry_at is None:
        return reason
    due = f"again at {retry_at.time().isoformat('milliseconds')}"
    return f"{reason}; {due}" if reason else due
