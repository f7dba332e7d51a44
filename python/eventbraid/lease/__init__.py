"""Leases: exclusive rights among the sessions that share a store."""

from __future__ import annotations

from eventbraid.lease._async_lease import AsyncLease
from eventbraid.lease._lease import Lease

__all__ = ["AsyncLease", "Lease"]
