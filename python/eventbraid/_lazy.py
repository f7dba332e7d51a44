"""Lazy loading of the public names: a layer is imported when one of its names is used.

`import eventbraid` loads the errors, the domain values and the events; a program that
only appends never loads the sagas, and one that opens no store never loads asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from eventbraid.event._registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

# In the order of their imports: a layer imports only layers that precede it here, so
# the search for a name loads hardly more than the name needs.
LAYERS = ("errors", "domain", "event", "store", "command", "lease", "saga")

# These layers register event types of their own, which must be decodable, and must be
# refused to other classes, before the layer has been used for the first time.
_EVENT_TYPES = {"lease.": "eventbraid.lease", "saga.": "eventbraid.saga"}

# Former names, which programs may still use for now.
_FORMER = {
    "AsyncRole": "AsyncLease",
    "Done": "StepCompleted",
    "Ended": "SagaResult",
    "Kind": "StepKind",
    "Local": "LocalStep",
    "Node": "SagaStep",
    "Outcome": "SagaOutcome",
    "Status": "SagaStatus",
    "Unknown": "StepInDoubt",
    "local": "local_step",
    "value": "value_object",
    "Role": "Lease",
    "RoleBusy": "LeaseHeld",
    "RoleLost": "LeaseLost",
    "SagaParked": "SagaBlocked",
    "StoreMember": "StoreSession",
    "Verified": "VerifyReport",
    "stream": "stream",
    "streams": "streams",
}

# Names that were exported here and now have one path, in their layer.
_NO_LONGER_AT_THE_TOP = frozenset(
    {
        "CompensationOrder",
        "ConflictedStream",
        "CoordinatorClosed",
        "CorruptStore",
        "DEFECTS",
        "DeadlineExceeded",
        "DiscoveryLimit",
        "EventDecodeError",
        "Expectation",
        "GraphMismatch",
        "IdempotencyMismatch",
        "IncompatibleFormat",
        "InvalidArgument",
        "InvalidEventType",
        "InvalidSaga",
        "InvalidStreamId",
        "InvalidTransition",
        "LeaseLost",
        "LimitExceeded",
        "LocalStep",
        "NotAStore",
        "RetriesExhausted",
        "SagaBlocked",
        "SagaEntry",
        "SagaExists",
        "SagaNotFound",
        "SagaProgress",
        "SagaResult",
        "SagaStatus",
        "SagaStep",
        "SagaSummary",
        "SagaTimeline",
        "SharingUnsupported",
        "StepFailure",
        "StorageFull",
        "StoreClosed",
        "StoreDetached",
        "StoreMode",
        "StorePoisoned",
        "StoreSession",
        "StoreStats",
        "StoreUnavailable",
        "StreamCondition",
        "StreamDeleted",
        "StreamsSnapshot",
        "UndeclaredStream",
        "UnknownEventType",
        "VerifyReport",
        "Writable",
        "Writables",
        "read_timeline",
        "uuid7",
    }
)


def lazy_names(
    package: dict[str, object], names: Collection[str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`, which load its layers on demand.

    Args:
        package: The namespace of the package. A name is stored there when it has been
            loaded, so that only its first use calls `__getattr__`.
        names: The public names that the layers define.
    """
    prefix = package["__name__"]
    public = frozenset(names)
    known = public | set(_FORMER.values()) | _NO_LONGER_AT_THE_TOP

    def load(name: str) -> object:
        if name in LAYERS:
            # `eventbraid.saga` works after `import eventbraid`, as if it were loaded.
            return import_module(f"{prefix}.{name}")
        name = _FORMER.get(name, name)
        if name in known:
            for layer in LAYERS:
                module = import_module(f"{prefix}.{layer}")
                if hasattr(module, name):
                    found: object = getattr(module, name)
                    if name in public:
                        package[name] = found
                    return found
        raise AttributeError(f"module {prefix!r} has no attribute {name!r}")

    def list_names() -> list[str]:
        return sorted({*package, *LAYERS, *public})

    return load, list_names


for _types, _module in _EVENT_TYPES.items():
    default_registry.defer(_types, _module)
