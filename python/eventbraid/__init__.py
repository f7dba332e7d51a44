"""The embedded event store whose commands span many streams, with durable sagas.

PYTEST_DONT_REWRITE: with this word, pytest doesn't warn if the library is imported
before pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid._lazy import lazy_names

# Never on demand: the package `eventbraid.event` has the name of this decorator. Its
# import sets the attribute `event` of `eventbraid` to the package, and this line, which
# runs after that, sets it to the decorator for good.
from eventbraid.event import event

if TYPE_CHECKING:
    from eventbraid import command as command
    from eventbraid import domain as domain
    from eventbraid import errors as errors
    from eventbraid import lease as lease
    from eventbraid import saga as saga
    from eventbraid import store as store
    from eventbraid.command import (
        AsyncExecutor,
        Command,
        Declared,
        DeclaredMany,
        Executed,
        Executor,
        RetryPolicy,
        StatefulCommand,
        Stream,
        Write,
        require,
    )
    from eventbraid.domain import (
        Id,
        Int,
        Text,
        value_object,
    )
    from eventbraid.errors import (
        AppendError,
        CommandError,
        CommandRejected,
        EventbraidError,
        EventError,
        InvalidValue,
        LeaseError,
        LeaseHeld,
        OutcomeUnknown,
        SagaError,
        StoreBusy,
        StoreError,
        VersionConflict,
    )
    from eventbraid.event import (
        Recorded,
        decode_event,
        encode_event,
        event_type,
        new_event,
        register_event,
    )
    from eventbraid.lease import (
        AsyncLease,
        Lease,
    )
    from eventbraid.saga import (
        Saga,
        SagaCoordinator,
        SagaHandle,
        SagaOutcome,
        Step,
        StepCompleted,
        StepContext,
        StepInDoubt,
        StepKind,
        local_step,
        step,
    )
    from eventbraid.store import (
        ANY,
        EXISTS,
        NO_STREAM,
        Appended,
        AsyncEventStore,
        AsyncSubscription,
        EventStore,
        NewEvent,
        RecordedEvent,
        Subscription,
        open,  # noqa: A004 - met as `eventbraid.open`
        open_async,
    )


__all__ = [
    "ANY",
    "EXISTS",
    "NO_STREAM",
    "AppendError",
    "Appended",
    "AsyncEventStore",
    "AsyncExecutor",
    "AsyncLease",
    "AsyncSubscription",
    "Command",
    "CommandError",
    "CommandRejected",
    "Declared",
    "DeclaredMany",
    "EventError",
    "EventStore",
    "EventbraidError",
    "Executed",
    "Executor",
    "Id",
    "Int",
    "InvalidValue",
    "Lease",
    "LeaseError",
    "LeaseHeld",
    "NewEvent",
    "OutcomeUnknown",
    "Recorded",
    "RecordedEvent",
    "RetryPolicy",
    "Saga",
    "SagaCoordinator",
    "SagaError",
    "SagaHandle",
    "SagaOutcome",
    "StatefulCommand",
    "Step",
    "StepCompleted",
    "StepContext",
    "StepInDoubt",
    "StepKind",
    "StoreBusy",
    "StoreError",
    "Stream",
    "Subscription",
    "Text",
    "VersionConflict",
    "Write",
    "decode_event",
    "encode_event",
    "event",
    "event_type",
    "local_step",
    "new_event",
    "open",
    "open_async",
    "register_event",
    "require",
    "step",
    "value_object",
]

if not TYPE_CHECKING:
    # A type checker that saw `__getattr__` would accept every name.
    __getattr__, __dir__ = lazy_names(globals(), __all__)
