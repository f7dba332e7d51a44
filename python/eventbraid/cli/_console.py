"""Where a command prints: a terminal, or a file that has no width of its own."""

from __future__ import annotations

from rich.console import Console

_FILE_WIDTH = 120


def console() -> Console:
    """Make the console for a command's output."""
    made = Console(highlight=False, soft_wrap=True)
    if made.is_terminal:
        return made
    return Console(highlight=False, soft_wrap=True, width=_FILE_WIDTH)
