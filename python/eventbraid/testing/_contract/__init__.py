"""The contract of a store: every rule that a backend promises, as tests."""

from __future__ import annotations

# First of all: it makes pytest explain the asserts of the modules below.
from eventbraid.testing import _pytest as _pytest
from eventbraid.testing._contract.backend import (
    CategoryUnderTest,
    SnapshotUnderTest,
    StoreBackend,
    StoreUnderTest,
    SubscriptionUnderTest,
)
from eventbraid.testing._contract.suite import StoreContract

__all__ = [
    "CategoryUnderTest",
    "SnapshotUnderTest",
    "StoreBackend",
    "StoreContract",
    "StoreUnderTest",
    "SubscriptionUnderTest",
]
