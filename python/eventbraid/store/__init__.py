"""The store: append to streams, read them, follow the log."""

from __future__ import annotations

from eventbraid._native import (
    Appended,
    NewEvent,
    RecordedEvent,
    StreamsSnapshot,
    uuid7,
)
from eventbraid._typed_stream import TypedStream
from eventbraid.store._async_open import open_async
from eventbraid.store._async_protocol import AsyncStore
from eventbraid.store._async_store import AsyncEventStore
from eventbraid.store._category import CategoryStreams
from eventbraid.store._coordination import Coordination, Heartbeat
from eventbraid.store._expectation import ANY, EXISTS, NO_STREAM, Expectation
from eventbraid.store._open import open  # noqa: A004
from eventbraid.store._open_options import StoreMode
from eventbraid.store._protocol import Store
from eventbraid.store._reads import ReadsBeforeAppend
from eventbraid.store._report import StoreSession, StoreStats, VerifyReport
from eventbraid.store._reservation import StreamReservation, StreamReservations
from eventbraid.store._subscription import AsyncSubscription, Subscription
from eventbraid.store._sync_store import EventStore
from eventbraid.store._typed_subscription import (
    AsyncTypedSubscription,
    TypedSubscription,
)

__all__ = [
    "ANY",
    "EXISTS",
    "NO_STREAM",
    "Appended",
    "AsyncEventStore",
    "AsyncStore",
    "AsyncSubscription",
    "AsyncTypedSubscription",
    "CategoryStreams",
    "Coordination",
    "EventStore",
    "Expectation",
    "Heartbeat",
    "NewEvent",
    "ReadsBeforeAppend",
    "RecordedEvent",
    "Store",
    "StoreMode",
    "StoreSession",
    "StoreStats",
    "StreamReservation",
    "StreamReservations",
    "StreamsSnapshot",
    "Subscription",
    "TypedStream",
    "TypedSubscription",
    "VerifyReport",
    "open",
    "open_async",
    "uuid7",
]
