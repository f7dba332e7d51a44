"""The command line: read, append to and verify a store; the demo; the benchmark."""

from __future__ import annotations

from eventbraid.cli._start import main, run

__all__ = ["main", "run"]
