"""`eventbraid bench`: measure the store on this machine, beside baselines."""

from __future__ import annotations

from eventbraid.cli.bench._command import bench

__all__ = ["bench"]
