"""Tests of commands, and of what others build on Eventbraid's contracts.

The contract suites need pytest; everything else works under any test framework.
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
from eventbraid.testing._scenario import Given, Outcome, given

if TYPE_CHECKING:
    from eventbraid.testing._contract import (
        SnapshotUnderTest,
        StoreBackend,
        StoreContract,
        StoreUnderTest,
        SubscriptionUnderTest,
    )

__all__ = [
    "AsyncFaultyStore",
    "Conflict",
    "Delay",
    "Failure",
    "Fault",
    "FaultyStore",
    "Given",
    "ImpureCommand",
    "ManualClock",
    "Outcome",
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
    "given",
    "on",
]

_CONTRACT = frozenset(
    {
        "SnapshotUnderTest",
        "StoreBackend",
        "StoreContract",
        "StoreUnderTest",
        "SubscriptionUnderTest",
    }
)

if not TYPE_CHECKING:
    # A type checker that saw `__getattr__` would accept every name.
    def __getattr__(name: str) -> object:
        """Load the contract suites at their first use, because they need pytest."""
        if name not in _CONTRACT:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}._contract"), name)
        globals()[name] = found
        return found
