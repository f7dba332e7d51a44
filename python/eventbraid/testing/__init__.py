"""Tests for what others build on Eventbraid's contracts; they run under pytest."""

from __future__ import annotations

from eventbraid.testing import _pytest as _pytest
from eventbraid.testing._contract import (
    SnapshotUnderTest,
    StoreBackend,
    StoreContract,
    StoreUnderTest,
    SubscriptionUnderTest,
)

__all__ = [
    "SnapshotUnderTest",
    "StoreBackend",
    "StoreContract",
    "StoreUnderTest",
    "SubscriptionUnderTest",
]
