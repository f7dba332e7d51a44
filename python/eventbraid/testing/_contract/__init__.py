"""The contract of a store: every rule that a backend promises, as tests."""

from __future__ import annotations

from eventbraid.testing._contract.backend import (
    SnapshotUnderTest,
    StoreBackend,
    StoreUnderTest,
    SubscriptionUnderTest,
)
from eventbraid.testing._contract.suite import StoreContract

__all__ = [
    "SnapshotUnderTest",
    "StoreBackend",
    "StoreContract",
    "StoreUnderTest",
    "SubscriptionUnderTest",
]
