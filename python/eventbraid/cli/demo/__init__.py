"""`eventbraid demo`: fulfil real orders on a durable log; the only user of examples."""

from __future__ import annotations

from eventbraid.cli.demo._command import demo

__all__ = ["demo"]
