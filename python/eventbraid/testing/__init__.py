"""Tests of commands, and of what others build on Eventbraid's contracts.

The contract suites need pytest, and `events_of` needs hypothesis; everything else works
under any test framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from eventbraid.testing._async_faulty_store import AsyncFaultyStore
from eventbraid.testing._clock import ManualClock, SequentialIds
from eventbraid.testing._faults import (
    Conflict,
    Delay,
    Failure,
    Fault,
    StoreCall,
    UnknownOutcome,
)
from eventbraid.testing._faulty_store import FaultyStore
from eventbraid.testing._history import StreamEvents, on
from eventbraid.testing._purity import ImpureCommand, check_purity
from eventbraid.testing._recording_hooks import RecordedExecution, RecordingHooks
from eventbraid.testing._saga_lab import SagaLab
from eventbraid.testing._scenario import Given, Outcome, given

if TYPE_CHECKING:
    from eventbraid.testing._contract import (
        CategoryUnderTest,
        SnapshotUnderTest,
        StoreBackend,
        StoreContract,
        StoreUnderTest,
        SubscriptionUnderTest,
    )
    from eventbraid.testing._strategies import events_of

__all__ = [
    "AsyncFaultyStore",
    "CategoryUnderTest",
    "Conflict",
    "Delay",
    "Failure",
    "Fault",
    "FaultyStore",
    "Given",
    "ImpureCommand",
    "ManualClock",
    "Outcome",
    "RecordedExecution",
    "RecordingHooks",
    "SagaLab",
    "SequentialIds",
    "SnapshotUnderTest",
    "StoreBackend",
    "StoreCall",
    "StoreContract",
    "StoreUnderTest",
    "StreamEvents",
    "SubscriptionUnderTest",
    "UnknownOutcome",
    "check_purity",
    "events_of",
    "given",
    "on",
]

# Loaded at their first use, because they need pytest or hypothesis.
_LOADED_LATER = {
    "CategoryUnderTest": "_contract",
    "SnapshotUnderTest": "_contract",
    "StoreBackend": "_contract",
    "StoreContract": "_contract",
    "StoreUnderTest": "_contract",
    "SubscriptionUnderTest": "_contract",
    "events_of": "_strategies",
}

if not TYPE_CHECKING:
    # A type checker that saw `__getattr__` would accept every name.
    def __getattr__(name: str) -> object:
        """Load the names that need another package."""
        if name not in _LOADED_LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_LOADED_LATER[name]}")
        found = getattr(module, name)
        globals()[name] = found
        return found
