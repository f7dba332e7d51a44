"""The console of a command's output: a terminal, or a file without a width."""

from __future__ import annotations

from typing import NoReturn

import rich.console

_FILE_WIDTH = 160


class Console(rich.console.Console):
    """A console that leaves a broken pipe to the command line.

    Rich would exit with 1; `eventbraid` reports it with an exit code of its own.
    """

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error that the command line turns into its exit code."""
        raise BrokenPipeError


def console() -> Console:
    """Build the console for a command's output."""
    made = Console(highlight=False, soft_wrap=True)
    if made.is_terminal:
        return made
    return Console(highlight=False, soft_wrap=True, width=_FILE_WIDTH)
