"""The start of the command line: check that its extra is installed, then run it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXTRA = ("click", "rich")
# `Exit.USAGE`, which can't be imported without the extra.
_USAGE = 2


def main() -> NoReturn:
    """Run the command line and exit the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The arguments after the name of the command.
    """
    # Both at the start: a command imports rich only when it prints, which may be late.
    for package in _EXTRA:
        try:
            import_module(package)
        except ModuleNotFoundError as missing:
            if missing.name != package:
                raise
            print(
                f"eventbraid: the command line needs {package}, which is not "
                "installed; install it with: pip install 'eventbraid[cli]'",
                file=sys.stderr,
            )
            return _USAGE
    from eventbraid.cli._main import run as run_command

    return run_command(arguments)
