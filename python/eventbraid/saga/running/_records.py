"""Builds the events of a saga's records, with their metadata.

The metadata of each record has three fields. ``v`` is the schema version of the
record's class. The correlation id is the saga's id; all events that the saga's commands
write have it, too. The causation id is the id of the event that led to the record: the
last record on which the decision was based. So the records of one commit have the same
cause. The exception is the commit of the saga's start: the start is the cause of the
commit's other records. From each record, the causes lead back to the start of the saga.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from eventbraid._native import EventId
from eventbraid.command._write import EncodedWrite
from eventbraid.event._transcribe import traced_event
from eventbraid.saga.machine._events import (
    ATTENTION_STREAM,
    SagaEvent,
    SagaNeedsAttention,
    SagaStarted,
    SagaStuck,
)
from eventbraid.store import NewEvent

if TYPE_CHECKING:
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.store import RecordedEvent


class StreamHead(msgspec.Struct, frozen=True, gc=False):
    """The end of a saga's stream, as the next append needs it.

    Attributes:
        version: The version of the stream.
        cause: The causation id of the next record, which is the id of the last one.
    """

    version: int
    cause: str


def head_of(recorded: Sequence[RecordedEvent]) -> StreamHead:
    """Return the head of a stream from all of its records."""
    return StreamHead(len(recorded), str(recorded[-1].event_id))


def head_of_new_saga(saga_id: str, cause: str | None) -> StreamHead:
    """Return the head of the stream of a saga that isn't started yet.

    Args:
        saga_id: The saga's id.
        cause: The id of the last record of the saga whose step starts this one. None if
            no step starts it; the cause is then the new saga's own id.
    """
    return StreamHead(0, saga_id if cause is None else cause)


class RecordBatch(msgspec.Struct, frozen=True):
    """The records of one commit.

    Attributes:
        events: The records as objects: those of the saga's stream, then the notices.
        encoded: The same records, encoded for an append.
        head: The head of the saga's stream after the commit.
    """

    events: Sequence[SagaEvent | SagaNeedsAttention]
    encoded: list[NewEvent]
    head: StreamHead

    def as_writes(self) -> list[EncodedWrite]:
        """Return the records as writes that a command's commit can contain."""
        pairs = zip(self.encoded, self.events, strict=True)
        return [
            EncodedWrite(encoded.stream, event, encoded=encoded)
            for encoded, event in pairs
        ]


def batch_of(
    progress: Progress, head: StreamHead, events: Sequence[SagaEvent]
) -> RecordBatch:
    """Build the records of one commit, and the notices that belong to them.

    The last record gets its id here and not from the store, because its id is the cause
    of the records of the next commit. If the store assigned the id, each commit would
    have to be read back. The record that ends a saga gets no id here, because it is
    never a cause. If a late answer follows it, both have the same cause.

    Args:
        progress: The saga's progress after the records.
        head: The head of the saga's stream before.
        events: The records, in order; at least one.
    """
    saga_id, cause = progress.id, head.cause
    encoded: list[NewEvent] = []
    if len(events) > 1 and isinstance(events[0], SagaStarted):
        start_id = EventId()
        encoded.append(traced_event(saga_id, events[0], saga_id, cause, start_id))
        cause = str(start_id)
    encoded += [
        traced_event(saga_id, event, saga_id, cause)
        for event in events[len(encoded) : -1]
    ]
    last_id = None if progress.status.ended else EventId()
    encoded.append(traced_event(saga_id, events[-1], saga_id, cause, last_id))
    next_cause = cause if last_id is None else str(last_id)
    after = StreamHead(head.version + len(encoded), next_cause)
    notices = [
        SagaNeedsAttention(saga_id, progress.saga, event.step, event.reason)
        for event in events
        if isinstance(event, SagaStuck)
    ]
    if not notices:
        return RecordBatch(events, encoded, after)
    encoded += [_encoded_notice(notice, cause) for notice in notices]
    return RecordBatch((*events, *notices), encoded, after)


def notice_of(progress: Progress, head: StreamHead, reason: str) -> NewEvent:
    """Build the notice that a saga is blocked, for the attention stream.

    Args:
        progress: The saga's progress.
        head: The head of its stream.
        reason: The reason why it is blocked, for people.
    """
    step = progress.current or ""
    notice = SagaNeedsAttention(progress.id, progress.saga, step, reason)
    return _encoded_notice(notice, head.cause)


def _encoded_notice(notice: SagaNeedsAttention, cause: str) -> NewEvent:
    return traced_event(ATTENTION_STREAM, notice, notice.saga_id, cause)
