"""Reads from the log which sagas of a store are blocked.

The log has two kinds of records about blocked sagas. A defect in a step's code is
recorded in the saga's own stream. If a program lacks the declaration of a saga, or
can't fold its records, this is a fact about the program and not about the saga. So it
is recorded as a notice on the attention stream. The notice is valid until the saga's
stream grows, or until a coordinator acquires the lease under which the saga is driven.
If that coordinator can't drive the saga either, it appends a new notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from eventbraid.errors import EventbraidError, EventDecodeError, UnknownEventType
from eventbraid.event import decode_event
from eventbraid.lease._events import PREFIX
from eventbraid.saga._text import shortened
from eventbraid.saga.definition._declaration import recorded_declaration
from eventbraid.saga.machine._events import (
    ATTENTION_STREAM,
    ATTENTION_TYPE,
    SagaEvent,
    SagaNeedsAttention,
)
from eventbraid.saga.machine._fold import fold
from eventbraid.saga.running._shard_mapping import lease_of, shard_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from eventbraid.saga.machine._events import DefectRecorded
    from eventbraid.store import EventStore, RecordedEvent

_MAXIMUM_REASON = 500
_ACQUIRED_TYPE = "lease.acquired"


def read_blocked(
    store: EventStore, unfinished: Collection[str], defective: Collection[str]
) -> dict[str, str]:
    """Return the blocked sagas: for each id the reason.

    Args:
        store: The store.
        unfinished: The ids of the sagas that aren't at rest: neither ended nor stuck.
        defective: The ids of the unfinished sagas in whose streams a defect is
            recorded.
    """
    reasons: dict[str, str] = {}
    acquired: dict[str, int] = {}
    for saga_id, (position, reason) in _last_notices(store, unfinished).items():
        if not _is_outdated(store, saga_id, position, acquired):
            reasons[saga_id] = shortened(reason, _MAXIMUM_REASON)
    for saga_id in defective:
        defect = None if saga_id in reasons else _recorded_defect(store, saga_id)
        if defect is not None:
            text = f"{defect.where} of step {defect.step!r} raised {defect.code}"
            whole = f"{text}: {defect.message}" if defect.message else text
            reasons[saga_id] = shortened(whole, _MAXIMUM_REASON)
    return reasons


def _last_notices(
    store: EventStore, wanted: Collection[str]
) -> dict[str, tuple[int, str]]:
    """Return the position and the reason of the last notice of each saga."""
    found: dict[str, tuple[int, str]] = {}
    if not wanted:
        return found
    for recorded in store.read_stream(ATTENTION_STREAM):
        notice = _notice_in(recorded)
        if notice is not None and notice.saga_id in wanted:
            found[notice.saga_id] = recorded.position, notice.reason
    return found


def _notice_in(recorded: RecordedEvent) -> SagaNeedsAttention | None:
    """Return the notice in a record; None if it is a different record."""
    if recorded.type != ATTENTION_TYPE:
        return None
    try:
        return cast("SagaNeedsAttention", decode_event(recorded))
    except (EventDecodeError, UnknownEventType):
        return None


def _is_outdated(
    store: EventStore, saga_id: str, position: int, acquired: dict[str, int]
) -> bool:
    """Return whether a notice at a position is no longer valid.

    Args:
        store: The store.
        saga_id: The saga's id.
        position: The position of the notice.
        acquired: A cache of the positions at which leases were last acquired.
    """
    if any(r.position > position for r in _newest(store, saga_id, 1)):
        return True
    shard = shard_of(saga_id)
    leases = [lease_of(shard)]
    first = next(iter(store.read_stream(saga_id, limit=1)), None)
    needed = None if first is None else recorded_declaration(first)
    if needed is not None:
        leases.append(lease_of(shard, needed))
    for lease in leases:
        if lease not in acquired:
            acquired[lease] = _last_acquired(store, lease)
        if acquired[lease] > position:
            return True
    return False


def _last_acquired(store: EventStore, lease: str) -> int:
    """Return the position at which a lease was last acquired; 0 if it never was."""
    # A release never follows a release, so the acquisition is one of the last two
    # records.
    for recorded in _newest(store, PREFIX + lease, 2):
        if recorded.type == _ACQUIRED_TYPE:
            return recorded.position
    return 0


def _newest(store: EventStore, stream: str, limit: int) -> list[RecordedEvent]:
    return [*store.read_stream(stream, backward=True, limit=limit)]


def _recorded_defect(store: EventStore, saga_id: str) -> DefectRecorded | None:
    """Return the defect that blocks a saga; None if the saga has continued since."""
    try:
        history = [
            cast("SagaEvent", decode_event(r)) for r in store.read_stream(saga_id)
        ]
        return fold(saga_id, history).blocked
    except EventbraidError:
        # If a saga's stream can't be folded, its notice is on the attention stream.
        return None
