"""The exceptions that Eventbraid raises; `EventbraidError` is the base of them all.

A message contains the operation that failed, the stream or file, and the remedy. The
attributes of an error contain the same facts for programs. An error can be pickled and
copied, so a program can send it to another process without losing these facts.

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
    ConflictedCategory,
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
    FoldError,
    RetriesExhausted,
    UndeclaredStream,
)
from eventbraid.errors._domain import InvalidValue
from eventbraid.errors._event import (
    EventDecodeError,
    EventError,
    InvalidEventType,
    UnknownCodec,
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
    "ConflictedCategory",
    "ConflictedStream",
    "CoordinatorClosed",
    "CorruptStore",
    "DeadlineExceeded",
    "DiscoveryLimit",
    "EventDecodeError",
    "EventError",
    "EventbraidError",
    "FoldError",
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
    "UnknownCodec",
    "UnknownEventType",
    "VersionConflict",
]


for _name in __all__:
    # Tracebacks, pickles and the documentation name the public path of a class, which
    # stays the same when the class moves to another file.
    globals()[_name].__module__ = __name__
