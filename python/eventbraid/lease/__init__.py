"""Leases: exclusive rights among the sessions that share a store."""

from __future__ import annotations

from eventbraid.lease._lease import AsyncLease, Lease

__all__ = ["AsyncLease", "Lease"]
