"""The command line: look into a store, append to it, check it; demo and bench."""

from __future__ import annotations

from eventbraid.cli._main import main, run

__all__ = ["main", "run"]
