"""Every error that Eventbraid raises, under one root.

Each message says what happened, to which stream or file, and what to do about it.
Each error carries its facts as attributes and survives pickling and copying, so it
can cross a process boundary and still be handled by its facts.

Example:
    >>> import eventbraid as eb
    >>> with eb.open("memory:") as store:
    ...     try:
    ...         store.append([("account-a", "opened", b"{}")], expect={"account-a": 3})
    ...     except eb.VersionConflict as conflict:
    ...         print(conflict.failures[0].actual)
    0
"""

from __future__ import annotations

from eventbraid.errors._append import (
    AppendError,
    ConflictedStream,
    IdempotencyMismatch,
    OutcomeUnknown,
    StreamCondition,
    VersionConflict,
)
from eventbraid.errors._argument import InvalidArgument, LimitExceeded
from eventbraid.errors._base import EventbraidError
from eventbraid.errors._command import (
    CommandError,
    CommandRejected,
    DeadlineExceeded,
    DiscoveryLimit,
    RetriesExhausted,
    UndeclaredStream,
)
from eventbraid.errors._domain import InvalidValue
from eventbraid.errors._event import (
    EventDecodeError,
    EventError,
    InvalidEventType,
    UnknownEventType,
)
from eventbraid.errors._lease import LeaseError, LeaseHeld, LeaseLost
from eventbraid.errors._saga import (
    CoordinatorClosed,
    GraphMismatch,
    InvalidSaga,
    InvalidTransition,
    SagaBlocked,
    SagaError,
    SagaExists,
    SagaNotFound,
)
from eventbraid.errors._store import (
    CorruptStore,
    IncompatibleFormat,
    InvalidStreamId,
    NotAStore,
    SharingUnsupported,
    StorageFull,
    StoreBusy,
    StoreClosed,
    StoreDetached,
    StoreError,
    StorePoisoned,
    StoreUnavailable,
    StoreUnusable,
    StreamDeleted,
)

__all__ = [
    "AppendError",
    "CommandError",
    "CommandRejected",
    "ConflictedStream",
    "CoordinatorClosed",
    "CorruptStore",
    "DeadlineExceeded",
    "DiscoveryLimit",
    "EventDecodeError",
    "EventError",
    "EventbraidError",
    "GraphMismatch",
    "IdempotencyMismatch",
    "IncompatibleFormat",
    "InvalidArgument",
    "InvalidEventType",
    "InvalidSaga",
    "InvalidStreamId",
    "InvalidTransition",
    "InvalidValue",
    "LeaseError",
    "LeaseHeld",
    "LeaseLost",
    "LimitExceeded",
    "NotAStore",
    "OutcomeUnknown",
    "RetriesExhausted",
    "SagaBlocked",
    "SagaError",
    "SagaExists",
    "SagaNotFound",
    "SharingUnsupported",
    "StorageFull",
    "StoreBusy",
    "StoreClosed",
    "StoreDetached",
    "StoreError",
    "StorePoisoned",
    "StoreUnavailable",
    "StoreUnusable",
    "StreamCondition",
    "StreamDeleted",
    "UndeclaredStream",
    "UnknownEventType",
    "VersionConflict",
]


for _name in __all__:
    # Tracebacks, pickles and the documentation name the public path of a class, which
    # stays the same when the class moves to another file.
    globals()[_name].__module__ = __name__
del _name
