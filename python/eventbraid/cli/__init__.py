"""The command line: `eventbraid demo`, `eventbraid saga`, `eventbraid bench`."""

from __future__ import annotations

from eventbraid.cli._main import main, run

__all__ = ["main", "run"]
